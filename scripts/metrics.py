"""Measures of masks and probabilities, with defined answers where there is nothing to measure.

Two empty masks, or a reference without tumour, have no Dice: the answer is NaN, such cases leave the mean and are
counted as false positives instead. AUCs are computed within one source, never over several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["PatientDice", "SourceAUC", "boundary_f", "classification_scores", "overlap_scores"]


def overlap_scores(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice and IoU of two masks of any equal shape; NaN where the reference is empty.

    >>> overlap_scores(np.array([1, 1, 0]), np.array([0, 1, 1]))
    {'dice': 0.5, 'iou': 0.3333333333333333}
    """
    prediction, reference = prediction > 0, reference > 0
    shared, total = int((prediction & reference).sum()), int(prediction.sum()) + int(reference.sum())
    if not reference.any():
        return {"dice": math.nan, "iou": math.nan}
    return {"dice": 2 * shared / total, "iou": shared / (total - shared)}


def boundary_f(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Boundary F-measure: harmonic mean of how much of each surface lies within a tolerance of the other.

    A surface is the set of mask voxels with a face on the outside. NaN where the reference is empty, 0 where only the
    prediction is.

    Args:
        prediction: mask, any number of dimensions.
        reference: mask of the same shape.
        spacing_mm: size of a voxel along each axis.
        tolerance_mm: largest distance that counts as agreement.

    Reference:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013.
    """
    prediction, reference = prediction > 0, reference > 0
    if not reference.any():
        return math.nan
    if not prediction.any():
        return 0.0
    window = _bounding_box(prediction | reference)
    surfaces = [_surface(mask[window]) for mask in (prediction, reference)]
    shares = [
        float((_distance_to(other, spacing_mm)[own] <= tolerance_mm + 1e-9).mean())
        for own, other in (surfaces, surfaces[::-1])
    ]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) > 0 else 0.0


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    return tuple(ndimage.find_objects(mask.astype(np.uint8))[0])


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask, border_value=0)


def _distance_to(surface: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    return ndimage.distance_transform_edt(~surface, sampling=tuple(spacing_mm))


def classification_scores(classes: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, Any]:
    """Scores of one source's probabilities (N,) against classes (N,) of 0 and 1.

    Returns:
        n, positives, prevalence, roc_auc, pr_auc, threshold, sensitivity, specificity; None where a score is undefined
        because one of the classes is missing. Sensitivity never comes without specificity and n.
    """
    classes, called = classes.astype(bool), probabilities >= threshold
    positives, negatives = int(classes.sum()), int((~classes).sum())
    both = positives > 0 and negatives > 0
    return {
        "n": len(classes),
        "positives": positives,
        "prevalence": positives / len(classes) if len(classes) else None,
        "roc_auc": float(roc_auc_score(classes, probabilities)) if both else None,
        "pr_auc": float(average_precision_score(classes, probabilities)) if both else None,
        "threshold": threshold,
        "sensitivity": float(called[classes].mean()) if positives else None,
        "specificity": float((~called)[~classes].mean()) if negatives else None,
    }


def _prediction_and_target(output: Mapping[str, Any]) -> tuple[Any, Any]:
    """What a MONAI engine's metric looks at."""
    return output["pred"], output["label"]


class PatientDice(Metric):
    """Mean over cases of the volumetric Dice, their slices put together again: no matter how they were batched.

    Takes MONAI's engine output: "pred" with "seg" logits and "label" with "mask" and "case". A case without tumour in
    its slices leaves the mean; with no case at all the result is 0.
    """

    def __init__(self) -> None:
        super().__init__(_prediction_and_target)

    def reset(self) -> None:
        self.counts: dict[str, np.ndarray] = {}  # shared, predicted and reference pixels of each case

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        prediction, target = output
        if "seg" not in prediction:
            return
        logits = prediction["seg"]
        predicted, reference = (logits > 0).flatten(1), (target["mask"] > 0.5).flatten(1)
        counts = torch.stack([(predicted & reference).sum(1), predicted.sum(1), reference.sum(1)], dim=1).cpu().numpy()
        for case, row in zip(target["case"], counts, strict=True):
            self.counts[case] = self.counts.get(case, 0) + row

    def compute(self) -> float:
        dice = [2 * shared / (p + r) for shared, p, r in self.counts.values() if r > 0]
        return float(np.mean(dice)) if dice else 0.0


class SourceAUC(Metric):
    """Mean over sources of the ROC-AUC within each; sources with one class only leave the mean.

    Takes MONAI's engine output: "pred" with "cls" logits and "label" with "cls" and "source".

    Args:
        source: only this one; None for all.
    """

    def __init__(self, source: str | None = None) -> None:
        self.source = source
        super().__init__(_prediction_and_target)

    def reset(self) -> None:
        self.answers: dict[str, list[tuple[float, float]]] = {}

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        prediction, target = output
        logits = prediction["cls"].flatten().tolist()
        for source, cls, logit in zip(target["source"], target["cls"].tolist(), logits, strict=True):
            if math.isfinite(cls):
                self.answers.setdefault(source, []).append((cls, logit))

    def compute(self) -> float:
        chosen = [pairs for source, pairs in self.answers.items() if self.source in (None, source)]
        aucs = [roc_auc_score(*zip(*pairs, strict=True)) for pairs in chosen if len({cls for cls, _ in pairs}) == 2]
        return float(np.mean(aucs)) if aucs else 0.5
