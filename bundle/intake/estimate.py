"""How much work a scan is, from the first bytes of its file, before it is decoded.

Only numbers are read, from a few kilobytes and in Python: nothing here trusts them but the order of the queue.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from typing import NamedTuple

from ..core import file_types
from .memory_file import MemoryFile

__all__ = ["Estimate", "estimate"]

READ_BYTES = 64 * 1024
FRAMES = re.compile(rb"\x28\x00\x08\x00IS..(\d{1,6})", re.DOTALL)  # DICOM's NumberOfFrames, little endian
SCAN = b"\xff\xda"  # a JPEG marker
COMPRESSED = b"1.2.840.10008.1.2.4."  # DICOM's transfer syntaxes of JPEG and its relatives
FRAME_HEADERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
MANY_VOXELS = 4 * 1024 * 1024  # take a second to decode
MANY_BYTES = 4 * 1024 * 1024


class Estimate(NamedTuple):
    """Work on a scan.

    Args:
        slices: that pass through the network, at most.
        is_large: whether decoding takes long.
    """

    slices: int
    is_large: bool


def estimate(content: bytes | MemoryFile) -> Estimate:
    """Estimate the work on a file; of an unreadable one the least, as it is refused soon."""
    size = content.size if isinstance(content, MemoryFile) else len(content)
    head = content.head(READ_BYTES) if isinstance(content, MemoryFile) else content[:READ_BYTES]
    try:
        shape = _shape(head)
    except (ValueError, IndexError, struct.error, zlib.error):
        shape = []
    sides = [side for side in shape if side > 1] or [1]
    passes = 1
    if size <= MANY_BYTES and file_types.file_type_of(head) == "jpeg":  # a progressive one has several passes
        passes = (content.content() if isinstance(content, MemoryFile) else content).count(SCAN)
    work = math.prod(sides) * max(1, passes)
    return Estimate(max(sides) if len(sides) > 2 else 1, work > MANY_VOXELS or size > MANY_BYTES)


def _shape(head: bytes) -> list[int]:
    """Sides of the declared array, as far as they are known."""
    kind = file_types.file_type_of(head)
    if kind == "gzip":
        head = zlib.decompressobj(31).decompress(head, READ_BYTES)
        kind = file_types.file_type_of(head)
    if kind == "nifti":
        order = "<" if head[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"
        second = struct.unpack(f"{order}i", head[:4])[0] == 540
        rank, *sides = struct.unpack_from(f"{order}8q" if second else f"{order}8h", head, 16 if second else 40)
        return list(sides[: min(max(rank, 0), 3)])
    if kind in ("nrrd", "metaimage"):
        from ..core import text_headers  # needs numpy

        return list(text_headers.read_text_header(head, kind).shape)
    if kind == "jpeg":
        return _jpeg_shape(head)
    if kind == "png":
        return list(struct.unpack(">II", head[16:24]))
    if kind == "webp":
        return _webp_shape(head)
    if kind == "dicom" and COMPRESSED in head[:1024]:
        return [MANY_VOXELS + 1]  # some decoders are slow, and it is not told how much there is to decode
    if kind == "dicom":
        frames = FRAMES.search(head)
        return [2, 2, int(frames[1])] if frames else [1]
    return [1]


def _jpeg_shape(head: bytes) -> list[int]:
    """Height and width of a JPEG; of one without them among the first bytes, those of a large one."""
    position = 2
    while position + 9 <= len(head):
        mark, marker, length = struct.unpack_from(">BBH", head, position)
        if marker in FRAME_HEADERS:
            return list(struct.unpack_from(">HH", head, position + 5))
        if mark != 0xFF or marker == 0xDA:
            return [1]
        position += 2 + length
    return [MANY_VOXELS + 1]


def _webp_shape(head: bytes) -> list[int]:
    """Height and width of a WebP, of any of its three kinds."""
    kind = head[12:16]
    if kind == b"VP8X":
        return [1 + int.from_bytes(head[27:30], "little"), 1 + int.from_bytes(head[24:27], "little")]
    if kind == b"VP8L":
        packed = int.from_bytes(head[21:25], "little")
        return [1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF)]
    width, height = struct.unpack_from("<HH", head, 26)
    return [height & 0x3FFF, width & 0x3FFF]
