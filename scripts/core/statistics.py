"""Means over patients or folds, and their 95 % intervals by Student's t."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.stats import sem, t

__all__ = ["interval_of_mean", "mean_defined", "quantile_of_t", "ratio_of_folds"]


def mean_defined(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN if there are none."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def interval_of_mean(
    values: Sequence[float], limits: tuple[float, float] = (-math.inf, math.inf)
) -> list[float] | None:
    """95 % interval of a mean by Student's t.

    Args:
        values: one per patient.
        limits: smallest and largest possible value; the interval is clipped to them.

    Returns:
        [low, high]; None below two patients.
    """
    if len(values) < 2:
        return None
    return _interval(float(np.mean(values)), float(sem(values)), len(values), limits)


def ratio_of_folds(above: Sequence[float], below: Sequence[float]) -> tuple[float | None, list[float] | None]:
    """Ratio of two sums over folds, and its 95 % interval by Student's t and the jackknife over folds.

    With few folds a bootstrap gives too narrow intervals. For a mean this is the usual t interval.

    Args:
        above: numerator of each fold.
        below: denominator of each fold, positive.

    Returns:
        The ratio, None without folds; the interval, None below two.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.
    """
    count = len(above)
    if not count:
        return None, None
    folds = np.array([above, below], dtype=np.float64)
    total = folds.sum(axis=1, keepdims=True)
    ratio = float(total[0, 0] / total[1, 0])
    if count < 2:
        return ratio, None
    without = np.divide(*(total - folds))  # the ratio without each fold
    error = np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum())
    return ratio, _interval(ratio, float(error), count)


def quantile_of_t(freedom: int) -> float:
    """Half width of a 95 % interval by Student's t, in standard errors.

    >>> round(quantile_of_t(10), 3)
    2.228
    """
    return float(t.ppf(0.975, freedom))


def _interval(
    mean: float, error: float, count: int, limits: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """Mean minus and plus the standard error times Student's t quantile, clipped to limits."""
    margin = quantile_of_t(count - 1) * error
    return [float(bound) for bound in np.clip([mean - margin, mean + margin], *limits)]
