"""PNG and JPEG in every variant, and the picture formats that are not let in."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from .cases import OK, Case, Make, constant, encoded, head, png_of

ORIENTATION = 0x0112  # EXIF tag
CUT = ("truncated", "damaged", "header", "unsupported")


def cases() -> Iterator[Case]:
    """All picture cases."""
    yield from shapes()
    yield from png()
    yield from jpeg()
    yield from other_formats()
    yield from declared()


def shapes() -> Iterator[Case]:
    """Sizes at and beyond the limits, width before height."""
    for width, height in ((1, 1), (1, 64), (64, 1), (2, 2), (15, 15), (31, 33), (4096, 16), (16, 4096), (4096, 4096)):
        data = constant(encoded(np.resize(head(), (height, width))))
        yield Case(f"{width}x{height}", "shapes", data, (OK,))
    for width, height in ((4097, 16), (16, 4097), (4097, 4097), (20000, 2)):
        data = constant(encoded(np.zeros((height, width), np.uint8)))
        yield Case(f"{width}x{height}", "shapes", data, ("too_large",))


def png() -> Iterator[Case]:
    """Every color type and depth."""
    gray = Image.fromarray(head())
    modes = {mode: gray.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")}
    modes["16 bit"] = Image.fromarray(head().astype(np.uint16) * 257)
    modes["quantized"] = gray.quantize(16)
    for name, image in modes.items():
        yield Case(name, "png", constant(encoded(image)), (OK,))
    for bits in (1, 2, 4):
        yield Case(f"palette of {bits} bits", "png", constant(encoded(gray.quantize(2**bits), bits=bits)), (OK,))
    yield Case("transparent palette entry", "png", constant(encoded(gray.quantize(8), transparency=0)), (OK,))
    yield Case("transparent gray", "png", constant(encoded(gray, transparency=0)), (OK,))
    for bits in (2, 4):
        lines = b"".join(b"\0" + bytes(range(16 * bits // 8)) for _ in range(16))
        yield Case(f"gray of {bits} bits", "png", constant(png_of(16, 16, bits, 0, lines)), (OK,))
    yield Case("16 bit RGB", "png", constant(png_of(8, 8, 16, 2, (b"\0" + bytes(48)) * 8)), (OK,))
    yield Case("text chunks", "png", constant(encoded(gray, pnginfo=_text())), (OK,))
    data = encoded(gray)
    yield Case("without its end", "png", constant(data[:-12]), ("truncated",))
    yield Case("wrong checksum", "png", constant(data[:30] + bytes([data[30] ^ 1]) + data[31:]), ("damaged",))
    yield Case("color type 5", "png", constant(png_of(8, 8, 8, 5)), ("header",))
    yield Case("size 0", "png", constant(png_of(0, 8)), ("header",))
    yield Case("no lines", "png", constant(png_of(64, 64)), ("damaged",))
    yield Case("chunk beyond the end", "png", constant(data[:33] + b"\x7f\xff\xff\xff" + data[37:]), ("truncated",))


def _text() -> object:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Comment", "x" * 10000, zip=True)
    return info


def jpeg() -> Iterator[Case]:
    """Orientations, colors, and ends that come too early."""
    gray = Image.fromarray(head())
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        yield Case(f"orientation {orientation}", "jpeg", constant(encoded(gray, "JPEG", exif=exif)), (OK,))
    data = encoded(gray, "JPEG", quality=90)
    for part in range(8):
        codes = ("truncated",) if part else ("unsupported",)
        yield Case(f"{part} of 8", "jpeg", constant(data[: len(data) * part // 8]), codes)
    yield Case("progressive", "jpeg", constant(encoded(gray, "JPEG", progressive=True)), (OK,))
    yield Case("color", "jpeg", constant(encoded(gray.convert("RGB"), "JPEG")), (OK,))
    yield Case("junk behind the end", "jpeg", lambda rng: data + rng.bytes(500), (OK,))
    yield Case("CMYK", "jpeg", constant(encoded(gray.convert("CMYK"), "JPEG")), ("unsupported",))
    frame = data.index(b"\xff\xc0")
    twelve = data[: frame + 4] + b"\x0c" + data[frame + 5 :]
    yield Case("12 bits", "jpeg", constant(twelve), ("unsupported",))
    yield Case("height 0", "jpeg", constant(data[: frame + 5] + bytes(2) + data[frame + 7 :]), ("header",))
    yield Case("no frame", "jpeg", constant(data[:frame] + data[data.index(b"\xff\xda") :]), ("truncated",))
    yield Case("segment beyond the end", "jpeg", constant(b"\xff\xd8\xff\xe0\xff\xff" + bytes(200)), ("truncated",))


def other_formats() -> Iterator[Case]:
    """What Pillow would open, and nobody asked for."""
    gray = Image.fromarray(head())
    more = {"save_all": True, "append_images": [Image.fromarray(255 - head())]}
    for name in ("GIF", "PNG", "WEBP", "TIFF"):
        yield Case(f"{name} of two frames", "other formats", constant(encoded(gray, name, **more)), ("unsupported",))
    yield Case("MPO of two frames", "other formats", constant(encoded(gray, "MPO", **more)), (OK,))
    for name in ("WEBP", "TIFF", "BMP"):
        data = encoded(gray, name)
        yield Case(name, "other formats", constant(data), (OK,))
        for part in range(1, 8):
            yield Case(f"{part} of 8 of a {name}", "other formats", constant(data[: len(data) * part // 8]), CUT)
        yield Case(f"{name} and noise", "other formats", _noisy(data), (*CUT, OK))
    for name in ("GIF", "ICO", "PPM", "TGA", "EPS", "PDF", "JPEG2000"):
        yield Case(name, "other formats", constant(encoded(gray, name)), ("unsupported",))
    texts = {
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "FITS": b"SIMPLE  =                    T".ljust(2880),
        "PSD": b"8BPS\0\1" + bytes(200),
        "HEIC": b"\0\0\0\x18ftypheic" + bytes(200),
    }
    for name, data in texts.items():
        yield Case(name, "other formats", constant(data), ("unsupported",))


def _noisy(data: bytes) -> Make:
    """The first bytes of a picture, and noise."""
    return lambda rng: data[:64] + rng.bytes(2000)


def declared() -> Iterator[Case]:
    """Pictures of a few bytes that declare billions of pixels."""
    for side in (13000, 60000, 2**31 - 1):
        yield Case(f"png {side}", "declared size", constant(png_of(side, side)), ("declared_size",))
    data = encoded(head(), "JPEG")
    frame = data.index(b"\xff\xc0") + 5
    for side in (20000, 65535):
        huge = data[:frame] + struct.pack(">HH", side, side) + data[frame + 4 :]
        yield Case(f"jpeg {side}", "declared size", constant(huge), ("declared_size",))
    bmp = encoded(head(), "BMP")
    for side in (60_000, 2**31 - 1):
        huge = bmp[:18] + struct.pack("<ii", side, side) + bmp[26:]
        yield Case(f"bmp {side}", "declared size", constant(huge), ("declared_size", "too_large", "header"))
    tiff = encoded(head(), "TIFF")
    entry = tiff.index(struct.pack("<HH", 256, 4)) + 8 if struct.pack("<HH", 256, 4) in tiff else None
    if entry is not None:
        huge = tiff[:entry] + struct.pack("<I", 2**31 - 1) + tiff[entry + 4 :]
        yield Case("tiff", "declared size", constant(huge), ("declared_size", "too_large", "header"))
