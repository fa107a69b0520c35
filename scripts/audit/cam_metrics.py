"""Scores of a class activation map (CAM), with defined values for empty maps and masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage
from scipy.stats import spearmanr

from ..core.statistics import mean_defined

__all__ = ["Look", "cam_scores", "energy_ratio", "rank_correlation", "worst_first"]

FLAT = 1e-4  # a map that varies by less than this share of its maximum has only rounding errors to rank


def cam_scores(cam: np.ndarray, brain: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Score the agreement of a CAM with a reference mask, and that of two uninformed maps.

    Args:
        cam: (H, W), at least 0, in any unit.
        brain: boolean (H, W), inside of the head.
        mask: boolean (H, W), the reference; all False without one.

    Returns:
        - pointing: 1 where the map's maximum lies in the mask, else 0; if it is reached more than once, the share of
          these pixels that lie in the mask.
        - energy_inside: share of the map's sum that lies in the mask.
        - chance: the mask's share of the brain, which is the energy_inside of a uniform map over the brain. Compare
          energy_inside with it.
        - outside_brain: share of the map's sum outside the brain.
        - center_pointing, center_energy: pointing and energy_inside of a Gaussian at the brain's center of mass, whose
          sigma is half the radius of a disc of the brain's area; a baseline, since lesions are rarely at the rim.

        NaN: pointing, energy_inside and outside_brain for a zero CAM; all but outside_brain for an empty mask; chance,
        outside_brain and both center scores without brain.

    Raises:
        ValueError: when the shapes differ, or the map has negative or non-finite values.

    Reference:
        Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018 (pointing game); Wang et al.,
        Score-CAM, CVPRW 2020 (energy-based pointing game).

    >>> scores = cam_scores(np.array([[3.0, 1.0]]), np.array([[True, True]]), np.array([[True, False]]))
    >>> scores["pointing"], scores["energy_inside"], scores["chance"]
    (1.0, 0.75, 0.5)
    """
    if not cam.shape == brain.shape == mask.shape:
        raise ValueError(f"map {cam.shape}, brain {brain.shape} and mask {mask.shape} differ in shape")
    if not (np.isfinite(cam).all() and (cam >= 0).all()):
        raise ValueError("the map has negative or non-finite values")
    brain, mask = brain.astype(bool), mask.astype(bool)
    center = _center_prior(brain)
    return {
        "pointing": _pointing(cam, mask),
        "energy_inside": _share(cam, mask) if mask.any() else math.nan,
        "chance": _share(brain, mask) if mask.any() else math.nan,
        "outside_brain": _share(cam, ~brain) if brain.any() else math.nan,
        "center_pointing": _pointing(center, mask),
        "center_energy": _share(center, mask) if mask.any() else math.nan,
    }


def _pointing(cam: np.ndarray, mask: np.ndarray) -> float:
    return float(mask[cam == cam.max()].mean()) if mask.any() and cam.max() > 0 else math.nan


def _share(cam: np.ndarray, region: np.ndarray) -> float:
    total = float(cam.sum(dtype=np.float64))
    return float(cam[region].sum(dtype=np.float64)) / total if total > 0 else math.nan


def _center_prior(brain: np.ndarray) -> np.ndarray:
    """See `cam_scores`; zero where there is no brain."""
    if not brain.any():
        return np.zeros(brain.shape)
    center, sigma = ndimage.center_of_mass(brain), 0.5 * math.sqrt(brain.sum() / math.pi)
    rows, columns = np.ogrid[: brain.shape[0], : brain.shape[1]]
    prior: np.ndarray = np.exp(-((rows - center[0]) ** 2 + (columns - center[1]) ** 2) / (2 * sigma**2))
    return prior


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's correlation of two maps' values (N,), at least 0; NaN where one of them is flat.

    >>> round(rank_correlation(np.array([0.1, 0.2, 0.9]), np.array([1.0, 3.0, 5.0])), 6)
    1.0
    """
    if a.size == 0 or any(np.ptp(values) <= FLAT * values.max() for values in (a, b)):
        return math.nan
    return float(spearmanr(a, b).statistic)


def energy_ratio(rows: Sequence[Mapping[str, Any]], energy: str = "energy_inside") -> float:
    """Mean energy inside the masks, in multiples of that of uniform maps over the brain.

    Args:
        rows: scores of one slice each, from `cam_scores`; those without CAM or mask are left out.
        energy: "energy_inside", or "center_energy".

    >>> energy_ratio([{"energy_inside": 0.5, "chance": 0.125}, {"energy_inside": 0.25, "chance": 0.25}])
    2.0
    """
    known = [row for row in rows if math.isfinite(row["energy_inside"])]
    chance = mean_defined(row["chance"] for row in known)
    return mean_defined(row[energy] for row in known) / chance if chance > 0 else math.nan


class Look(NamedTuple):
    """One slice with its CAM and probability.

    Args:
        item: of a `SliceDataset`: "image" (C, H, W), "foreground" (1, H, W), "cls", "case", "index", maybe "mask".
        cam: map (H, W) in [0, 1].
        probability: of a tumor.
    """

    item: Mapping[str, Any]
    cam: np.ndarray
    probability: float

    @property
    def head(self) -> np.ndarray:
        """Boolean (H, W): tissue with holes filled, since fluid and bone may be as dark as air."""
        filled: np.ndarray = ndimage.binary_fill_holes(self.item["foreground"][0].numpy() > 0)
        return filled

    @property
    def mask(self) -> np.ndarray | None:
        """Boolean (H, W), or None without a reference."""
        return self.item["mask"][0].numpy() > 0 if "mask" in self.item else None

    def row(self) -> dict[str, Any]:
        """Case, index, cls, probability, lesion (pixels of the mask), and `cam_scores` with the head as the brain."""
        mask = self.mask if self.mask is not None else np.zeros_like(self.head)
        item = {"case": self.item["case"], "index": int(self.item["index"]), "cls": float(self.item["cls"])}
        scores = cam_scores(self.cam, self.head, mask)
        return {**item, "probability": self.probability, "lesion": int(mask.sum()), **scores}


def worst_first(row: Mapping[str, Any]) -> tuple[float, str, int]:
    """Sort key of rows: error of the probability or share of the CAM outside the head, whichever is larger."""
    faults = [abs(row["cls"] - row["probability"]), row["outside_brain"]]
    return -max([0.0, *(fault for fault in faults if math.isfinite(fault))]), row["case"], row["index"]
