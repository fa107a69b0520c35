"""Baselines of the shortcut audit: classifiers that see no lesion, only file properties, gray levels or features.

Also statistics that several parts of the audit use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..evaluation.intervals import bootstrap
from ..io.readers import UnreadableImageError, decode_raster
from ..transforms.preprocessing import BRIGHTEST, DARKEST, TISSUE

__all__ = ["estimates", "file_properties", "forest", "gray_levels", "out_of_fold", "probe"]

FOLDS = 5
GRAY_BINS = 32


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


def file_properties(paths: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Properties of image files that do not depend on the head.

    Args:
        paths: of PNG and JPEG files; missing and unreadable ones are allowed.

    Returns:
        float64 (N, 6): height and width (pixels), width / height, index of the suffix, bytes per pixel, mean gray level
        (0 to 255) of the outermost pixels; boolean (N,): readable files, the other rows are 0.
    """
    suffixes = sorted({Path(path).suffix for path in paths})
    properties, readable = np.zeros((len(paths), 6)), np.zeros(len(paths), dtype=bool)
    for row, path in enumerate(map(Path, paths)):
        try:
            plane = decode_raster(path)[0][0, :, :, 0]
            size = path.stat().st_size
        except (UnreadableImageError, OSError):
            continue
        height, width = plane.shape
        border = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]]).mean()
        suffix = suffixes.index(path.suffix)
        properties[row] = height, width, width / height, suffix, size / plane.size, border
        readable[row] = True
    return properties, readable


def gray_levels(image: np.ndarray) -> np.ndarray:
    """Share of an image's tissue in each of 32 ranges of gray levels: float64 (32 * C,).

    Args:
        image: (C, H, W), input of the network; all shares are 0 without tissue.
    """
    inside = (image > TISSUE).any(axis=0)
    edges = np.linspace(DARKEST, BRIGHTEST, GRAY_BINS + 1)
    counts = [np.histogram(np.clip(plane[inside], DARKEST, BRIGHTEST), edges)[0] for plane in image]
    return np.concatenate(counts) / max(1, int(inside.sum()))


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
