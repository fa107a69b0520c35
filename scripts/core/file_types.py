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
    "why_unsupported",
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
OTHERS = (  # formats that are brought and not read: mark, where it stands, remedy
    (b"PK\3\4", 0, "a zip archive; unpack it first"),
    (b"7z\xbc\xaf", 0, "a 7z archive; unpack it first"),
    (b"Rar!", 0, "a rar archive; unpack it first"),
    (b"ustar", 257, "a tar archive; unpack it first"),
    (b"GIF8", 0, "a GIF; save it as PNG"),
    (b"%PDF", 0, "a PDF; save its pictures as PNG"),
    (b"ftyp", 4, "a HEIC or AVIF picture, or a film; save a picture as PNG or JPEG"),
    (b"jP  ", 4, "a JPEG 2000 picture; save it as PNG"),
    (b"\x93NUMPY", 0, "a numpy array; save it as NIfTI, or give the array to Predictor"),
    (b"\x89HDF", 0, "an HDF5 or MINC file; convert it to NIfTI"),
    (b"\0\0\0\1", 0, "an MGH file; convert it to NIfTI, such as by mri_convert"),
    (b"\x08\0", 0, "DICOM without its mark; write it anew with a header, such as by dcmconv"),
    (b"\x02\0\0\0", 0, "DICOM without its mark; write it anew with a header, such as by dcmconv"),
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


def why_unsupported(head: bytes) -> str:
    r"""Why a file of no supported type is not read, by its first bytes, with the remedy for formats that are known.

    >>> why_unsupported(b"PK\3\4...")
    'a zip archive; unpack it first'
    """
    return next((reason for mark, place, reason in OTHERS if head.startswith(mark, place)), NOT_A_SCAN)


def type_of_file(path: str | Path) -> FileType | None:
    """The type of a file, see `file_type_of`.

    Raises:
        OSError: when it cannot be opened.
    """
    with Path(path).open("rb") as file:
        return file_type_of(file.read(HEAD_BYTES))
