"""Files of synthetic images, as varied as in the Kaggle data set: crop, frame, text, size, mode and format."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

__all__ = ["as_file", "crop_and_label", "generator", "to_bytes", "write_file"]

WIDEST_MARGIN = 40  # pixels around a head


def generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A random generator for one case and purpose, independent of all others."""
    return np.random.default_rng((seed, index, zlib.crc32(purpose.encode())))


def crop_and_label(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Crop the image near the head; add corner text, a white frame or white side bars to some."""
    left, upper, right, lower = image.point(lambda value: 255 * (value > 40)).getbbox() or (0, 0, *image.size)
    margins = rng.integers(0, WIDEST_MARGIN, 2)
    image = image.crop((left - margins[0], upper - margins[1], right + margins[0], lower + margins[1]))
    if rng.random() < 0.3:
        pen = ImageDraw.Draw(image)
        pen.text((4, 4), f"SE {rng.integers(1, 9)}", fill=255)
        pen.text((4, image.height - 18), f"IM {rng.integers(1, 99)}", fill=255)
        pen.text((image.width - 14, 4), "L", fill=255)
    border = int(rng.integers(5, 15))
    borders: dict[str, int | tuple[int, int]] = {"frame": border, "bars": (3 * border, 0), "none": 0}
    return ImageOps.expand(image, borders[str(rng.choice(list(borders), p=[0.15, 0.15, 0.7]))], fill=255)


def as_file(seed: int, index: int, image: Image.Image) -> tuple[bytes, str]:
    """Bytes and suffix of an image's file: size, mode, format and compression depend on the seed and its number."""
    rng = generator(seed, index, "file")
    width = int(rng.integers(150, 641))
    image = image.resize((width, round(width * image.height / image.width)), Image.Resampling.BICUBIC)
    label = int(generator(seed, 0, "oddities").integers(2))  # the label of the two unusual files
    if index == 2 + label:
        image.putalpha(image.point(lambda value: 255 * (value > 8)))
        return to_bytes(image.convert("RGBA"), "PNG"), ".png"
    if index == 4 + label:
        return to_bytes(image.quantize(64), "PNG"), ".jpg"
    suffix = str(rng.choice([".jpg", ".jpeg", ".JPG", ".png"], p=[0.5, 0.2, 0.15, 0.15]))
    image = image.convert(str(rng.choice(["L", "RGB"])))
    return to_bytes(image, "PNG" if suffix == ".png" else "JPEG", quality=int(rng.integers(60, 96))), suffix


def to_bytes(image: Image.Image, file_format: str, quality: int = 75) -> bytes:
    """Encode an image, as PNG or as JPEG of a quality."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, quality=quality)  # PNG ignores the quality
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically, and make the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
