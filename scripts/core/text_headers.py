"""The text headers of NRRD and MetaImage files: their grid and the place of their voxels.

Reference: Teem, Definition of NRRD File Format; ITK, MetaIO/Documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .file_types import FileType

__all__ = ["TextHeader", "read_text_header"]

HEADER_BYTES = 65536  # a longer header is none
NUMBERS = {"char": "i1", "short": "i2", "int": "i4", "longlong": "i8", "float": "f4", "double": "f8"}
SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
LPS = (-1, -1, 1)  # any other space is taken for left-posterior-superior, as ITK takes it


class TextHeader(NamedTuple):
    """What a header declares.

    Args:
        shape: length of both or all three axes, the fastest first.
        dtype: of a voxel, with its byte order.
        affine: (4, 4), from indices to RAS+ millimeters.
        is_oriented: whether the file has the directions of the axes.
        is_compressed: whether the voxels are, by zlib.
        offset: bytes before the voxels.
        beside: name of the file that holds the voxels; None if they follow the header.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    affine: np.ndarray
    is_oriented: bool
    is_compressed: bool
    offset: int
    beside: str | None


def read_text_header(data: bytes, kind: FileType) -> TextHeader:
    """Read the header of a file of kind "nrrd" or "metaimage", given its first bytes or all of them.

    Raises:
        ValueError: when a field is missing, impossible, or of a kind that is not read; the message says which.
    """
    return _nrrd(data[:HEADER_BYTES]) if kind == "nrrd" else _metaimage(data[:HEADER_BYTES])


def _nrrd(data: bytes) -> TextHeader:
    end = re.search(rb"\r?\n\r?\n", data)
    fields = {}
    for line in data[: end.start() if end else len(data)].decode("latin-1").splitlines()[1:]:
        name, separator, value = line.partition(":")
        if separator and not line.startswith("#"):
            fields[name.strip().lower()] = value.removeprefix("=").strip()
    shape = _sides(fields, "sizes", "dimension")
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise ValueError(f"its encoding '{encoding[:16]}' is not read")
    if any(fields.get(name, "0") != "0" for name in ("line skip", "byte skip", "lineskip", "byteskip")):
        raise ValueError("bytes to skip are not read")
    vectors = re.findall(r"\(([^)]*)\)", fields.get("space directions", ""))
    if len(vectors) == len(shape):  # in a plane of two numbers each
        columns = np.array([_floats(f"{vector} 0", 3) for vector in vectors]).T
        origin = _floats(f"{fields.get('space origin', '0,0,0').strip('()')} 0", 3)
    else:
        columns, origin = np.eye(3)[:, : len(shape)] * _floats(fields.get("spacings", "1 1 1"), len(shape)), np.zeros(3)
    signs = SIGNS.get(fields.get("space", "").lower().removesuffix("-time"), LPS)
    return TextHeader(
        shape,
        _dtype(_nrrd_number(fields.get("type", "").lower()), fields.get("endian", "little").lower() == "big"),
        _affine(columns, origin, signs),
        len(vectors) == len(shape) and "space" in fields,
        encoding != "raw",
        end.end() if end else len(data),
        fields.get("data file") or fields.get("datafile"),
    )


def _nrrd_number(name: str) -> str | None:
    """Kind and bytes of a number by any of the names that the format allows; None for another.

    >>> [_nrrd_number(name) for name in ("unsigned short", "ushort", "uint16_t", "signed long long int", "block")]
    ['u2', 'u2', 'u2', 'i8', None]
    """
    if bits := re.fullmatch(r"(u?)int(8|16|32|64)(_t)?", name):
        return f"{'u' if bits[1] else 'i'}{int(bits[2]) // 8}"
    words = [word for word in name.split() if word not in ("signed", "unsigned")]
    short = "".join(words[:-1] if len(words) > 1 and words[-1] == "int" else words)
    found = NUMBERS.get(short) or NUMBERS.get(short.removeprefix("u"))
    return found.replace("i", "u") if found and name.startswith("u") else found


def _metaimage(data: bytes) -> TextHeader:
    fields, offset = {}, 0
    for line in data.splitlines(keepends=True):
        name, _, value = (part.strip() for part in line.decode("latin-1").partition("="))
        fields[name], offset = value, offset + len(line)
        if name == "ElementDataFile" or len(fields) > 99:
            break
    shape = _sides(fields, "DimSize", "NDims")
    number = fields.get("ElementType", "").removeprefix("MET_").lower().replace("long_long", "longlong")
    found = NUMBERS.get(number) or NUMBERS.get(number.removeprefix("u"))
    if "ElementDataFile" not in fields or fields.get("BinaryData", "True").lower() != "true":
        raise ValueError("its MetaImage header is impossible, or of text")
    if fields.get("ElementNumberOfChannels", "1") != "1" or fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise ValueError("several channels, or bytes to skip, are not read")
    matrix = next((fields[name] for name in ("TransformMatrix", "Rotation", "Orientation") if name in fields), None)
    origin = next((fields[name] for name in ("Offset", "Origin", "Position") if name in fields), "0 0 0")
    spacing = _floats(fields.get("ElementSpacing", fields.get("ElementSize", "1 1 1")), len(shape))
    axes = np.eye(len(shape)) if matrix is None else _floats(matrix, len(shape) ** 2).reshape(len(shape), -1).T
    columns, place = np.zeros((3, len(shape))), np.zeros(3)
    columns[: len(shape)], place[: len(shape)] = axes * spacing, _floats(origin, len(shape))
    big = any(fields.get(name, "").lower() == "true" for name in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"))
    return TextHeader(
        shape,
        _dtype(found.replace("i", "u") if found and number.startswith("u") else found, big),
        _affine(columns, place, LPS),
        matrix is not None,
        fields.get("CompressedData", "False").lower() == "true",
        offset,
        None if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"],
    )


def _sides(fields: Mapping[str, str], sizes: str, rank: str) -> tuple[int, ...]:
    """Lengths of the axes, as many as the header says."""
    words = fields.get(sizes, "").split()
    if not words or fields.get(rank) != str(len(words)) or not all(w.isdecimal() and 0 < int(w) < 2**40 for w in words):
        raise ValueError("its header tells no possible size")
    if len(words) not in (2, 3):
        raise ValueError(f"has {len(words)} dimensions, 2 or 3 are expected")
    return tuple(int(word) for word in words)


def _dtype(number: str | None, is_big: bool) -> np.dtype[np.generic]:
    if number is None:
        raise ValueError("its number type is unknown")
    return np.dtype(f"{'>' if is_big else '<'}{number}")


def _floats(text: str, count: int) -> np.ndarray:
    """The first so many numbers of a text, all finite."""
    try:
        numbers = np.array([float(word) for word in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) < count or not np.isfinite(numbers).all():
        raise ValueError("its header tells no possible place")
    return numbers[:count]


def _affine(columns: np.ndarray, origin: np.ndarray, signs: Sequence[int]) -> np.ndarray:
    """Matrix (4, 4) of the directions (3, 2 or 3) of the axes; of two the third is perpendicular, a millimeter long."""
    if columns.shape[1] == 2:
        normal = np.cross(columns[:, 0], columns[:, 1])
        columns = np.column_stack([columns, normal / max(float(np.linalg.norm(normal)), 1e-12)])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    return np.diag([*signs, 1.0]) @ affine
