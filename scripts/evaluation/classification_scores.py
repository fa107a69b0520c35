"""Scores of one source's tumor probabilities against its classes; None for undefined scores.

A class is 1 (tumor) or 0; a probability that reaches a threshold is called tumor. Sensitivity is always reported with
specificity and n. Do not pool several sources: a detector of the source would score well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    matthews_corrcoef,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

__all__ = [
    "area_bins",
    "classification_scores",
    "curves",
    "expected_calibration_error",
    "reliability",
    "resampled_scores",
    "roc_auc",
]

SENSITIVITY = 0.95  # at which the specificity is stated
CURVE_POINTS = 200
AREAS_MM2 = ((50.0, 200.0), (200.0, 800.0), (800.0, 2000.0), (2000.0, math.inf))


def classification_scores(
    classes: np.ndarray,
    probabilities: np.ndarray,
    operating_point: float | np.ndarray,
    display_threshold: float,
    raw_probabilities: np.ndarray | None = None,
) -> dict[str, Any]:
    """Compute all scores of one source's probabilities.

    Args:
        classes: (N,) of 0 and 1.
        probabilities: (N,) from 0 to 1, calibrated.
        operating_point: threshold, fixed in advance; (N,) if it was fitted for each fold.
        display_threshold: a second threshold whose sensitivity and specificity are reported too.
        raw_probabilities: (N,) the same before temperature scaling.

    Returns:
        - n, positives, prevalence.
        - roc_auc, and pr_auc (average precision; by chance it is the prevalence).
        - threshold (the operating point, None where there are several), with sensitivity, specificity, confusion
          {tp, fp, tn, fn} and mcc.
        - brier and ece; brier_before and ece_before where there are raw probabilities.
        - at_display_threshold: {threshold, sensitivity, specificity}.
        - specificity_at_95_sensitivity: the highest of any threshold whose sensitivity is at least 0.95.

        None where undefined: sensitivity without positives, specificity without negatives, roc_auc, pr_auc, mcc and
        specificity_at_95_sensitivity without both, and all of them, with prevalence, brier and ece, without any row.
        mcc is 0 if all rows are called the same.

    Raises:
        ValueError: when lengths differ, a class is neither 0 nor 1, or a probability is not from 0 to 1.

    Reference:
        Maier-Hein, Reinke et al., Metrics reloaded, Nature Methods 21, 2024, s41592-023-02151-z.
    """
    classes, probabilities = _checked(classes, probabilities)
    n, positives = len(classes), int(classes.sum())
    both = 0 < positives < n
    called = probabilities >= operating_point
    tp, fp = int((classes & called).sum()), int((~classes & called).sum())
    scores = {
        "n": n,
        "positives": positives,
        "prevalence": positives / n if n else None,
        "roc_auc": float(roc_auc_score(classes, probabilities)) if both else None,
        "pr_auc": float(average_precision_score(classes, probabilities)) if both else None,
        **_at_threshold(classes, probabilities, operating_point),
        "confusion": {"tp": tp, "fp": fp, "tn": n - positives - fp, "fn": positives - tp},
        "mcc": float(matthews_corrcoef(classes, called)) if both else None,
        "brier": _brier(classes, probabilities),
        "ece": expected_calibration_error(classes, probabilities),
        "at_display_threshold": _at_threshold(classes, probabilities, display_threshold),
        "specificity_at_95_sensitivity": _specificity_at(SENSITIVITY, classes, probabilities) if both else None,
    }
    if raw_probabilities is not None:
        _, raw = _checked(classes, raw_probabilities)
        scores |= {"brier_before": _brier(classes, raw), "ece_before": expected_calibration_error(classes, raw)}
    return scores


def roc_auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties count half; NaN if a class is missing. Fast, for thousands of resamples.

    Args:
        positive: boolean (N,).
        scores: (N,) finite, higher where positive.

    >>> roc_auc(np.array([False, True, True]), np.array([0.1, 0.1, 0.7]))
    0.75
    """
    count = int(positive.sum())
    pairs = count * (len(positive) - count)
    if pairs == 0:
        return math.nan
    return float(rankdata(scores)[positive].sum() - count * (count + 1) / 2) / pairs


