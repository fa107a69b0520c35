"""The slices of DICOM files: their positions, and how parallel slices are stacked to a volume.

Reference: DICOM PS3.3, C.7.6.2 (image plane) and C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .headers import DicomError, attribute_of, echo_of, image_type_of, numbers_of
from .pixels import Values, blank_values, require_picture

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["SAME_PLACE_MM", "Frame", "Stack", "decoded_frame", "frames_of", "is_parallel", "located", "stack"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # as radiology displays it: columns to the patient's left, rows to posterior
SKEW = 0.05  # of a unit vector: what decimals that were cut off may leave
SAME_DIRECTION, SAME_SPACING = 0.02, 0.01  # of a unit vector; of the spacing: files of one series are rounded by less
SAME_PLACE_MM = 0.01
PARTS = {"P": "phase", "R": "real", "I": "imaginary"}  # by the third value of ImageType; else it is the magnitude


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
    is_located: bool = True  # whether the file has the position
    is_oriented: bool = True  # whether it has the orientation
    location: float | None = None  # SliceLocation, mm along the normal from an unknown origin
    echo: float = 0.0  # ms; 0 if unknown
    part: str = ""  # of a complex image: "" for the magnitude
    padding: np.ndarray | None = None  # boolean (H, W), outside the field of view

    @property
    def normal(self) -> np.ndarray:
        """Unit vector (3,) perpendicular to the slice."""
        return np.cross(self.right, self.down)


class Stack(NamedTuple):
    """The slices of one series as a volume."""

    voxels: np.ndarray  # (H, W, D), float32, rows and columns as stored
    affine: np.ndarray  # (4, 4), from indices to RAS+ millimeters
    spacing_known: bool  # along rows and columns; 1 mm where it is not
    thickness_known: bool  # from slice to slice, or of the one slice; 1 mm where it is not
    flags: tuple[str, ...] = ()  # codes of warnings, see `core.messages`
    chosen: str = ""  # which of several series it is, as JSON of `core.documents.ChosenSeries`
    sequence: str = ""  # by the header; "" if unknown


def frames_of(dataset: Dataset, instance: int = 0) -> list[Frame]:
    """The frames of one file, not decoded: of a single, a classic multi-frame or an enhanced object.

    Raises:
        DicomError: without an image, or with an impossible geometry.
    """
    require_picture(dataset)
    frames = [_placed(dataset, index, plane, instance) for index, plane in enumerate(blank_values(dataset))]
    own_positions = "PerFrameFunctionalGroupsSequence" in dataset
    return frames if own_positions or len(frames) == 1 else _spread(frames)


def decoded_frame(frame: Frame, dataset: Dataset, found: Values) -> Frame:
    """A frame with its pixels, its own slope and intercept applied."""
    slope, intercept = (
        (numbers_of(dataset, frame.number, "PixelValueTransformationSequence", keyword, 1) or (default,))[0]
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        raise DicomError("its RescaleSlope is zero")
    pixels = (found.values[frame.number] * slope + intercept).astype(np.float32)
    return frame._replace(pixels=pixels, padding=None if found.padding is None else found.padding[frame.number])


def _placed(dataset: Dataset, index: int, pixels: np.ndarray, instance: int) -> Frame:
    """A frame with its geometry; an unknown orientation is taken for axial."""
    told = numbers_of(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    right, down = (np.array(part) for part in ((told or AXIAL)[:3], (told or AXIAL)[3:]))
    if np.abs([right @ right - 1, down @ down - 1, right @ down]).max() > SKEW:
        raise DicomError("its ImageOrientationPatient is no pair of perpendicular unit vectors")
    place = numbers_of(dataset, index, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing, gap, thickness = (
        numbers_of(dataset, index, "PixelMeasuresSequence", keyword, count)
        for keyword, count in (("PixelSpacing", 2), ("SpacingBetweenSlices", 1), ("SliceThickness", 1))
    )
    if spacing and min(spacing) <= 0:
        raise DicomError("its PixelSpacing is not positive")
    gaps = [abs(value[0]) for value in (gap, thickness) if value and value[0] != 0]
    frame_type = attribute_of(dataset, index, "MRImageFrameTypeSequence", "FrameType")
    types = tuple(str(part).upper() for part in frame_type) if frame_type else image_type_of(dataset)
    right, down = right / np.linalg.norm(right), down / np.linalg.norm(down)
    return Frame(
        pixels,
        np.array(place or (0.0,) * 3),
        right,
        down,
        (spacing[0], spacing[1]) if spacing else None,
        next(iter(gaps), None),
        instance,
        index,
        place is not None,
        told is not None,
        _location(dataset, index),
        echo_of(dataset, index),
        PARTS.get(types[2], "") if len(types) > 2 else "",
    )


def _location(dataset: Dataset, index: int) -> float | None:
    try:
        found = numbers_of(dataset, index, "PlanePositionSequence", "SliceLocation", 1)
    except DicomError:  # it is optional
        return None
    return found[0] if found else None


def _spread(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of a classic multi-frame file in order: the file has at most one position and one gap."""
    gap = frames[0].gap
    if gap is None:
        raise DicomError("its frames have no positions", "geometry")
    return [
        frame._replace(position=frame.position + i * gap * frame.normal, is_located=True)
        for i, frame in enumerate(frames)
    ]


