"""What a slice looks like in numbers that tell its sequence: gray levels by depth below the surface, folds, texture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage

from ..transforms.preprocessing import tissue_of

__all__ = ["FEATURES", "features_of", "slices_to_look_at", "tissue_in"]

DEPTHS = (0.0, 0.06, 0.14, 0.28, 0.45, 0.65, 1.01)  # of the greatest distance from the surface: rings of a head
OUTER, INNER = (0.06, 0.45), (0.45, 1.01)  # cortex with its folds; ventricles and what is around them
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.75, 0.9, 0.95, 0.99)
FOLDS = (3, 7)  # pixels: width of the folds and vessels that stand out, dark or bright
FEATURES = 2 + len(QUANTILES) + 4 * (len(DEPTHS) - 1) + 2 * 3 + 4 * len(FOLDS) + 2
FEWEST = 400  # pixels of tissue


def slices_to_look_at(brain_pixels: np.ndarray, most: int = 16) -> np.ndarray:
    """Evenly spaced slices (at most `most`) among those with at least half as much brain as the largest."""
    large = np.flatnonzero(brain_pixels >= max(FEWEST, 0.5 * brain_pixels.max(initial=0)))
    return (
        large[np.unique(np.linspace(0, len(large) - 1, min(most, len(large))).round().astype(int))]
        if len(large)
        else large
    )


def tissue_in(planes: torch.Tensor, whole: bool = False) -> np.ndarray:
    """Pixels of tissue in each plane (D, H, W) -> (D,), or where they are (D, H, W)."""
    tissue = tissue_of(planes[:, None])
    return tissue.numpy() if whole else tissue.sum(dim=(1, 2)).numpy()


def features_of(plane: torch.Tensor) -> np.ndarray | None:
    """Features of one slice.

    Args:
        plane: network input (H, W), one channel, as `NormalizeForegroundd` leaves it.

    Returns:
        (FEATURES,), float64; None where there is too little tissue. They do not change with brightness and contrast.
    """
    tissue = tissue_in(plane[None], whole=True)[0]
    if tissue.sum() < FEWEST:
        return None
    box = ndimage.find_objects(tissue.astype(np.uint8))[0]
    tissue, values = np.pad(tissue[box], 2), np.pad(plane.numpy().astype(np.float64)[box], 2)
    low, middle, high = np.quantile(values[tissue], (0.05, 0.5, 0.95))
    levels: np.ndarray = np.clip((values - middle) / max(high - low, 1e-3), -2, 2)
    levels[~tissue] = (low - middle) / max(high - low, 1e-3)
    distance = np.asarray(ndimage.distance_transform_edt(tissue))
    inside, depth = levels[tissue], distance[tissue] / distance.max()  # (N,), as all that follows
    rings = [(depth >= shallow) & (depth < deep) for shallow, deep in (OUTER, INNER)]
    found = [*_moments(inside), *np.quantile(inside, QUANTILES)]
    for shallow, deep in pairwise(DEPTHS):
        ring = inside[(depth >= shallow) & (depth < deep)]
        found += [float(ring.std()), *np.quantile(ring, (0.1, 0.5, 0.9))] if ring.size else [0.0] * 4
    for ring in (inside[where] for where in rings):
        found += [*np.quantile(ring, (0.03, 0.5, 0.97))] if ring.size else [0.0] * 3
    found += _folds(levels, tissue, rings)
    down, right = np.gradient(levels)
    slope = np.asarray(np.hypot(down[tissue], right[tissue]))[depth > DEPTHS[1]]
    thousandths = np.rint(inside * 1000).astype(int)  # from -2000 to 2000
    commonest = np.bincount(thousandths + 2000).max()
    return np.array([*found, float(slope.mean()) if slope.size else 0.0, float(commonest / inside.size)])


def _moments(values: np.ndarray) -> list[float]:
    """Standardized third and fourth moment; products, for powers of arrays take many times as long."""
    away, width = values - values.mean(), values.std() + 1e-3
    return [float(np.mean(away * away * away) / width**3), float(np.mean((away * away) ** 2) / width**4)]


def _folds(levels: np.ndarray, tissue: np.ndarray, rings: Sequence[np.ndarray]) -> list[float]:
    """How much thin bright and thin dark structures stand out, near the surface and deep inside.

    Args:
        levels: (H, W).
        tissue: boolean (H, W), of N pixels.
        rings: boolean (N,) each.
    """
    found = []
    for size in FOLDS:
        bright = ndimage.white_tophat(levels, size)[tissue]
        dark = ndimage.black_tophat(levels, size)[tissue]
        for ring in rings:
            found += [float(bright[ring].mean()), float(dark[ring].mean())] if ring.any() else [0.0, 0.0]
    return found
