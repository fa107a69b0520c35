"""The background of a head if it is not the darkest part of the scan: padding, or a constant among the head's values.

Pure functions on numpy arrays. Every limit is a share of the scan's own range, so intensities a * x + b (a > 0) are
treated as x is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .head import IN_PLANE

__all__ = ["Surroundings", "darker_share", "find_surroundings", "has_bright_border", "level_surroundings"]

SAMPLE = 2**17  # voxels that ranges are estimated from, about
SAME = 1e-3  # of the range: values that differ by less are one
ALIKE = 0.05  # of the range: values that differ by less may be one with noise
DARK = 0.1  # of the range: darker voxels are not tissue, see `head.TISSUE_FRACTION`
GAP = 0.02  # of the range: air that is as far above one value shows that value to be padding
LAYERS = 4  # of padding, one around the other
FEWEST = 1e-3  # of the voxels: fewer of the lowest value are no padding
REACHED = 0.05  # of the border: air that is cut by padding reaches as much
EMPTY = 0.8  # of the rim of bright padding: at least as much is air or one value
MOST = 0.5  # of what is at the border, and not of the middle: at least this share of dark voxels is air
FAR = 1.0  # ranges: what lies further below a head without air is padding
COVERED = 0.3  # of the border: as much of one value surrounds the head
EXACT = 0.9  # of the border's values alike: fewer that are the same are noise
AREA = 0.05  # of the voxels: fewer of the border's value are a line around a picture
BLURRED = 2  # voxels: an edge of padding, after interpolation
THICK = 3  # voxels of bright padding for each one at the border: fewer are a line around a picture
DARKER = 0.005  # of the voxels: as many below the border's value belong to the head


class Surroundings(NamedTuple):
    """The background of an edited scan.

    Args:
        padding: values up to this one are padding; None without padding.
        bright_padding: value of padding that is not darker than the head; None without it.
        band: lowest and highest of the values around the head, where parts of the head are darker; else None.
        level: gray level of empty space, which replaces all of these.
    """

    padding: float | None
    bright_padding: float | None
    band: tuple[float, float] | None
    level: float


def level_surroundings(volume: np.ndarray) -> np.ndarray:
    """Bring padding and constant surroundings to the level of empty space.

    Most padding is far below the air: resampling tools write -1000 or -32768, scanners 0 into the corners. Some is
    bright: 4095, 65535, or any gray. A background of 0 is among the head's values after z-scoring. All are found as
    many voxels of one value.

    Args:
        volume: gray levels (H, W, D), finite, any range.

    Returns:
        The same array if the background is its darkest part, as in an unedited scan; else a copy.
    """
    found = find_surroundings(volume)
    if found is None:
        return volume
    levelled = volume.copy()
    if found.padding is not None:
        levelled[volume <= found.padding] = found.level
    if found.bright_padding is not None:
        levelled[_wider(_tied_to_border(volume == found.bright_padding), BLURRED)] = found.level
    if found.band is not None:
        levelled[_around(levelled, found.band)] = found.level
    return levelled


def find_surroundings(volume: np.ndarray) -> Surroundings | None:
    """Find padding and constant surroundings in (H, W, D); None if the background is the darkest part."""
    sample = _sample_of(volume)
    bright = _bright_padding_of(sample)
    if bright is not None:
        padded = _wider(_tied_to_border(sample == bright), BLURRED)
        sample = np.where(padded, sample[~padded].min(), sample)
    padding = _padding_of(sample)
    inside = sample > (-np.inf if padding is None else padding)
    band = _band_around(_border(sample)[_border(inside)], sample[inside])
    if padding is None and bright is None and band is None:
        return None
    if band is not None:
        inside &= (sample < band[0]) | (sample > band[1])
    return Surroundings(padding, bright, band, float(np.percentile(sample[inside], 0.1)))


def _sample_of(volume: np.ndarray) -> np.ndarray:
    """Every n-th row and column, about `SAMPLE` voxels."""
    step = max(1, round((volume.size / SAMPLE) ** 0.5))
    sample = volume[tuple(slice(None, None, min(step, side)) for side in volume.shape[:2])]
    return np.asarray(sample, dtype=np.float64)


def darker_share(volume: np.ndarray, head: np.ndarray, background: float) -> float:
    """Share of a head's voxels that are clearly darker than its background, in [0, 1]: 0 for a correctly read scan.

    Args:
        volume: gray levels (H, W, D).
        head: boolean (H, W).
        background: gray level.
    """
    rows, columns = np.nonzero(head)
    depth = volume.shape[2]
    if rows.size * depth == 0:
        return 0.0
    chosen = np.arange(0, rows.size * depth, max(1, rows.size * depth // SAMPLE))  # of the voxels inside the head
    inside = volume[rows[chosen // depth], columns[chosen // depth], chosen % depth]
    return float(np.mean(inside < background - DARK * (np.percentile(inside, 99) - background)))


def _padding_of(sample: np.ndarray) -> float | None:
    """Highest value of padding in (H, W, D), of all its layers; None without padding."""
    padding, values = None, sample.ravel()
    for _ in range(LAYERS):
        lowest = float(values.min())
        level = lowest + SAME * (float(values.max()) - lowest)
        others = values[values > level]
        if others.size < 2 or values.size - others.size < FEWEST * values.size:
            break
        low, high = np.percentile(others, [0.1, 99])
        is_far = low - lowest > FAR * (high - low)
        is_below_air = low - lowest > GAP * (high - low) and _has_air(sample, level, low + DARK * (high - low))
        if low == high or not (is_far or is_below_air):
            break
        values, padding = others, level
    return padding


def _bright_padding_of(sample: np.ndarray) -> float | None:
    """Value of padding in (H, W, D) that is as bright as tissue or brighter; None without any.

    It touches air or another constant rather than the head.
    """
    for value, region, dark in _bright_regions(sample):
        if _is_empty(sample[_rim_of(region)], dark):
            return value
    return None


def has_bright_border(volume: np.ndarray) -> bool:
    """Whether one bright value fills a region at the border of (H, W, D): padding that was not found, or cut tissue."""
    return any(True for _ in _bright_regions(_sample_of(volume)))


def _bright_regions(sample: np.ndarray) -> Iterator[tuple[float, np.ndarray, float]]:
    """Regions (H, W, D) of one exact value that cover much of the border, as (value, region, darkest tissue).

    The value is rare elsewhere. A line around a picture is none: it is found with the head, see `head.find_frame`.
    """
    border = _border(sample)
    values, counts = np.unique(border, return_counts=True)
    for value, count in zip(values, counts, strict=True):
        if count < REACHED * border.size:
            continue
        same = sample == value
        others = sample[~same]
        if others.size < 2:
            return
        low, high = np.percentile(others, [0.1, 99])
        dark = float(low + DARK * (high - low))
        if low == high or value <= dark or count < EXACT * (np.abs(border - value) <= ALIKE * (high - low)).sum():
            continue
        region = _tied_to_border(same)
        if region.sum() >= max(EXACT * same.sum(), THICK * count):
            yield float(value), region, dark


def _is_empty(values: np.ndarray, dark: float) -> bool:
    """Whether most of some voxels are air, or of one value."""
    if values.size == 0:
        return False
    return bool(
        (values <= dark).mean() >= EMPTY or np.unique(values, return_counts=True)[1].max() >= EMPTY * values.size
    )


def _rim_of(mask: np.ndarray) -> np.ndarray:
    """The voxels around a mask (H, W, D) within the slices, beyond an edge that interpolation has blurred."""
    return _wider(mask, 2 * BLURRED) & ~_wider(mask, BLURRED)


def _wider(mask: np.ndarray, voxels: int) -> np.ndarray:
    grown: np.ndarray = ndimage.binary_dilation(mask, IN_PLANE, iterations=voxels)
    return grown


def _has_air(sample: np.ndarray, padding: float, dark: float) -> bool:
    """Whether the voxels above the padding (H, W, D) are a head in air: dark at the border, bright in the middle."""
    inside, air = sample > padding, (sample > padding) & (sample <= dark)
    spans = (np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    thirds = ((2 * int(span[0]) + int(span[-1]), int(span[0]) + 2 * int(span[-1])) for span in spans)
    middle = tuple(slice(first // 3, last // 3 + 1) for first, last in thirds)
    border = _border(air)
    is_dark = border.mean() >= REACHED and border.sum() >= MOST * _border(inside).sum()
    return bool(is_dark and air[middle].sum() < MOST * inside[middle].sum())


def _band_around(border: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    """The constant background of a head with darker parts, as a narrow band of values; None without one."""
    span = float(np.ptp(np.percentile(values, [0.1, 99.9])))
    if border.size == 0 or span == 0:
        return None
    counts, edges = np.histogram(border, 256)
    mode = int(counts.argmax())
    center = float(np.median(border[(border >= edges[mode]) & (border <= edges[mode + 1])]))
    same, alike = (np.abs(border - center) <= share * span for share in (SAME, ALIKE))
    if same.mean() < COVERED or same.sum() < EXACT * alike.sum():
        return None
    around = np.abs(values - center) <= SAME * span
    others = values[~around]
    if around.mean() < AREA or others.size < 2:
        return None
    low, high = np.percentile(others, [0.1, 99])
    if not low + DARK * (high - low) < center < high or np.mean(others < center) < DARKER:
        return None
    return float(border[same].min()), float(border[same].max())


def _around(volume: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Background voxels (H, W, D): those of its value that are connected to the border, and holes of the same value.

    A value far more frequent within the head than its neighbors was written by a tool.
    """
    same = (volume >= band[0]) & (volume <= band[1])
    tied = _tied_to_border(same)
    near = volume[~same & (np.abs(volume - band[0]) <= ALIKE * float(np.ptp(volume)))]
    commonest = int(np.unique(near, return_counts=True)[1].max()) if near.size else 0
    return same if int(same.sum()) - int(tied.sum()) > 2 * commonest else tied


def _tied_to_border(mask: np.ndarray) -> np.ndarray:
    """Parts of a mask (H, W, D) that reach the border of a slice; those that touch at a corner are one."""
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    reached = np.zeros(count + 1, dtype=bool)
    reached[_border(parts)] = True
    reached[0] = False
    return np.asarray(reached[parts])


def _border(volume: np.ndarray) -> np.ndarray:
    """Values at the border of every slice of (H, W, D), as (N,)."""
    sides = (volume[0], volume[-1], volume[:, 0], volume[:, -1])
    return np.concatenate([side.ravel() for side in sides])
