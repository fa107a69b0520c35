"""The work on a scan is told by its header."""

from __future__ import annotations

import gzip
import io
import struct
import time
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from bundle.intake import Estimate, Intake, IntakeError, MemoryFile, estimate
from bundle.intake.headers import SCAN
from tests.hostile.dicoms import dicom


def nifti(shape: Sequence[int], order: str = "<", declared: bool = False) -> bytes:
    """A NIfTI of zeros, or only a header that declares it."""
    header = bytearray(352)
    header[:4] = struct.pack(f"{order}i", 348)
    header[40:56] = struct.pack(f"{order}8h", len(shape), *shape, *[1] * (7 - len(shape)))
    header[70:74] = struct.pack(f"{order}hh", 2, 8)
    header[108:112], header[344:348] = struct.pack(f"{order}f", 352), b"n+1\0"
    return bytes(header) + bytes(0 if declared else int(np.prod(shape)))


def webp(side: int, lossless: bool) -> bytes:
    """An even WebP."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), dtype=np.uint8)).save(buffer, "WEBP", lossless=lossless)
    return buffer.getvalue()


def jpeg(side: int, passes: int = 1) -> bytes:
    """The headers of a JPEG, and marks of its passes."""
    start = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(9)
    return start + b"\xff\xc2\0\x0b\x08" + struct.pack(">HH", side, side) + b"\1\1\x11\0" + passes * b"\xff\xda\0\0"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (nifti((64, 64, 20)), (64, False)),
        (nifti((64, 64, 512), ">"), (512, False)),
        (nifti((64, 64, 1)), (1, False)),
        (nifti((512, 512, 40), declared=True), (512, True)),
        (nifti((-5, 64, 9), declared=True), (1, False)),
        (gzip.compress(nifti((64, 64, 512)), mtime=0), (512, False)),
        (gzip.compress(nifti((64, 64, 512)), mtime=0)[:30], (1, False)),
        (dicom(np.ones((4, 4), dtype=np.uint16)), (1, False)),
        (dicom(np.ones((9, 4, 4), dtype=np.uint16), NumberOfFrames=9), (9, False)),
        (b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 5 6\nencoding: raw\n\n", (6, False)),
        (b"NRRD0004\nwhatever", (1, False)),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 4096, 4096), (1, True)),
        (b"\xff\xd8\xff" + bytes(5 * 2**20), (1, True)),
        (webp(4096, lossless=True), (1, True)),
        (webp(4096, lossless=False), (1, True)),
        (webp(512, lossless=True), (1, False)),
        (webp(512, lossless=False), (1, False)),
        (dicom(np.ones((4, 4), dtype=np.uint16))[:132] + b"UI\x18\x001.2.840.10008.1.2.4.90", (1, True)),
        (jpeg(1024), (1, False)),
        (jpeg(4096), (1, True)),
        (jpeg(1024, passes=9), (1, True)),
        (b"", (1, False)),
    ],
)
def test_slices_and_size_are_told_by_the_first_bytes(content: bytes, found: tuple[int, bool]) -> None:
    assert estimate(content) == estimate(MemoryFile(content)) == Estimate(*found)


def test_a_bomb_is_not_inflated() -> None:
    bomb, began = gzip.compress(nifti((64, 64, 512)) + bytes(2**26)), time.process_time()
    assert estimate(bomb).slices == 512 and time.process_time() - began < 0.1


def test_a_progressive_jpeg_of_many_passes_is_refused_at_once() -> None:
    """Each pass over the image takes the decoder some 50 ms, and a hundred bytes of the file."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2048, 2048), dtype=np.uint8)).save(buffer, "JPEG", progressive=True)
    plain = buffer.getvalue()
    last = plain.rindex(SCAN)
    many = plain[:-2] + plain[last:-2] * 500 + plain[-2:]
    with Intake() as intake:
        assert intake.read(plain).shape == (1, 2048, 2048, 1)
        began = time.monotonic()
        with pytest.raises(IntakeError, match="passes of a progressive JPEG, 64 are allowed"):
            intake.read(many)
        assert time.monotonic() - began < 5
