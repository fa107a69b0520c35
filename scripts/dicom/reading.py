"""DICOM as a volume: one file, or a folder that holds one series. Read by pydicom, decoded by its own code or Pillow's.

Reference: DICOM PS3.3, C.7.6.2 (image plane), C.7.6.3 (image pixel), C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..core.file_types import type_of_file
from .headers import not_mr

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DicomError", "Stack", "is_dicom", "read_dicom", "read_series"]

DICOMDIR = "1.2.840.10008.1.3.10"
# Transfer syntaxes and who decodes them: (pydicom 3, pydicom 2). GDCM is never used.
DECODERS = {
    "1.2.840.10008.1.2": ("", "numpy"),  # implicit little endian
    "1.2.840.10008.1.2.1": ("", "numpy"),  # explicit little endian
    "1.2.840.10008.1.2.2": ("", "numpy"),  # explicit big endian
    "1.2.840.10008.1.2.5": ("pydicom", "rle"),
    "1.2.840.10008.1.2.4.50": ("pillow", "pillow"),  # JPEG baseline
    "1.2.840.10008.1.2.4.51": ("pillow", "pillow"),  # JPEG extended
    "1.2.840.10008.1.2.4.90": ("pillow", "pillow"),  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": ("pillow", "pillow"),  # JPEG 2000
}
UNCOMPRESSED = tuple(syntax for syntax, names in DECODERS.items() if not names[0])
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # as radiology displays it: columns to the patient's left, rows to posterior


class DicomError(ValueError):
    """A DICOM file that cannot be used; the message is the reason alone, `code` its kind in one word."""

    def __init__(self, reason: str, code: str = "header") -> None:
        super().__init__(reason)
        self.code = code


class Frame(NamedTuple):
    """One slice and its position, in millimeters of the patient's LPS system."""

    pixels: np.ndarray  # (H, W), float32
    position: np.ndarray  # (3,), of the first pixel
    right: np.ndarray  # (3,), unit vector along a row
    down: np.ndarray  # (3,), unit vector along a column
    spacing: tuple[float, float] | None  # between rows, between columns
    gap: float | None  # to the next slice
    instance: int = 0  # which of the series' files it comes from
    number: int = 0  # which frame of that file it is


class Stack(NamedTuple):
    """The slices of one series as a volume."""

    voxels: np.ndarray  # (H, W, D), float32, rows and columns as stored
    affine: np.ndarray  # (4, 4), from indices to RAS+ millimeters
    spacing_known: bool  # along rows and columns; 1 mm where it is not
    thickness_known: bool  # from slice to slice, or of the one slice; 1 mm where it is not


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content."""
    try:
        return type_of_file(path) == "dicom"
    except OSError:
        return False


def read_dicom(path: Path) -> Stack:
    """Read a file, or the one series in a folder, sorted along the normal of its slices.

    Rescale slope and intercept are applied, MONOCHROME1 is inverted; files without pixels in a folder are skipped.

    Args:
        path: file or folder.

    Raises:
        DicomError: without an image, with more than one series, or with ambiguous geometry; an unknown
            orientation is taken for axial.
    """
    return _stack(read_series(path, decoded=True)[1])


def read_series(source: Path | bytes, decoded: bool = False) -> tuple[list[Dataset], list[Frame]]:
    """The files of one series, and its slices in the order of the volume that `read_dicom` makes of them.

    Args:
        source: file, folder, or content of a file.
        decoded: False reads the headers only; the frames are empty.

    Raises:
        DicomError: see `read_dicom`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings hold values of the file
        datasets = _open_folder(source) if isinstance(source, Path) and source.is_dir() else [_open(source)]
        series = {str(dataset.get("SeriesInstanceUID", "")) for dataset in datasets}
        if len(series) > 1:
            raise DicomError(f"holds {len(series)} series, one is expected", "geometry")
        frames = [
            frame._replace(instance=i, number=j)
            for i, dataset in enumerate(datasets)
            for j, frame in enumerate(_frames(dataset, decoded))
        ]
    normal = np.cross(frames[0].right, frames[0].down)
    return datasets, sorted(frames, key=lambda frame: float(frame.position @ normal))