def resampled_scores(
    classes: np.ndarray, probabilities: np.ndarray, operating_point: float | np.ndarray, bins: int = 10
) -> Callable[[np.ndarray], dict[str, float | None]]:
    """Prepare the scores with an interval for thousands of resamples, each in a fraction of a millisecond.

    Args:
        classes: (N,) of 0 and 1.
        probabilities: (N,) from 0 to 1.
        operating_point: one, or (N,).
        bins: of the calibration error.

    Returns:
        Function from row indices (M,), with repetitions, to roc_auc, pr_auc, sensitivity, specificity,
        specificity_at_95_sensitivity, brier and ece, exactly as `classification_scores` gives them for these rows.
    """
    classes, probabilities = _checked(classes, probabilities)
    order = np.argsort(-probabilities, kind="stable")
    tumor, p = classes[order], probabilities[order]
    ends = np.flatnonzero(np.diff(p, append=-1.0))  # equal probabilities are one step of a curve
    called = np.broadcast_to(probabilities >= operating_point, p.shape)[order]
    bin_of = _bins(p, bins)[1]

    def score(rows: np.ndarray) -> dict[str, float | None]:
        weight = np.bincount(rows, minlength=len(p))[order].astype(np.float64)
        positive, negative = weight * tumor, weight * ~tumor
        found: dict[str, float | None] = dict.fromkeys(["roc_auc", "pr_auc", "specificity_at_95_sensitivity"])
        tp, fp = np.cumsum(positive)[ends], np.cumsum(negative)[ends]
        if positive.any() and negative.any():
            sensitivity, false_positive_rate = tp / tp[-1], fp / fp[-1]
            steps = np.diff(sensitivity, prepend=0.0)
            found["roc_auc"] = float(np.trapezoid(np.append(0.0, sensitivity), np.append(0.0, false_positive_rate)))
            called_tumor = tp + fp
            precision = np.divide(tp, called_tumor, out=np.zeros_like(tp), where=called_tumor > 0)
            found["pr_auc"] = float((steps * precision).sum())
            found["specificity_at_95_sensitivity"] = float(1.0 - false_positive_rate[sensitivity >= SENSITIVITY].min())
        found["sensitivity"] = float(positive[called].sum() / positive.sum()) if positive.any() else None
        found["specificity"] = float(negative[~called].sum() / negative.sum()) if negative.any() else None
        total = weight.sum()
        found["brier"] = float((weight * (p - tumor) ** 2).sum() / total) if total else None
        gaps = np.bincount(bin_of, weights=weight * (p - tumor), minlength=bins)
        found["ece"] = float(np.abs(gaps).sum() / total) if total else None
        return found

    return score


