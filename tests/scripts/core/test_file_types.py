from __future__ import annotations

import io
import tarfile
import zipfile

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from scripts.core.file_types import HEAD_BYTES, NOT_A_SCAN, file_type_of, why_unsupported


def zip_archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("IM0001", b"DICM")
    return buffer.getvalue()


def tar_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("IM0001"))
    return buffer.getvalue()


def saved(picture_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, picture_format)
    return buffer.getvalue()


def array_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (zip_archive(), "unpack it"),
        (tar_archive(), "unpack it"),
        (saved("GIF"), "save it as PNG"),
        (saved("JPEG2000"), "save it as PNG"),
        (saved("AVIF"), "save a picture as PNG or JPEG"),
        (array_file(), "Predictor"),
        (nib.MGHImage(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes(), "mri_convert"),
        (b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100", "dcmconv"),
        (b"\x02\0\0\0UL\x04\0", "dcmconv"),
        (b"a note", NOT_A_SCAN),
    ],
)
def test_formats_that_are_not_read_are_refused_with_their_remedy(content: bytes, remedy: str) -> None:
    assert file_type_of(content[:HEAD_BYTES]) is None
    assert remedy in why_unsupported(content[:HEAD_BYTES])
