"""Does a head still have its skull? Told by how brightness changes from the surface of the head inwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["depth_profile", "has_skull"]

DEPTHS = range(2, 24, 2)  # mm below the surface; the outermost two are blurred with the air
SWING = 0.8  # standard deviations: of skull-stripped heads none swings so much, see the test by patient
MIDDLE = (0.4, 0.75)  # of the slices with brain: above the face, below the vertex
LOOKED_AT = 6  # slices


def has_skull(planes: np.ndarray, tissue: float) -> bool:
    """Tell a raw head from a skull-stripped one: scalp, bone and brain differ, a brain alone is much the same.

    Args:
        planes: a volume's slices with brain as the network is served them, (D, H, W), in standard deviations, 1 mm a
            pixel; of a picture one.
        tissue: what is darker is background.
    """
    last = len(planes) - 1
    chosen: Sequence[int] = sorted({round(share * last) for share in np.linspace(*MIDDLE, LOOKED_AT)})
    profiles = [depth_profile(np.asarray(planes[index], dtype=np.float32), tissue) for index in chosen]
    profile = np.nanmedian(profiles, axis=0) if np.isfinite(profiles).any(axis=0).all() else np.zeros(1)
    return bool(np.ptp(profile) > SWING)


def depth_profile(plane: np.ndarray, tissue: float) -> np.ndarray:
    """Median brightness at each of `DEPTHS` below the surface of a head (H, W), NaN where it is not so deep."""
    depth = ndimage.distance_transform_edt(ndimage.binary_fill_holes(plane > tissue))
    shells = [plane[(depth > low) & (depth <= low + DEPTHS.step)] for low in DEPTHS]
    return np.array([np.median(shell) if shell.size else np.nan for shell in shells])