def is_parallel(frame: Frame, other: Frame) -> bool:
    """Whether two slices have one size, orientation and spacing, apart from rounding."""
    turned = np.abs([frame.right - other.right, frame.down - other.down]).max()
    if frame.pixels.shape != other.pixels.shape or turned > SAME_DIRECTION:
        return False
    if frame.spacing is None or other.spacing is None:
        return frame.spacing == other.spacing
    return bool(np.allclose(frame.spacing, other.spacing, rtol=SAME_SPACING))


def located(frames: Sequence[Frame]) -> tuple[list[Frame], bool]:
    """Sort frames along their normal.

    Returns:
        The frames, each with a position; and whether the positions come from SliceLocation.

    Raises:
        DicomError: when the order of several slices is unknown.
    """
    normal, frames = frames[0].normal, list(frames)
    heights = [float(frame.position @ normal) for frame in frames]
    is_told = all(frame.is_located for frame in frames) and max(heights) - min(heights) > SAME_PLACE_MM
    by_location = len(frames) > 1 and not is_told
    if by_location:
        if any(frame.location is None for frame in frames):
            if all(frame.is_located for frame in frames):
                raise DicomError("several of its slices lie in one place", "geometry")
            reason = "its slices have neither ImagePositionPatient nor SliceLocation: their order is unknown"
            raise DicomError(reason, "geometry")
        frames = [frame._replace(position=(frame.location or 0.0) * normal) for frame in frames]
    return sorted(frames, key=lambda frame: float(frame.position @ normal)), by_location


def stack(frames: Sequence[Frame]) -> Stack:
    """Stack decoded, parallel frames, in the order of `located`, into a volume with an affine.

    Raises:
        DicomError: when slices are missing, or lie in one place.
    """
    first = frames[0]
    if len(frames) == 1:
        step = first.normal * (first.gap or 1.0)
    elif first.spacing is None:
        raise DicomError("its PixelSpacing is missing", "geometry")
    else:
        step = _step(np.array([frame.position for frame in frames]), first.normal)
    rows, columns = first.spacing or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([first.down * rows, first.right * columns, step, first.position])
    voxels = np.stack([frame.pixels for frame in frames], axis=-1)
    if any(frame.padding is not None for frame in frames):
        blank = np.zeros(first.pixels.shape, dtype=bool)
        padding = np.stack([blank if frame.padding is None else frame.padding for frame in frames], axis=-1)
        voxels = _without_padding(voxels, padding)
    return Stack(voxels, LPS_TO_RAS @ affine, first.spacing is not None, len(frames) > 1 or first.gap is not None)


def _without_padding(voxels: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Make padding of voxels (H, W, D) dark; padding that is darker than everything else is kept."""
    seen = voxels[~padding]
    if seen.size and padding.any() and voxels[padding].max() > seen.min():
        voxels[padding] = np.percentile(seen, 0.1)
    return voxels


def _step(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """From one slice to the next (3,), where all (D, 3) are equally far from their neighbors."""
    gaps = np.diff(positions @ normal)
    if gaps.min() < SAME_PLACE_MM:
        raise DicomError("several of its slices lie in one place", "geometry")
    if np.abs(gaps - np.median(gaps)).max() > 0.1 * np.median(gaps):
        raise DicomError(f"its slices lie {gaps.min():.3g} to {gaps.max():.3g} mm apart: some are missing", "geometry")
    return np.asarray((positions[-1] - positions[0]) / len(gaps))
