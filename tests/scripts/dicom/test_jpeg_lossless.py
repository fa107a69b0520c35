"""Lossless JPEG gives back every value, by each predictor and precision; damaged streams are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hostile.cases import head
from hostile.lossless import encode_lossless

from scripts.dicom.jpeg_lossless import decode_lossless

HEAD = head(40, 36).astype(np.uint16)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_every_predictor_gives_back_every_value(predictor: int) -> None:
    noise = np.random.default_rng(predictor).integers(0, 2**16, (13, 9)).astype(np.uint16)
    for values in (HEAD, noise):
        assert np.array_equal(decode_lossless(encode_lossless(values, predictor), values.shape), values)


@pytest.mark.parametrize("precision", [8, 12, 16])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_every_precision_is_read_and_every_restart_followed(precision: int, rows: int) -> None:
    values = np.random.default_rng(rows).integers(0, 2**precision, (21, 10)).astype(np.uint16)
    assert np.array_equal(decode_lossless(encode_lossless(values, 1, precision, rows), (21, 10)), values)
    assert np.array_equal(decode_lossless(encode_lossless(values, 7, precision, rows), (21, 10)), values)


def test_the_largest_difference_is_read() -> None:
    values = np.array([[32768, 0], [32768, 65535]], np.uint16)
    assert np.array_equal(decode_lossless(encode_lossless(values), (2, 2)), values)


def test_a_long_stream_is_followed_over_all_its_parts() -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (400, 300)).astype(np.uint16)  # more than a million bits
    assert np.array_equal(decode_lossless(encode_lossless(values), values.shape), values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: data[:30], "cut short"),
        (lambda data: b"\x00" + data, "no JPEG stream"),
        (lambda data: data.replace(b"\xff\xc3", b"\xff\xc0", 1), "not lossless"),
        (lambda data: data.replace(b"\x01\x01\x00\x01\x00\x00", b"\x01\x01\x00\x09\x00\x00", 1), "impossible"),
        (lambda data: data.replace(b"\x01\x01\x00\x01\x00\x00", b"\x01\x01\x30\x01\x00\x00", 1), "impossible"),
        (lambda data: data.replace(b"\x01\x01\x00\x01\x00\x00", b"\x01\x01\x00\x01\x00\x01", 1), "not lossless"),
        (lambda data: data[:-400] + b"\xfe" * 398 + b"\xff\xd9", "damaged"),
    ],
)
def test_damaged_streams_are_refused(change: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_lossless(change(encode_lossless(HEAD)), HEAD.shape)  # type: ignore[operator]


def test_another_size_than_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="another size"):
        decode_lossless(encode_lossless(HEAD), (36, 40))
