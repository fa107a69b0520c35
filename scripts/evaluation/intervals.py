"""95 % confidence intervals, over patients and clusters, never over slices.

Means over patients have Student's t intervals, since a percentile bootstrap of few patients is too narrow. AUCs, shares
and other scores are bootstrapped.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core.statistics import interval_of_mean
from .classification_scores import roc_auc

__all__ = [
    "RESAMPLES",
    "auc_within_folds",
    "bootstrap",
    "interval_of_mean",
    "mean_over",
    "paired_difference",
    "patient_scores",
]

RESAMPLES = 2000


def bootstrap(
    groups: Sequence[Hashable],
    statistic: Callable[[np.ndarray], Mapping[str, float | None]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95 % percentile intervals of statistics of grouped data.

    Whole groups are sampled with replacement: slices of one patient, or near-duplicates of one image, are not
    independent, and intervals that ignore this are too narrow.

    Args:
        groups: the patient or cluster of each row (N,).
        statistic: from row indices (M,), with repetitions, to named numbers; None or NaN if undefined.
        resamples: number of resamples.
        seed: of the resampling.

    Returns:
        [low, high] by name. None with fewer than two groups, or if the statistic is undefined in at least half of the
        resamples; resamples in which it is undefined are left out.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; Field and Welsh, Bootstrapping
        clustered data, J. R. Stat. Soc. B 69, 2007.
    """
    names, member_of = np.unique([str(group) for group in groups], return_inverse=True)
    rows = [np.flatnonzero(member_of == index) for index in range(len(names))]
    rng = np.random.default_rng(seed)
    sampled: dict[str, list[float]] = {}
    for _ in range(resamples if len(rows) > 1 else 0):
        chosen = np.concatenate([rows[index] for index in rng.integers(len(rows), size=len(rows))])
        for name, value in statistic(chosen).items():
            sampled.setdefault(name, []).append(math.nan if value is None else float(value))
    return {name: _interval(np.array(values)) for name, values in sampled.items()}


def _interval(values: np.ndarray) -> list[float] | None:
    known = values[np.isfinite(values)]
    if 2 * len(known) <= len(values):
        return None
    return [float(bound) for bound in np.percentile(known, [2.5, 97.5])]


def paired_difference(first: Mapping[str, float], second: Mapping[str, float], margin: float) -> dict[str, Any]:
    """Compare two models on the same patients (non-inferiority of the second).

    Args:
        first: score of each patient, higher is better.
        second: scores of the same patients by the other model.
        margin: largest loss that counts as "not worse", set in advance.

    Returns:
        n, mean_difference (second - first), ci95, margin, better and worse (number of patients), and non_inferior:
        whether the interval's lower bound is above -margin; None for a single patient.

    Raises:
        ValueError: when the models were scored on different patients.
    """
    if first.keys() != second.keys():
        raise ValueError(f"scored on different patients: {sorted(first.keys() ^ second.keys())[:3]}")
    patients = sorted(first)
    gains = np.array([second[patient] - first[patient] for patient in patients])
    interval = interval_of_mean(gains.tolist())
    return {
        "n": len(patients),
        "mean_difference": float(gains.mean()) if len(gains) else None,
        "ci95": interval,
        "better": int((gains > 0).sum()),
        "worse": int((gains < 0).sum()),
        "margin": margin,
        "non_inferior": interval[0] > -margin if interval else None,
    }


def patient_scores(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    """One score per patient: the mean over the patient's volumes; patients without a score are left out."""
    scores: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row[name] is not None:
            scores[row["patient"]].append(row[name])
    return {patient: float(np.mean(values)) for patient, values in scores.items()}


def mean_over(scores: Mapping[str, float], highest: float = 1.0) -> tuple[float | None, list[float] | None]:
    """Mean of the patients' scores, which are at least 0, and its interval."""
    values = list(scores.values())
    return (float(np.mean(values)) if values else None), interval_of_mean(values, (0.0, highest))


def auc_within_folds(
    classes: np.ndarray, scores: np.ndarray, folds: Sequence[int] | np.ndarray
) -> Callable[[np.ndarray], dict[str, float | None]]:
    """Prepare the mean over folds of the ROC-AUC within each; folds with one class are left out.

    Each fold has its own network with its own scale of logits, so that a pooled ROC-AUC can be too low. In a bootstrap
    a fold is weighted by its number of sampled rows: if each patient is a fold, one that is sampled twice counts twice.

    Args:
        classes: (N,) of 0 and 1.
        scores: (N,) from 0 to 1.
        folds: (N,).

    Returns:
        From row indices (M,) to {"roc_auc"}.
    """
    fold_of, positive = np.asarray(folds), classes > 0.5
    size = {fold: int((fold_of == fold).sum()) for fold in np.unique(fold_of)}

    def score(rows: np.ndarray) -> dict[str, float | None]:
        parts = {fold: rows[fold_of[rows] == fold] for fold in np.unique(fold_of[rows])}
        aucs = {fold: roc_auc(positive[part], scores[part]) for fold, part in parts.items()}
        known = [fold for fold, auc in aucs.items() if not math.isnan(auc)]
        drawn = [len(parts[fold]) / size[fold] for fold in known]
        return {"roc_auc": float(np.average([aucs[fold] for fold in known], weights=drawn)) if known else None}

    return score
