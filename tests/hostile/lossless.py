"""Write lossless JPEG as scanners' software does: process 14, one component, every predictor."""

from __future__ import annotations

import struct

import numpy as np

__all__ = ["encode_lossless"]

BITS = 5  # of every code


def encode_lossless(values: np.ndarray, predictor: int = 1, precision: int = 16, rows_to_restart: int = 0) -> bytes:
    """Encode (H, W) of unsigned integers below 2**precision.

    Args:
        values: see above.
        predictor: 1 to 7.
        precision: bits of a value.
        rows_to_restart: restart markers after so many rows; 0 for none.
    """
    height, width = values.shape
    table = bytes([0, 0, 0, 0, 0, 17, *([0] * 11), *range(17)])
    out = b"\xff\xd8" + _segment(0xC3, struct.pack(">BHHBBBB", precision, height, width, 1, 1, 0x11, 0))
    out += _segment(0xC4, table)
    if rows_to_restart:
        out += _segment(0xDD, struct.pack(">H", rows_to_restart * width))
    out += _segment(0xDA, bytes([1, 1, 0, predictor, 0, 0]))
    rows = rows_to_restart or height
    for number, top in enumerate(range(0, height, rows)):
        if number:
            out += bytes([0xFF, 0xD0 + (number - 1) % 8])
        out += _coded(values[top : top + rows].astype(np.int64), predictor, 1 << (precision - 1))
    return out + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _coded(values: np.ndarray, predictor: int, middle: int) -> bytes:
    bits = []
    for r, row in enumerate(values.tolist()):
        for c, value in enumerate(row):
            difference = (value - _guess(values, r, c, predictor, middle)) & 0xFFFF
            difference -= 0x10000 if difference > 0x8000 else 0
            size = abs(difference).bit_length()
            bits.append(f"{size:0{BITS}b}")
            if 0 < size < 16:
                bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")


def _guess(values: np.ndarray, r: int, c: int, predictor: int, middle: int) -> int:
    if r == 0 or c == 0:
        return int(values[r, c - 1] if c else values[r - 1, c] if r else middle)
    a, b, between = int(values[r, c - 1]), int(values[r - 1, c]), int(values[r - 1, c - 1])
    sums = (a, b, between, a + b - between, a + ((b - between) >> 1), b + ((a - between) >> 1), (a + b) >> 1)
    return sums[predictor - 1]
