"""Where the head is in a plane, and which pixels show tissue: pure functions on numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay, QhullError

__all__ = ["background_level", "border_share", "fill_planes", "find_frame", "find_head", "tissue_level"]

THUMBNAIL = 256  # the head is searched on a picture of at most this side
TISSUE_FRACTION = 0.1  # of the 99th percentile: darker is background
FRAME_BRIGHTNESS = 0.9  # of the range: a frame is at least this bright
FRAME_INSET = 4  # pixels: a thin dark line may run around a frame
FRAME_PERIMETER = 0.2  # of the picture's border: a frame covers at least this much
SMALLEST_PART = 0.02  # of the largest part's area: smaller ones are text, rulers and noise
IN_PLANE = np.pad(ndimage.generate_binary_structure(2, 1)[..., None], ((0, 0), (0, 0), (1, 1)))  # of (H, W, D)
IN_SLICE = np.moveaxis(IN_PLANE, 2, 0)  # of (D, H, W)


def find_frame(plane: np.ndarray) -> np.ndarray:
    """Find a white frame, bar or page around a picture.

    Args:
        plane: gray levels (H, W), any range.

    Returns:
        Boolean (H, W): bright pixels that are connected and cover much of the border, two pixels wider for the
        blurred edge that JPEG leaves.
    """
    low, high = float(plane.min()), float(plane.max())
    if high <= low:
        return np.zeros(plane.shape, dtype=bool)
    parts, _ = ndimage.label(plane >= low + FRAME_BRIGHTNESS * (high - low))
    shares = [_border_shares(parts, inset) for inset in range(min(FRAME_INSET, (min(plane.shape) + 1) // 2))]
    frame = np.isin(parts, 1 + np.flatnonzero(np.max(shares, axis=0)[1:] >= FRAME_PERIMETER))  # 0 is not bright
    return ndimage.binary_dilation(frame, iterations=2) if frame.any() else frame


def _border_shares(parts: np.ndarray, inset: int) -> np.ndarray:
    """Share of the border, or of the line `inset` pixels inside it, that each part covers."""
    inner = parts[inset : parts.shape[0] - inset, inset : parts.shape[1] - inset]
    border = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    return np.bincount(border, minlength=int(parts.max()) + 1) / border.size


def background_level(plane: np.ndarray, frame: np.ndarray) -> float:
    """Gray level of the empty space: the 10th percentile just inside the border or the frame, if it is visible.

    Otherwise (a page that ends at the skin), the first percentile of the head.
    """
    inside = np.pad(~frame, 1)  # padded, for the picture's border erodes as well
    ring = ~ndimage.binary_erosion(inside, iterations=4)[1:-1, 1:-1] & ~frame
    if not ring.any():
        return float(np.percentile(plane, 10))
    return float(min(np.percentile(plane[ring], 10), np.percentile(plane[~frame], 1)))


def tissue_level(values: np.ndarray, background: float) -> float:
    """Gray level above which a pixel shows tissue: a tenth of the way from background to the 99th percentile."""
    bright = values[values > background]
    if bright.size == 0:
        return background
    return background + TISSUE_FRACTION * (float(np.percentile(bright, 99)) - background)


def find_head(plane: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the head in a plane, without frames, margins and burnt-in text.

    Args:
        plane: gray levels (H, W), any range; for a volume, the brightest value along the slices.

    Returns:
        Boolean (H, W), the convex hull of every large part that is brighter than the background, cut to the box of what
        is bright in it, empty where there is none; and the background's gray level.
    """
    steps = [min(side, -(-max(plane.shape) // THUMBNAIL)) for side in plane.shape]
    small = _block_mean(plane, steps)
    frame = find_frame(small)
    background = background_level(small, frame)
    level = tissue_level(small[~frame], background)
    tissue = (small > level) & ~frame
    hull = _convex_hull(_large_parts(ndimage.binary_opening(tissue)) & tissue)
    head = _enlarge(hull, steps, plane.shape)
    return head & _box_of(head & (plane > level)), background


def border_share(head: np.ndarray) -> float:
    """Share of a plane's border, in [0, 1], that a mask of the head (H, W) covers."""
    return float(np.concatenate([head[0], head[-1], head[:, 0], head[:, -1]]).mean())


def fill_planes(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of every plane of a mask (C, H, W, D): regions not connected to the plane's border."""
    slices = np.moveaxis(mask, 3, 1)  # (C, D, H, W), in the order of the memory
    empty = np.pad(~slices, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=True)
    filled = np.empty_like(slices)
    for channel, holes in zip(filled, empty, strict=True):
        parts, count = ndimage.label(holes, IN_SLICE)
        outside = np.zeros(count + 1, dtype=bool)
        outside[parts[:, 0]] = True  # the row beyond the border
        channel[:] = ~np.take(outside, parts[:, 1:-1, 1:-1])
    return np.moveaxis(filled, 1, 3)


def _block_mean(plane: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Average blocks of pixels; an incomplete block at the lower or right edge is left out."""
    height, width = (side // step for side, step in zip(plane.shape, steps, strict=True))
    whole = plane[: height * steps[0], : width * steps[1]]
    return whole.reshape(height, steps[0], width, steps[1]).mean(axis=(1, 3))


def _enlarge(mask: np.ndarray, steps: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Repeat each pixel `steps` times, and the last ones to the edge of `shape`."""
    rows, columns = (np.minimum(np.arange(n) // s, m - 1) for n, s, m in zip(shape, steps, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def _box_of(mask: np.ndarray) -> np.ndarray:
    """The smallest upright box around a mask, as a mask."""
    rows, columns = np.atleast_1d(mask.any(axis=1)), np.atleast_1d(mask.any(axis=0))
    return np.logical_and.outer(_span(rows), _span(columns))


def _span(line: np.ndarray) -> np.ndarray:
    """True from the first to the last true value."""
    return np.logical_or.accumulate(line) & np.logical_or.accumulate(line[::-1])[::-1]


def _large_parts(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel())[1:]
    large = 1 + np.flatnonzero(areas >= SMALLEST_PART * areas.max())
    return ndimage.binary_dilation(np.isin(parts, large), iterations=2)


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    points = np.argwhere(mask)
    try:
        hull = Delaunay(points[ConvexHull(points).vertices])
    except (QhullError, ValueError):  # fewer than three pixels, or all in one line
        return mask
    first, last = points.min(axis=0), points.max(axis=0) + 1
    box = tuple(slice(*span) for span in zip(first, last, strict=True))
    inside = np.zeros_like(mask)
    near = np.argwhere(np.ones(last - first, dtype=bool)) + first
    inside[box] = (hull.find_simplex(near) >= 0).reshape(last - first)
    return inside
