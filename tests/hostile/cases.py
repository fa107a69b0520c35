"""What a case is, and the good scans that the bad ones are made of."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

OK = "ok"  # stands among the codes for: this is predicted

Make = Callable[[np.random.Generator], bytes]


@dataclass(frozen=True)
class Case:
    """One file that a stranger may send.

    Args:
        name: unique, readable.
        family: class of cases.
        make: its bytes, of a generator that is its own.
        expected: codes of `bundle.intake.STATUS` that are right predictions, or `OK`.
        filename: how the stranger calls it; nobody may care.
        seed: of the corpus.
    """

    name: str
    family: str
    make: Make
    expected: tuple[str, ...]
    filename: str = "scan"
    seed: int = 0

    def bytes(self) -> bytes:
        """The content: the same for the same seed."""
        return self.make(np.random.default_rng((self.seed, zlib.crc32(f"{self.family}/{self.name}".encode()))))

    def write(self, folder: Path) -> Path:
        """Write the content under a harmless name."""
        path = folder / f"{self.family}__{self.name}".replace(" ", "_").replace("/", "-")
        path.write_bytes(self.bytes())
        return path

    def __str__(self) -> str:
        return f"{self.family}/{self.name}"


def constant(data: bytes) -> Make:
    """Content that does not depend on chance."""
    return lambda _: data


def head(height: int = 160, width: int = 144) -> np.ndarray:
    """A gray head on black with one bright spot, uint8 (height, width); it has no symmetry."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    y, x = (rows - height / 2) / (0.42 * height), (columns - width / 2) / (0.4 * width)
    gray = np.where(x**2 + y**2 < 1, 90 + 30 * np.sin(5 * x + 2) * np.cos(4 * y), 0)
    gray[(x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.04] = 210
    return gray.astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, file_format: str = "PNG", **options: object) -> bytes:
    """A picture's file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def volume(dtype: str = "int16", slices: int = 4) -> np.ndarray:
    """The head in every slice, a little darker in each."""
    return np.stack([head(64, 56) * (1 - 0.1 * i) for i in range(slices)], axis=-1).astype(dtype)


def nifti(array: np.ndarray | None = None) -> bytes:
    """A NIfTI-1 file of two millimeters a voxel."""
    return bytes(nib.Nifti1Image(volume() if array is None else array, np.diag([-2.0, -2.0, 3.0, 1.0])).to_bytes())


def zipped(data: bytes) -> bytes:
    """The same bytes for the same content."""
    return gzip.compress(data, mtime=0)


def patched(data: bytes, offset: int, layout: str, *values: float) -> bytes:
    """A file with one field replaced."""
    return data[:offset] + struct.pack(layout, *values) + data[offset + struct.calcsize(layout) :]


def png_of(width: int, height: int, depth: int = 8, color: int = 0, pixels: bytes = b"") -> bytes:
    """A PNG that declares a size and holds these lines, whatever their length."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">II5B", width, height, depth, color, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
