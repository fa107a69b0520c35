"""Pixels as scanners write them: padding, overlays, signs, compression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.dicoms import compressed, dicom, head, mr_dataset, raw_element, written
from hostile.lossless import encode_lossless
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless

from scripts.dicom.reading import read_dicom

GRAY = head(40, 36).astype(np.uint16) + 20


def read(path: Path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    return read_dicom(path).voxels[..., 0]


@pytest.mark.parametrize(
    "told",
    [
        {"PixelPaddingValue": 4000},
        {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095},
        {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 3900},
    ],
)
def test_bright_padding_is_made_dark(tmp_path: Path, told: dict[str, int]) -> None:
    padded = GRAY.copy()
    padded[:8, :8] = 4000
    found = read(tmp_path / "a", dicom(padded, **told))
    assert found[:8, :8].max() <= np.percentile(GRAY, 1) and np.array_equal(found[8:], GRAY[8:])
    plain = read(tmp_path / "b", dicom(padded))
    assert plain.max() == 4000


@pytest.mark.parametrize("value", [-2000, 63536])
def test_padding_of_signed_values_may_be_written_as_unsigned(tmp_path: Path, value: int) -> None:
    padded = GRAY.astype(np.int16)
    padded[:8, :8] = -2000
    inverse = -1 - padded  # padding becomes the brightest
    dataset = mr_dataset(inverse, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=1999)
    found = read(tmp_path / "a", written(dataset))
    assert np.array_equal(found, padded)  # darker than all else: it stays
    data = written(mr_dataset(padded)) + b""
    dataset = mr_dataset(padded, PhotometricInterpretation="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
    found = read(tmp_path / "b", written(dataset))
    assert found[:8, :8].max() <= np.percentile(-1 - GRAY.astype(int), 1) and data


def test_dark_padding_stays_as_it_is(tmp_path: Path) -> None:
    assert np.array_equal(read(tmp_path / "a", dicom(GRAY, PixelPaddingValue=int(GRAY.min()))), GRAY)


def test_a_file_of_nothing_but_padding_stays_as_it_is(tmp_path: Path) -> None:
    told = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535}
    assert np.array_equal(read(tmp_path / "a", dicom(GRAY, **told)), GRAY)


def test_overlays_are_left_out(tmp_path: Path) -> None:
    """Of a group of their own, and in the unused bits of the pixels, as older scanners wrote them."""
    overlay = raw_element(0x6000, 0x3000, b"\xff" * 180, b"OW")
    assert np.array_equal(read(tmp_path / "a", dicom(GRAY) + overlay), GRAY)
    drawn = GRAY.copy()
    drawn[10:14, 5:30] |= 1 << 12
    found = read(tmp_path / "b", dicom(drawn, BitsStored=12, HighBit=11))
    assert np.array_equal(found, GRAY)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_jpeg_gives_back_signed_and_unsigned_frames(tmp_path: Path, syntax: Any, signed: bool) -> None:
    frames = np.stack([GRAY, GRAY + 9, GRAY + 30]).astype(np.int16 if signed else np.uint16) - (90 if signed else 0)
    dataset = mr_dataset(frames, SpacingBetweenSlices=3.0, BitsStored=12, HighBit=11)
    streams = [encode_lossless((frame & 0xFFF).astype(np.uint16), 1, 12) for frame in frames]
    dataset.PixelData = encapsulate(streams)
    dataset["PixelData"].VR = "OB"
    (tmp_path / "a").write_bytes(written(dataset, syntax))
    assert np.array_equal(read_dicom(tmp_path / "a").voxels, np.moveaxis(frames, 0, -1))


def test_jpeg_ls_of_16_bits_is_read_exactly_or_nearly(tmp_path: Path) -> None:
    import jpeg_ls

    gray = head(64, 56).astype(np.uint16) * 16
    exact, near = (bytes(jpeg_ls.encode_array(gray, lossy_error=error)) for error in (0, 3))
    assert np.array_equal(read(tmp_path / "a", compressed(exact, JPEGLSLossless, 16)), gray)
    assert np.abs(read(tmp_path / "b", compressed(near, JPEGLSNearLossless, 16)) - gray).max() <= 3
