"""NIfTI: cut, lying, enormous, infinite."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import nibabel as nib
import numpy as np

from .cases import OK, Case, constant, nifti, patched, volume, zipped

NAN, INF = float("nan"), float("inf")
EXTENDED = 352 + 32  # voxels behind a header extension of 32 bytes


def cases() -> Iterator[Case]:
    """All NIfTI cases."""
    yield from truncated()
    yield from headers()
    yield from declared()
    yield from deep()
    yield from bombs()
    yield from values()
    yield from ranks()


def truncated() -> Iterator[Case]:
    """A compressed volume that ends early: at every twentieth of its length, and at each of its last eight bytes."""
    noise = np.random.default_rng(0).integers(0, 4000, (24, 24, 4)).astype(np.int16)
    data = zipped(nifti(noise))
    for part in range(20):
        code = "truncated" if part else "unsupported"
        yield Case(f"{part} of 20", "truncated", constant(data[: len(data) * part // 20]), (code,))
    for missing in range(1, 9):
        yield Case(f"{missing} bytes missing", "truncated", constant(data[:-missing]), ("truncated",))


def headers() -> Iterator[Case]:
    """One field of the header is impossible."""
    good = nifti()

    def case(name: str, offset: int, layout: str, *values: float, codes: tuple[str, ...] = ("header",)) -> Case:
        return Case(name, "header", lambda _: patched(good, offset, layout, *values), codes)

    for axis in (1, 2, 3):
        for length in (-1, -32768, 0):
            yield case(f"axis {axis} of length {length}", 40 + 2 * axis, "<h", length)
        yield case(f"axis {axis} of length 32767", 40 + 2 * axis, "<h", 32767, codes=("declared_size",))
    for rank in (-1, 0, 8, 9, 255, 32767):
        yield case(f"rank {rank}", 40, "<h", rank)
    for code in (0, 1, 3, 12345, -1):
        yield case(f"number type {code}", 70, "<h", code, codes=("header",))
    for value in (NAN, INF):
        yield case(f"slope {value}", 112, "<f", value)
        yield case(f"pixel size {value}", 80, "<f", value)
    for value in (NAN, INF, -INF):
        yield case(f"intercept {value}", 116, "<f", value)
    for value in (NAN, INF, 1e9, -1.0, 0.0, 100.0):
        yield case(f"voxel offset {value}", 108, "<f", value)
    for value in (NAN, INF, 0.0):
        yield case(f"affine of {value}", 280, "<12f", *[value] * 12)
    quaternion = patched(good, 252, "<h", 1)
    yield Case("quaternion of nan", "header", lambda _: patched(quaternion, 256, "<3f", NAN, NAN, NAN), ("header",))
    for magic in (b"ni1\0", b"xxxx", b"n+2\0"):
        yield case(f"magic {magic[:3].decode()}", 344, "<4B", *magic)
    yield case("size in the other byte order", 0, ">i", 348)
    yield case("axes in the other byte order", 40, ">8h", 3, 64, 56, 4, 1, 1, 1, 1)
    for length in (8, 0, -16, 0x7FFFFFFF):
        extension = struct.pack("<4B2i24x", 1, 0, 0, 0, length, 6)
        data = patched(good, 108, "<f", EXTENDED)[:348] + extension + good[352:]
        yield Case(f"extension of length {length}", "header", constant(data), ("header", "damaged", OK))


def declared() -> Iterator[Case]:
    """Four kilobytes that declare gigabytes."""
    small = nifti(volume(slices=1))[:4096]
    for sides in ((32767, 32767, 32767), (4096, 4096, 4096), (2048, 2048, 64), (4096, 4096, 5)):
        data = patched(patched(small, 40, "<4h", 3, *sides), 70, "<2h", 64, 64)
        name = "x".join(map(str, sides))
        yield Case(f"nii {name}", "declared size", constant(data), ("declared_size",))
        yield Case(f"nii.gz {name}", "declared size", constant(zipped(data)), ("declared_size", "too_large"))


def deep() -> Iterator[Case]:
    """Few bytes of many thin slices, each of which would become a whole plane, whichever axis they lie along."""
    for axis in range(3):
        sides = [2000 if number == axis else 8 for number in range(3)]
        order = [0, 1, 2, 3]
        order[axis], order[2] = 2, axis
        affine = np.eye(4)[order]
        image = nib.Nifti1Image(np.ones(sides, np.uint8), affine)
        yield Case(f"2000 slices along axis {axis}", "many slices", constant(image.to_bytes()), ("too_large",))


def bombs() -> Iterator[Case]:
    """Small files that inflate to large ones."""
    start = patched(nifti(volume()), 40, "<4h", 3, 512, 512, 200)

    def gigabyte(_: np.random.Generator) -> bytes:
        return zipped(start + bytes(1024**3))

    def members(_: np.random.Generator) -> bytes:
        return zipped(start) + zipped(bytes(16 * 1024**2)) * 40

    def below_the_ratio(rng: np.random.Generator) -> bytes:
        return zipped(start) + zipped(rng.bytes(2**20)) + zipped(bytes(280 * 1024**2))

    yield Case("a gigabyte of nothing", "inflate", gigabyte, ("inflate",))
    yield Case("forty members", "inflate", members, ("inflate",))
    yield Case("noise before nothing", "inflate", below_the_ratio, ("inflate",))
    yield Case("after a whole volume", "inflate", lambda _: zipped(nifti()) + zipped(bytes(2**29)), ("inflate",))
    yield Case("gzip in gzip", "inflate", lambda _: zipped(zipped(nifti())), ("unsupported",))
    yield Case("gzip in gzip in gzip", "inflate", lambda _: zipped(zipped(zipped(bytes(2**24)))), ("unsupported",))
    yield Case("compressed zeros", "inflate", lambda _: zipped(bytes(2**24)), ("unsupported",))
    yield Case("junk behind the stream", "inflate", lambda rng: zipped(nifti()) + rng.bytes(99), ("damaged",))


def values() -> Iterator[Case]:
    """Voxels that are no numbers, and voxels that say nothing."""
    for value in (NAN, INF, -INF, 1e38):
        one, all_of_them = volume("float32"), np.full((32, 32, 3), value, dtype=np.float32)
        one[20, 20, 2] = value
        yield Case(f"one voxel {value}", "nonfinite", constant(nifti(one)), ("nonfinite",))
        yield Case(f"all voxels {value}", "nonfinite", constant(nifti(all_of_them)), ("nonfinite",))
    wide = volume("float64")
    wide[5, 5, 0] = 1e300
    yield Case("beyond float32", "nonfinite", constant(nifti(wide)), ("nonfinite",))
    yield Case("scaled to infinity", "nonfinite", constant(patched(nifti(), 112, "<f", 3e38)), ("nonfinite",))
    yield Case("subnormal", "nonfinite", constant(nifti(volume("float32") * np.float32(1e-42))), (OK,))
    yield Case("half of them nan", "nonfinite", constant(nifti(np.where(volume() > 50, NAN, 1.0))), ("nonfinite",))
    for value in (0, 7, 255):
        flat = np.full((64, 64, 3), value, dtype=np.uint8)
        yield Case(f"nothing but {value}", "no contrast", constant(nifti(flat)), (OK,))
    spot, levels = np.zeros((64, 64, 3), np.uint8), volume() > 50
    spot[30, 30, 1] = 255
    yield Case("one bright voxel", "no contrast", constant(nifti(spot)), (OK,))
    yield Case("two levels", "no contrast", constant(nifti(levels.astype(np.uint8))), (OK,))
    yield Case(
        "two levels of noise", "no contrast", lambda rng: nifti(rng.integers(0, 2, (64, 64, 3)).astype("u1")), (OK,)
    )


def ranks() -> Iterator[Case]:
    """Arrays that are no scan."""
    rank = ("rank",)
    for shape in ((60,), (8, 8, 4, 3), (8, 8, 4, 2, 2), (8, 8, 4, 1, 3), (8, 8, 2, 2, 2, 2), (4, 4, 2, 2, 1, 1, 2)):
        yield Case("x".join(map(str, shape)), "rank", constant(nifti(np.ones(shape, np.int16))), rank)
    colors = np.zeros((8, 8, 4), dtype=[(name, "u1") for name in "RGB"])
    with_alpha = np.zeros((8, 8, 4), dtype=[(name, "u1") for name in "RGBA"])
    for name, array in (("RGB", colors), ("RGBA", with_alpha)):
        yield Case(name, "rank", constant(nifti(array)), rank)
    for kind in ("complex64", "complex128"):
        yield Case(kind, "rank", constant(nifti(volume().astype(kind))), rank)
    second = bytes(nib.Nifti2Image(volume("float32"), np.eye(4)).to_bytes())
    yield Case("NIfTI-2 of rank 9", "rank", constant(patched(second, 16, "<q", 9)), ("header", "rank"))
