"""The pixels of a DICOM file as numbers, decoded by pydicom's own code, by Pillow, or here.

Reference: DICOM PS3.3, C.7.6.3 (image pixel) and C.7.5.1 (pixel padding); PS3.5, 8.2 and A.4 (compression).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .headers import DicomError, why_no_scan
from .jpeg_lossless import decode_lossless

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Values", "blank_values", "require_picture", "stored_values"]

DICOMDIR = "1.2.840.10008.1.3.10"
# Transfer syntaxes and who decodes them: (pydicom 3, pydicom 2). GDCM is never used.
DECODERS = {
    "1.2.840.10008.1.2": ("", "numpy"),  # implicit little endian
    "1.2.840.10008.1.2.1": ("", "numpy"),  # explicit little endian
    "1.2.840.10008.1.2.2": ("", "numpy"),  # explicit big endian
    "1.2.840.10008.1.2.5": ("pydicom", "rle"),
    "1.2.840.10008.1.2.4.50": ("pillow", "pillow"),  # JPEG baseline
    "1.2.840.10008.1.2.4.51": ("pillow", "pillow"),  # JPEG extended
    "1.2.840.10008.1.2.4.57": ("here", "here"),  # JPEG lossless, any predictor
    "1.2.840.10008.1.2.4.70": ("here", "here"),  # JPEG lossless, predicted by the left
    "1.2.840.10008.1.2.4.80": ("pyjpegls", "jpeg_ls"),  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": ("pyjpegls", "jpeg_ls"),  # JPEG-LS
    "1.2.840.10008.1.2.4.90": ("pillow", "pillow"),  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": ("pillow", "pillow"),  # JPEG 2000
}
UNCOMPRESSED = tuple(syntax for syntax, names in DECODERS.items() if not names[0])


class Values(NamedTuple):
    """Stored values of a file, brighter where they are larger.

    Args:
        values: (frames, H, W), float64.
        padding: boolean (frames, H, W), outside the field of view; None if the file does not name such a value.
    """

    values: np.ndarray
    padding: np.ndarray | None


def require_picture(dataset: Dataset) -> None:
    """Refuse what is not a gray slice of a head's MRI, and unsupported compression.

    Raises:
        DicomError: with the reason.
    """
    syntax = _syntax_of(dataset)
    if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
        raise DicomError("a DICOMDIR lists files, it is no picture; name the folder of one series", "unsupported")
    if not syntax:
        raise DicomError("its transfer syntax is missing")
    if syntax not in DECODERS:
        raise DicomError("its compression is not supported", "unsupported")
    if "PixelData" not in dataset:
        raise DicomError("it holds no pixel data")
    if reason := why_no_scan(dataset):
        raise DicomError(reason, "unsupported")
    wrong = [name for name in ("Rows", "Columns", "BitsStored") if not (dataset.get(name) or 0) > 0]
    if wrong or dataset.get("BitsAllocated") not in (8, 16, 32):
        raise DicomError(f"its {wrong[0] if wrong else 'BitsAllocated'} is missing or impossible")
    if not 1 <= int(dataset.get("NumberOfFrames") or 1) <= max(1, len(dataset.PixelData or b"")):
        raise DicomError("its number of frames does not fit its pixel data")


def blank_values(dataset: Dataset) -> np.ndarray:
    """Frames (frames, H, W) from the header, without decoding pixels."""
    shape = (dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns)
    return np.broadcast_to(np.float32(0.0), shape)


def stored_values(dataset: Dataset) -> Values:
    """Decode all frames of a file, without overlays.

    Raises:
        DicomError: when the pixel data do not fit the header, or are damaged.
    """
    syntax = _syntax_of(dataset)
    if syntax in UNCOMPRESSED:
        _require_all_bytes(dataset)
    for_3, for_2 = DECODERS[syntax]
    frames = int(dataset.get("NumberOfFrames") or 1)
    if for_3 == "here":
        decoded = np.stack([_lossless_values(dataset, stream) for stream in _streams(dataset, frames)])
    else:
        if hasattr(dataset, "pixel_array_options"):
            dataset.pixel_array_options(decoding_plugin=for_3)
        else:
            dataset.convert_pixel_data(for_2)
        decoded = np.asarray(dataset.pixel_array)
    stored = decoded.astype(np.float64).reshape(frames, dataset.Rows, dataset.Columns)
    padding = _padding_in(dataset, stored)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        stored = (-1.0 if dataset.PixelRepresentation else 2.0**dataset.BitsStored - 1.0) - stored
    return Values(stored, padding)


def _syntax_of(dataset: Dataset) -> str:
    return str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))


def _streams(dataset: Dataset, frames: int) -> Iterator[bytes]:
    from pydicom import encaps

    read = getattr(encaps, "generate_frames", None)
    if read is None:  # pydicom 2
        return iter(encaps.generate_pixel_data_frame(dataset.PixelData, frames))
    return iter(read(dataset.PixelData, number_of_frames=frames))


def _lossless_values(dataset: Dataset, stream: bytes) -> np.ndarray:
    """A frame (H, W), int64, of lossless JPEG."""
    try:
        decoded = decode_lossless(stream, (int(dataset.Rows), int(dataset.Columns))).astype(np.int64)
    except ValueError as error:
        raise DicomError(str(error), "truncated" if "cut short" in str(error) else "damaged") from None
    bits = int(dataset.BitsStored)
    return np.where(decoded >= 1 << (bits - 1), decoded - (1 << bits), decoded) if _is_signed(dataset) else decoded


def _is_signed(dataset: Dataset) -> bool:
    return int(dataset.get("PixelRepresentation") or 0) == 1


def _padding_in(dataset: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where stored values (frames, H, W) are padding by the header."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        value = dataset.get(keyword)
        if isinstance(value, int):
            wraps = _is_signed(dataset) and value >= 1 << (int(dataset.BitsAllocated) - 1)  # written as unsigned
            ends.append(value - (1 << int(dataset.BitsAllocated)) if wraps else value)
    if not ends or not isinstance(dataset.get("PixelPaddingValue"), int):
        return None
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def _require_all_bytes(dataset: Dataset) -> None:
    """Refuse uncompressed pixel data of another length than the header says; padding is allowed."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    frame = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    found = len(dataset.PixelData or b"")
    if found >= (frames + 1) * frame:
        raise DicomError("its number of frames does not fit its pixel data")
    if found < frames * frame:
        raise DicomError("its pixel data are cut short", "truncated")
