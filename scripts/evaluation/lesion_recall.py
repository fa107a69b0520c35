"""How many lesions are found, by their size.

A lesion is a connected component of a mask (26-connectivity, in 2-D 8). It is touched where any voxel of it is
predicted, and matched where its IoU with one predicted component is above 0.5, which can be only one: the matching of
the panoptic quality.

Reference: Kirillov et al., Panoptic segmentation, CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage

from .intervals import RESAMPLES, bootstrap

__all__ = ["lesion_scores", "matched_lesions"]

SIZES_ML = (0.0, 1.0, 5.0, 20.0, math.inf)
MATCH = 0.5  # IoU above which a match is the only one
Row = Mapping[str, Any]


def matched_lesions(prediction: np.ndarray, reference: np.ndarray, voxel_ml: float) -> dict[str, Any]:
    """Compare the lesions of two masks.

    Args:
        prediction: mask (H, W) or (H, W, D), tumor above 0.
        reference: mask of the same shape.
        voxel_ml: volume of a voxel.

    Returns:
        "reference_lesions": of each its volume in ml, and the highest IoU with a predicted component, 0 where it is not
        touched; "predicted_lesions": how many there are.

    Raises:
        ValueError: when the shapes differ.

    >>> matched_lesions(np.array([[1, 1, 0, 0, 1]]), np.array([[0, 1, 0, 0, 0]]), voxel_ml=1.0)
    {'reference_lesions': [{'ml': 1.0, 'iou': 0.5}], 'predicted_lesions': 2}
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    touching = np.ones((3,) * reference.ndim)
    (own, count), (others, predicted) = (ndimage.label(mask > 0, touching) for mask in (reference, prediction))
    both = (own > 0) & (others > 0)
    shared = np.zeros((count + 1, predicted + 1), dtype=np.int64)
    np.add.at(shared, (own[both], others[both]), 1)
    sizes, other_sizes = np.bincount(own.ravel(), minlength=1), np.bincount(others.ravel(), minlength=1)
    overlap = shared / (sizes[:, None] + other_sizes[None] - shared)
    best = overlap[1:, 1:].max(axis=1, initial=0.0)
    found = [{"ml": float(size) * voxel_ml, "iou": float(iou)} for size, iou in zip(sizes[1:], best, strict=True)]
    return {"reference_lesions": found, "predicted_lesions": int(predicted)}


def lesion_scores(volumes: Sequence[Row], resamples: int = RESAMPLES) -> dict[str, Any]:
    """Score the lesions of all volumes together.

    Args:
        volumes: rows with "patient" and what `matched_lesions` returns.
        resamples: of the bootstrap over patients.

    Returns:
        Recall by volume, with intervals over patients, and the panoptic quality with its two factors.
    """
    lesions = [(row["patient"], lesion) for row in volumes for lesion in row["reference_lesions"]]
    patients, ml = [patient for patient, _ in lesions], np.array([lesion["ml"] for _, lesion in lesions])
    iou = np.array([lesion["iou"] for _, lesion in lesions])
    hits = {"touched": iou > 0, "matched": iou > MATCH}
    by_size = []
    for low, high in pairwise(SIZES_ML):
        rows = np.flatnonzero((ml >= low) & (ml < high))
        if len(rows):
            by_size.append(_recall(low, high, rows, patients, hits, resamples))
    matched, predicted = iou[iou > MATCH], sum(row["predicted_lesions"] for row in volumes)
    quality = float(matched.mean()) if len(matched) else None
    recognized = 2 * len(matched) / (len(iou) + predicted) if len(iou) + predicted else None
    return {
        "n": len(lesions),
        "predicted": predicted,
        "matched": len(matched),
        "by_size": by_size,
        "segmentation_quality": quality,
        "recognition_quality": recognized,
        "panoptic_quality": None if recognized is None else recognized * (quality or 0.0),
    }


def _recall(
    low: float,
    high: float,
    rows: np.ndarray,
    patients: Sequence[str],
    hits: Mapping[str, np.ndarray],
    resamples: int,
) -> dict[str, Any]:
    """Share of lesions of one size that are touched, and that are matched."""

    def shares(chosen: np.ndarray) -> dict[str, float | None]:
        return {name: float(hit[rows[chosen]].mean()) for name, hit in hits.items()}

    owners, found = [patients[row] for row in rows], shares(np.arange(len(rows)))
    return {
        "low_ml": low,
        "high_ml": high if math.isfinite(high) else None,
        "n": len(rows),
        "patients_n": len(set(owners)),
        "touched": found["touched"],
        "matched": found["matched"],
        "ci95": bootstrap(owners, shares, resamples),
    }
