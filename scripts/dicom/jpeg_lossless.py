"""Decode lossless JPEG with one component, as in DICOM files. pydicom's plugin for it has the GPL.

The length of the code at each bit is looked up for all bits at once; then the stream is followed from code to code.

Reference: ITU-T T.81, annexes B (marker segments), F.2.2 (Huffman decoding) and H (lossless mode).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["decode_lossless"]

START, END, FRAME, TABLES, SCAN, RESTARTS = 0xD8, 0xD9, 0xC3, 0xC4, 0xDA, 0xDD  # markers
OTHER_FRAMES = {*range(0xC0, 0xD0)} - {FRAME, TABLES, 0xC8, 0xCC}
RESTART_MARKS = range(0xD0, 0xD8)
CHUNK = 2**17  # bytes that are looked up at once
NO_CODE = 255  # bits: what is no code leads so far ahead
WORD, SHIFTS = 0xFFFF, np.arange(16, 8, -1, dtype=np.uint32)


class Table(NamedTuple):
    """A Huffman table: by the next 16 bits the code's length, the bits of the difference behind it, and both together.

    Each is uint8 (65536,); the length is 0 where no code begins so.
    """

    lengths: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray


@dataclass
class Header:
    """Values of the marker segments."""

    shape: tuple[int, int] = (0, 0)
    precision: int = 0
    tables: dict[int, Table] = field(default_factory=dict)
    rows_to_restart: int = 0  # 0: none
    predictor: int = 0


def decode_lossless(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Decode a picture.

    Args:
        data: a JPEG stream of process 14 (SOF3), Huffman coded.
        shape: (H, W) that it must have.

    Returns:
        (H, W), uint16.

    Raises:
        ValueError: when the stream is damaged or of another process; the message is the reason.
    """
    header, table, coded = _read_header(data)
    if header.shape != shape:
        raise ValueError("its JPEG stream has another size than its header")
    height, width = shape
    rows = header.rows_to_restart or height
    parts = list(_between_restarts(coded))
    if len(parts) < -(-height // rows):
        raise ValueError("its JPEG stream is cut short")
    middle = 1 << (header.precision - 1)
    found = [
        _undo_prediction(_differences(part, table, count * width).reshape(count, width), header.predictor, middle)
        for part, count in zip(parts, [min(rows, height - top) for top in range(0, height, rows)], strict=False)
    ]
    return (np.concatenate(found) & WORD).astype(np.uint16)


def _read_header(data: bytes) -> tuple[Header, Table, bytes]:
    """Header, the scan's Huffman table, and the coded bytes."""
    header, position = Header(), 2
    if data[:2] != bytes([0xFF, START]):
        raise ValueError("its pixel data are no JPEG stream")
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        segment = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in OTHER_FRAMES:
            raise ValueError("its JPEG stream is not lossless")
        if marker == FRAME:
            _read_frame(segment, header)
        elif marker == TABLES:
            header.tables |= _tables(segment)
        elif marker == RESTARTS and len(segment) >= 2:
            interval = int.from_bytes(segment[:2], "big")
            if header.shape[1] == 0 or interval % header.shape[1]:
                raise ValueError("its JPEG stream restarts within a row")
            header.rows_to_restart = interval // header.shape[1]
        elif marker == SCAN:
            return header, _begin_scan(segment, header), data[position:]
    raise ValueError("its JPEG stream is cut short")


def _read_frame(segment: bytes, header: Header) -> None:
    if len(segment) < 9 or segment[5] != 1 or not 2 <= segment[0] <= 16:
        raise ValueError("its JPEG stream is of several components, or impossible")
    header.precision = segment[0]
    header.shape = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")


def _begin_scan(segment: bytes, header: Header) -> Table:
    if len(segment) < 6 or segment[0] != 1 or not 1 <= segment[3] <= 7 or header.precision == 0:
        raise ValueError("the scan of its JPEG stream is impossible")
    if segment[5] & 15:
        raise ValueError("its JPEG stream is not lossless")  # a point transform drops bits
    header.predictor, table = segment[3], header.tables.get(segment[2] >> 4)
    if table is None:
        raise ValueError("the scan of its JPEG stream is impossible")
    return table


def _tables(segment: bytes) -> dict[int, Table]:
    """Huffman tables by number."""
    found, position = {}, 0
    while position + 17 <= len(segment):
        number, counts = segment[position] & 15, segment[position + 1 : position + 17]
        symbols = segment[position + 17 : position + 17 + sum(counts)]
        position += 17 + sum(counts)
        share = sum(count << (16 - length) for length, count in enumerate(counts, 1))  # of all that 16 bits can be
        if len(symbols) < sum(counts) or share > 1 << 16 or max(symbols, default=0) > 16:
            raise ValueError("a Huffman table of its JPEG stream is impossible")
        lengths, sizes = np.zeros(1 << 16, np.uint8), np.zeros(1 << 16, np.uint8)
        begin, following = 0, iter(symbols)
        for length in (length for length, count in enumerate(counts, 1) for _ in range(count)):
            behind = begin + (1 << (16 - length))
            lengths[begin:behind], sizes[begin:behind] = length, next(following)
            begin = behind
        steps = np.where(lengths == 0, NO_CODE, lengths + np.where(sizes == 16, 0, sizes)).astype(np.uint8)
        found[number] = Table(lengths, sizes, steps)
    return found


def _between_restarts(coded: bytes) -> Iterator[bytes]:
    """Coded bytes of each part, without the zeros that are stuffed behind 0xFF."""
    begin = position = 0
    while (position := coded.find(b"\xff", position)) >= 0 and position + 1 < len(coded):
        marker = coded[position + 1]
        if marker in RESTART_MARKS or marker == END:
            yield coded[begin:position].replace(b"\xff\x00", b"\xff")
            begin = position + 2
            if marker == END:
                return
        position += 1 if marker == 0xFF else 2
    yield coded[begin:].replace(b"\xff\x00", b"\xff")


def _differences(coded: bytes, table: Table, count: int) -> np.ndarray:
    """The first so many differences (count,), int64."""
    padded = np.frombuffer(coded + bytes(8), np.uint8).astype(np.uint32)
    words = (padded[:-3] << 24) | (padded[1:-2] << 16) | (padded[2:-1] << 8) | padded[3:]  # 32 bits from every byte on
    starts, position, end = array("q"), 0, 8 * len(coded)
    for begin in range(0, len(coded), CHUNK):
        part = words[begin : min(begin + CHUNK, len(coded)), None]
        steps = table.steps[(part >> SHIFTS) & WORD].tobytes()
        position -= 8 * begin
        chain: list[int] = []
        left = count - len(starts)
        while position < len(steps) and len(chain) < left:
            chain.append(position)
            position += steps[position]
        starts.extend(start + 8 * begin for start in chain)
        position += 8 * begin
        if len(starts) == count:
            break
    if len(starts) < count or position > end:
        raise ValueError("its JPEG stream is damaged or cut short")
    at = np.frombuffer(starts, np.int64)
    codes = _bits_at(words, at)
    if (table.lengths[codes] == 0).any():
        raise ValueError("its JPEG stream is damaged or cut short")
    size = table.sizes[codes].astype(np.int64)
    more = np.where(size == 16, 0, size)
    value = _bits_at(words, at + table.lengths[codes]) >> (16 - more)
    negative = value < (1 << more) >> 1
    return np.where(size == 16, 32768, np.where(negative, value - (1 << more) + 1, value))


def _bits_at(words: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """16 bits from each position on, int64."""
    at = np.minimum(positions >> 3, len(words) - 1)
    return (words[at].astype(np.int64) >> (16 - (positions & 7))) & WORD


def _undo_prediction(differences: np.ndarray, predictor: int, middle: int) -> np.ndarray:
    """Values (H, W), modulo 2**16, of differences to what the samples to the left and above predict.

    The first row is predicted by the left, the first column by what is above, and the first value by the middle.
    """
    differences[0, 0] += middle
    if predictor == 4:  # left + above - the one between
        return np.cumsum(np.cumsum(differences, axis=0), axis=1)
    if predictor == 1:
        differences[:, 0] = np.cumsum(differences[:, 0])
        return np.cumsum(differences, axis=1)
    differences[0] = np.cumsum(differences[0])
    if predictor == 2:
        return np.cumsum(differences, axis=0)
    found = [[value & WORD for value in differences[0].tolist()]]
    for row in differences[1:].tolist():
        above, values = found[-1], [(found[-1][0] + row[0]) & WORD]
        for column in range(1, len(row)):
            a, b, c = values[-1], above[column], above[column - 1]
            guess = (c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[(3, 5, 6, 7).index(predictor)]
            values.append((guess + row[column]) & WORD)
        found.append(values)
    return np.array(found, dtype=np.int64)
