"""Baselines of the shortcut audit, and statistics that several parts of it use; without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..evaluation.intervals import bootstrap

__all__ = ["estimates", "forest", "out_of_fold", "probe"]

FOLDS = 5


def estimates(
    groups: np.ndarray, statistic: Callable[[np.ndarray], Mapping[str, float]], seed: int, resamples: int
) -> dict[str, dict[str, Any]]:
    """Named numbers of grouped rows with their intervals.

    Args:
        groups: patient or cluster of each row (N,).
        statistic: from row indices (M,) to named numbers, NaN where undefined.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        By name {"value", "ci95": [low, high]}, None where undefined.
    """
    intervals = bootstrap(groups.tolist(), statistic, resamples, seed)
    return {
        name: {"value": float(value) if math.isfinite(value) else None, "ci95": intervals.get(name)}
        for name, value in statistic(np.arange(len(groups))).items()
    }


def forest(seed: int) -> ClassifierMixin:
    """A random forest, for few properties."""
    return RandomForestClassifier(n_estimators=100, min_samples_leaf=2, random_state=seed)


def probe(seed: int) -> ClassifierMixin:
    """A linear classifier of features (linear probe)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))


def out_of_fold(
    model: ClassifierMixin, inputs: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray | None:
    """Probabilities of each class by grouped cross-validation.

    Args:
        model: unfitted; a copy is fitted in every fold.
        inputs: (N, F).
        labels: (N,) of K values.
        groups: patient or cluster of each row (N,).
        seed: of the folds.

    Returns:
        (N, K), classes in sorted order; None with fewer than two classes, or if one has fewer than two groups.
    """
    names, codes = np.unique(labels, return_inverse=True)
    folds = min([FOLDS, *(len(set(groups[codes == code])) for code in range(len(names)))])
    if len(names) < 2 or folds < 2:
        return None
    probabilities = np.full((len(labels), len(names)), 1.0 / len(names))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(inputs, codes, groups):
        if len(set(codes[train])) > 1:  # the training part of a fold may have one class only
            fitted = clone(model).fit(inputs[train], codes[train])
            probabilities[np.ix_(test, fitted.classes_)] = fitted.predict_proba(inputs[test])
    return probabilities