def expected_calibration_error(classes: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float | None:
    """Mean difference of mean probability and observed frequency over bins, weighted by their rows.

    Args:
        classes: (N,) of 0 and 1.
        probabilities: (N,) from 0 to 1.
        bins: see `reliability`.

    Returns:
        Error from 0 to 1; None without rows.

    Raises:
        ValueError: see `classification_scores`.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, equation 5.

    >>> expected_calibration_error(np.array([0, 1]), np.array([0.25, 0.75]))
    0.25
    """
    rows = reliability(classes, probabilities, bins)
    if not rows:
        return None
    return sum(row["n"] * abs(row["mean_probability"] - row["observed"]) for row in rows) / len(classes)


def reliability(classes: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> list[dict[str, Any]]:
    """Compare probabilities with observed frequencies in bins.

    Args:
        classes: (N,) of 0 and 1.
        probabilities: (N,) from 0 to 1.
        bins: number of bins of equal width. A bin includes its lower edge; the last one includes both edges.

    Returns:
        For each bin with any row, from the lowest: low, high, n, mean_probability, and observed (share of class 1).

    Raises:
        ValueError: see `classification_scores`.

    >>> reliability(np.array([0, 1, 1]), np.array([0.5, 0.5, 1.0]), bins=2)
    [{'low': 0.5, 'high': 1.0, 'n': 3, 'mean_probability': 0.6666666666666666, 'observed': 0.6666666666666666}]
    """
    classes, probabilities = _checked(classes, probabilities)
    edges, bin_of = _bins(probabilities, bins)
    return [
        {
            "low": float(edges[index]),
            "high": float(edges[index + 1]),
            "n": int((bin_of == index).sum()),
            "mean_probability": float(probabilities[bin_of == index].mean()),
            "observed": float(classes[bin_of == index].mean()),
        }
        for index in np.unique(bin_of)
    ]


def _bins(probabilities: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the bins (bins + 1,), and the bin of each probability (N,)."""
    edges = np.arange(bins + 1) / bins  # quotients, since 0.3 is below np.linspace's 0.30000000000000004
    return edges, np.minimum(np.searchsorted(edges, probabilities, side="right") - 1, bins - 1)


def curves(classes: np.ndarray, probabilities: np.ndarray) -> dict[str, list[list[float]] | None]:
    """ROC and precision-recall curves, thinned for a figure.

    Args:
        classes: (N,) of 0 and 1.
        probabilities: (N,) from 0 to 1.

    Returns:
        - roc: [false positive rate, sensitivity] from [0, 0] to [1, 1].
        - pr: [recall, precision] from [0, 1] to recall 1.

        At most 200 points each, evenly chosen including both ends; None if a class is missing. The areas are those of
        `classification_scores`, not of these points.

    Raises:
        ValueError: see `classification_scores`.
    """
    classes, probabilities = _checked(classes, probabilities)
    if not 0 < classes.sum() < len(classes):
        return {"roc": None, "pr": None}
    false_positive_rate, sensitivity, _ = roc_curve(classes, probabilities)
    precision, recall, _ = precision_recall_curve(classes, probabilities, drop_intermediate=True)
    return {"roc": _thinned(false_positive_rate, sensitivity), "pr": _thinned(recall[::-1], precision[::-1])}


def area_bins(areas_mm2: Sequence[float] | np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """Group slices by the size of their lesion.

    Args:
        areas_mm2: tumor area of each slice (N,).

    Returns:
        Lower edge, upper edge and rows (N,) of each bin, smallest first; a bin includes its lower edge. An area below
        50 mm2 is in no bin, since such a slice is neither a tumor slice nor tumor-free.

    >>> [(low, high, rows.tolist()) for low, high, rows in area_bins([0.0, 50.0, 2000.0])][::3]
    [(50.0, 200.0, [False, True, False]), (2000.0, inf, [False, False, True])]
    """
    areas = np.asarray(areas_mm2, dtype=np.float64)
    return [(low, high, (areas >= low) & (areas < high)) for low, high in AREAS_MM2]


def _checked(classes: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes as booleans and probabilities as float64."""
    classes, probabilities = np.asarray(classes), np.asarray(probabilities, dtype=np.float64)
    if classes.ndim != 1 or classes.shape != probabilities.shape:
        raise ValueError(f"classes {classes.shape} and probabilities {probabilities.shape} must be rows of one length")
    if not np.isin(classes, (0, 1)).all():
        raise ValueError("classes must be 0 or 1")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # NaN is neither
        raise ValueError("probabilities must be finite and from 0 to 1")
    return classes.astype(bool), probabilities


def _at_threshold(
    classes: np.ndarray, probabilities: np.ndarray, threshold: float | np.ndarray
) -> dict[str, float | None]:
    called, thresholds = probabilities >= threshold, np.unique(threshold)
    return {
        "threshold": float(thresholds[0]) if len(thresholds) == 1 else None,
        "sensitivity": float(called[classes].mean()) if classes.any() else None,
        "specificity": float((~called)[~classes].mean()) if (~classes).any() else None,
    }


def _specificity_at(least_sensitivity: float, classes: np.ndarray, probabilities: np.ndarray) -> float:
    """Highest specificity of all thresholds that reach a sensitivity; both classes must be present."""
    false_positive_rate, sensitivity, _ = roc_curve(classes, probabilities, drop_intermediate=False)
    return float(1.0 - false_positive_rate[sensitivity >= least_sensitivity].min())


def _brier(classes: np.ndarray, probabilities: np.ndarray) -> float | None:
    return float(brier_score_loss(classes, probabilities)) if len(classes) else None


def _thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """At most `CURVE_POINTS` of a curve's points, evenly chosen by index, including both ends."""
    chosen = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).round().astype(int))
    return [[float(a), float(b)] for a, b in zip(x[chosen], y[chosen], strict=True)]
