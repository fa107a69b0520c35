"""Numbers with their intervals, as the report puts them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["mean", "mean_of_folds", "negated", "ratio_of_folds"]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of_folds(values: Iterable[float | None], limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Mean of what is known, and its interval over the folds, see `ratio_of_folds`.

    Args:
        values: of each fold.
        limits: between which every value lies; the interval ends there.

    Returns:
        "value", None where nothing is known; "ci95", None below two folds; "n" folds.
    """
    known = [value for value in values if value is not None]
    value, bounds = ratio_of_folds(known, [1.0] * len(known))
    if limits is not None and bounds is not None:
        bounds = [min(max(bound, limits[0]), limits[1]) for bound in bounds]
    return {"value": value, "ci95": bounds, "n": len(known)}


def ratio_of_folds(above: Sequence[float], below: Sequence[float]) -> tuple[float | None, list[float] | None]:
    """Ratio of two sums over folds, and its 95 % interval by Student's t and the jackknife over folds.

    A handful of folds is too few for a bootstrap, whose intervals come out too narrow; of a mean this is the usual t
    interval.

    Args:
        above: of each fold.
        below: of each fold, positive.

    Returns:
        The ratio, None without folds; the interval, None below two.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.
    """
    import numpy as np
    from scipy.stats import t

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
    margin = float(t.ppf(0.975, count - 1) * error)
    return ratio, [ratio - margin, ratio + margin]


def negated(bounds: Sequence[float] | None) -> list[float] | None:
    """The interval of a difference, where it is taken the other way round."""
    return [-bounds[1], -bounds[0]] if bounds else None