def _open_folder(folder: Path) -> list[Dataset]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and is_dicom(file)]
    if not files:
        raise DicomError("a directory without DICOM files", "unsupported")
    pictures = [dataset for dataset in map(_open, files) if "PixelData" in dataset]
    if not pictures:
        raise DicomError("none of its DICOM files holds a picture")
    return pictures


def _open(source: Path | bytes) -> Dataset:
    try:
        from pydicom import dcmread
    except ImportError:
        raise DicomError("DICOM needs the package pydicom", "unsupported") from None
    content = source if isinstance(source, bytes) else source.read_bytes()
    return dcmread(BytesIO(content))  # from memory: a wrong length in the file allocates nothing


def _frames(dataset: Dataset, decoded: bool) -> list[Frame]:
    """The frames of one file: of a single, a classic multi-frame or an enhanced object."""
    syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))
    _require_picture(dataset, syntax)
    frames = []
    for index, plane in enumerate(_stored_values(dataset, syntax) if decoded else _blank(dataset)):
        slope, intercept = (
            _numbers(dataset, index, "PixelValueTransformationSequence", keyword, 1) or (default,)
            for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
        )
        if slope[0] == 0:
            raise DicomError("its RescaleSlope is zero")
        pixels = (plane * slope[0] + intercept[0]).astype(np.float32) if decoded else plane
        frames.append(_placed(dataset, index, pixels))
    own_positions = "PerFrameFunctionalGroupsSequence" in dataset
    return frames if own_positions or len(frames) == 1 else _spread(frames)


def _placed(dataset: Dataset, index: int, pixels: np.ndarray) -> Frame:
    """A frame with its geometry; an unknown orientation is taken for axial."""
    orientation = _numbers(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6) or AXIAL
    right, down = np.array(orientation[:3]), np.array(orientation[3:])
    if np.abs([right @ right - 1, down @ down - 1, right @ down]).max() > 0.01:
        raise DicomError("its ImageOrientationPatient is no pair of perpendicular unit vectors")
    position = np.array(_numbers(dataset, index, "PlanePositionSequence", "ImagePositionPatient", 3) or (0.0,) * 3)
    spacing, gap, thickness = (
        _numbers(dataset, index, "PixelMeasuresSequence", keyword, count)
        for keyword, count in (("PixelSpacing", 2), ("SpacingBetweenSlices", 1), ("SliceThickness", 1))
    )
    if spacing and min(spacing) <= 0:
        raise DicomError("its PixelSpacing is not positive")
    gaps = [abs(value[0]) for value in (gap, thickness) if value and value[0] != 0]
    return Frame(pixels, position, right, down, (spacing[0], spacing[1]) if spacing else None, next(iter(gaps), None))


