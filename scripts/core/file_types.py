"""File types, recognized by their first bytes and never by the file's name."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = [
    "FORMATS",
    "GZIP_MAGIC",
    "HEAD_BYTES",
    "NOT_A_SCAN",
    "FileFormat",
    "FileType",
    "file_type_of",
    "type_of_file",
]

FileType = Literal["png", "jpeg", "webp", "bmp", "tiff", "gzip", "nifti", "dicom", "nrrd", "metaimage"]

HEAD_BYTES = 544  # a NIfTI-2 header with its extension flag, the longest header
NOT_A_SCAN = "not a PNG, JPEG, TIFF, WebP, BMP, NIfTI, NRRD, MetaImage or DICOM file"

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class FileFormat:
    """A format that is recognized by fixed bytes.

    Args:
        name: of the kind of file.
        magic: the mark.
        offset: where it stands.
        pillow: Pillow's name of a format that it decodes.
    """

    name: FileType
    magic: bytes
    offset: int = 0
    pillow: str | None = None


FORMATS = (  # the first that fits is it
    FileFormat("dicom", b"DICM", offset=128),
    FileFormat("png", b"\x89PNG\r\n\x1a\n", pillow="PNG"),
    FileFormat("jpeg", b"\xff\xd8\xff", pillow="JPEG"),
    FileFormat("tiff", b"II*\0", pillow="TIFF"),
    FileFormat("tiff", b"MM\0*", pillow="TIFF"),
    FileFormat("webp", b"WEBP", offset=8, pillow="WEBP"),
    FileFormat("bmp", b"BM", pillow="BMP"),
    FileFormat("nrrd", b"NRRD000"),
    FileFormat("metaimage", b"ObjectType = Image"),
    FileFormat("gzip", GZIP_MAGIC),
)
NIFTI_SIZES = (348, 540)  # a NIfTI header begins with its own size, in either byte order


def file_type_of(head: bytes) -> FileType | None:
    r"""The type of a file by its first bytes, None for unsupported ones.

    The preamble before DICOM's mark is ignored, as the standard demands: it may be that of another file type.

    >>> file_type_of(b"\x89PNG\r\n\x1a\n..."), file_type_of(b"GIF89a")
    ('png', None)
    """
    for known in FORMATS:
        if head.startswith(known.magic, known.offset):
            return known.name
    sizes = {struct.unpack(order, head[:4])[0] for order in ("<i", ">i")} if len(head) >= 4 else set()
    return "nifti" if sizes & set(NIFTI_SIZES) else None


def type_of_file(path: str | Path) -> FileType | None:
    """The type of a file, see `file_type_of`.

    Raises:
        OSError: when it cannot be opened.
    """
    with Path(path).open("rb") as file:
        return file_type_of(file.read(HEAD_BYTES))
