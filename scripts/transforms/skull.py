"""Whether a head has its skull, from the brightness profile below the surface of the head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.special import expit

from ..core.documents import SkullState
from .head import fill_planes

__all__ = ["depth_profile", "has_skull", "skull_state", "skull_swing"]

DEPTHS = range(2, 24, 2)  # mm below the surface; the outermost two are blurred with the air
SWING = 0.8  # standard deviations: of skull-stripped heads none swings so much, see the test by patient
# Measured by patient on FLAIR: 9 stripped volumes swing 0.1 to 0.6, of 85 raw ones 83 more than 1.3 and two 0.3.
DOUBTFUL = (0.7, 1.1)  # between these, and in pictures also below, it is not known: thin skulls of T2 swing as little
WIDTH = 0.1  # standard deviations: width of the score's transition
MIDDLE = (0.4, 0.75)  # of the slices with brain: above the face, below the vertex
LOOKED_AT = 6  # slices


def has_skull(planes: Sequence[np.ndarray] | np.ndarray, tissue: float) -> bool:
    """Whether a head has its skull: scalp, bone and brain differ in brightness, a stripped brain is more uniform.

    Args:
        planes: a volume's slices with brain as the network gets them, (H, W) each, in standard deviations, 1 mm a
            pixel; of a picture one.
        tissue: darker is background.
    """
    return skull_swing(planes, tissue) > SWING


def skull_state(planes: Sequence[np.ndarray] | np.ndarray, tissue: float) -> SkullState:
    """Whether a head has its skull: "on", "off" or "unknown", and a score; see `has_skull`."""
    if len(planes) == 0:
        return SkullState(state="unknown", score=0.5)
    swing, (low, high) = skull_swing(planes, tissue), DOUBTFUL
    score = round(float(expit((swing - (low + high) / 2) / WIDTH)), 4)
    if swing >= high:
        return SkullState(state="on", score=score)
    if 0 < swing <= low and len(planes) > 1:
        return SkullState(state="off", score=score)
    return SkullState(state="unknown", score=0.5)


def skull_swing(planes: Sequence[np.ndarray] | np.ndarray, tissue: float) -> float:
    """How much brightness changes from the surface of a head inwards, standard deviations; 0 for a tiny head."""
    last = len(planes) - 1
    chosen: Sequence[int] = sorted({round(share * last) for share in np.linspace(*MIDDLE, LOOKED_AT)})
    profiles = [depth_profile(np.asarray(planes[index], dtype=np.float32), tissue) for index in chosen]
    profile = np.nanmedian(profiles, axis=0) if np.isfinite(profiles).any(axis=0).all() else np.zeros(1)
    return float(np.ptp(profile))


def depth_profile(plane: np.ndarray, tissue: float) -> np.ndarray:
    """Median brightness at each of `DEPTHS` below the surface of a head (H, W), NaN where it is not so deep."""
    head = plane > tissue
    for box in ndimage.find_objects(head.astype(np.uint8)):  # one, or none without a head
        near = tuple(slice(max(0, span.start - 1), span.stop + 1) for span in box)  # with the background around it
        plane, head = plane[near], head[near]
    depth = ndimage.distance_transform_edt(fill_planes(head[None, ..., None])[0, ..., 0])
    shells = [plane[(depth > low) & (depth <= low + DEPTHS.step)] for low in DEPTHS]
    return np.array([np.median(shell) if shell.size else np.nan for shell in shells])