def _spread(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of a classic multi-frame file in order: the file has at most one position and one gap."""
    gap = frames[0].gap
    if gap is None:
        raise DicomError("its frames have no positions", "geometry")
    normal = np.cross(frames[0].right, frames[0].down)
    return [frame._replace(position=frame.position + i * gap * normal) for i, frame in enumerate(frames)]


def _stack(frames: Sequence[Frame]) -> Stack:
    """Stack parallel frames, sorted along their normal, into a volume with an affine."""
    first = frames[0]
    normal = np.cross(first.right, first.down)
    for frame in frames:
        if frame.pixels.shape != first.pixels.shape:
            raise DicomError("its slices differ in size", "geometry")
        if frame.spacing != first.spacing or np.abs([frame.right - first.right, frame.down - first.down]).max() > 1e-3:
            raise DicomError("its slices differ in orientation or pixel spacing", "geometry")
    if len(frames) == 1:
        step = normal * (first.gap or 1.0)
    elif first.spacing is None:
        raise DicomError("its PixelSpacing is missing", "geometry")
    else:
        step = _step(np.array([frame.position for frame in frames]), normal)
    rows, columns = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([first.down * rows, first.right * columns, step, frames[0].position])
    voxels = np.stack([frame.pixels for frame in frames], axis=-1)
    return Stack(voxels, LPS_TO_RAS @ affine, first.spacing is not None, len(frames) > 1 or first.gap is not None)


def _step(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """From one slice to the next (3,), where all (D, 3) are equally far from their neighbors."""
    gaps = np.diff(positions @ normal)
    if gaps.min() < 0.01:
        raise DicomError("several of its slices lie in one place", "geometry")
    if np.abs(gaps - np.median(gaps)).max() > 0.1 * np.median(gaps):
        raise DicomError(f"its slices lie {gaps.min():.3g} to {gaps.max():.3g} mm apart: some are missing", "geometry")
    return np.asarray((positions[-1] - positions[0]) / len(gaps))


def _stored_values(dataset: Dataset, syntax: str) -> np.ndarray:
    """Decoded pixels (frames, H, W), brighter where they are larger."""
    if syntax in UNCOMPRESSED:
        _require_all_bytes(dataset)
    for_3, for_2 = DECODERS[syntax]
    if hasattr(dataset, "pixel_array_options"):
        dataset.pixel_array_options(decoding_plugin=for_3)
    else:
        dataset.convert_pixel_data(for_2)
    shape = (dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns)
    stored = np.asarray(dataset.pixel_array, dtype=np.float64).reshape(shape)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        stored = (-1.0 if dataset.PixelRepresentation else 2.0**dataset.BitsStored - 1.0) - stored
    return stored


def _blank(dataset: Dataset) -> np.ndarray:
    """Frames (frames, H, W) from the header, without decoding pixels."""
    shape = (dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns)
    return np.broadcast_to(np.float32(0.0), shape)


def _require_picture(dataset: Dataset, syntax: str) -> None:
    """Refuse color images and unsupported compression."""
    if str(dataset.file_meta.get("MediaStorageSOPClassUID", "")) == DICOMDIR:
        raise DicomError("a DICOMDIR lists files, it is no picture", "unsupported")
    if not syntax:
        raise DicomError("its transfer syntax is missing")
    if syntax not in DECODERS:
        raise DicomError("its compression is not supported", "unsupported")
    if "PixelData" not in dataset:
        raise DicomError("it holds no pixel data")
    if reason := not_mr(dataset):
        raise DicomError(reason, "unsupported")
    if dataset.get("SamplesPerPixel", 1) != 1 or "MONOCHROME" not in str(dataset.get("PhotometricInterpretation")):
        raise DicomError("colors are not supported", "unsupported")
    wrong = [name for name in ("Rows", "Columns", "BitsStored") if not (dataset.get(name) or 0) > 0]
    if wrong or dataset.get("BitsAllocated") not in (8, 16, 32):
        raise DicomError(f"its {wrong[0] if wrong else 'BitsAllocated'} is missing or impossible")


def _require_all_bytes(dataset: Dataset) -> None:
    """Refuse uncompressed pixel data of another length than the header says; padding is allowed."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    frame = int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated) // 8
    found = len(dataset.PixelData or b"")
    if frames < 1 or found >= (frames + 1) * frame:
        raise DicomError("its number of frames does not fit its pixel data")
    if found < frames * frame:
        raise DicomError("its pixel data are cut short", "truncated")


def _numbers(dataset: Dataset, frame: int, macro: str, keyword: str, count: int) -> tuple[float, ...] | None:
    """A frame's value of an attribute as finite numbers, None where it has none."""
    value = _attribute(dataset, frame, macro, keyword)
    if value is None or value == "":
        return None
    try:
        numbers = tuple(float(number) for number in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DicomError(f"its {keyword} is not {count} finite number{'s' if count > 1 else ''}")
    return numbers


def _attribute(dataset: Dataset, frame: int, macro: str, keyword: str) -> Any:
    """An attribute of a frame from its own functional group, the shared one, or the file itself."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in [*own[frame : frame + 1], *shared[:1]]:
        items = group.get(macro)
        if items and keyword in items[0]:
            return items[0].get(keyword)
    return dataset.get(keyword)
