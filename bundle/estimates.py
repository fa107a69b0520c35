"""Numbers with their intervals, as the report puts them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["mean", "mean_of_folds", "negated", "ratio_of_folds"]

RESAMPLES = 2000


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of_folds(values: Iterable[float | None]) -> dict[str, Any]:
    """Mean of what is known, and its interval over the folds, see `ratio_of_folds`.

    Returns:
        "value", None where nothing is known; "ci95", None below two folds; "n" folds.
    """
    known = [value for value in values if value is not None]
    value, bounds = ratio_of_folds(known, [1.0] * len(known))
    return {"value": value, "ci95": bounds, "n": len(known)}


def ratio_of_folds(above: Sequence[float], below: Sequence[float]) -> tuple[float | None, list[float] | None]:
    """Ratio of two sums over folds, and its 95 % percentile interval by a bootstrap of the folds.

    Args:
        above: of each fold.
        below: of each fold, positive.

    Returns:
        The ratio, None without folds; the interval, None below two.

    Reference:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    import numpy as np

    if not above:
        return None, None
    folds, rng = np.array([above, below], dtype=np.float64), np.random.default_rng(0)
    drawn = folds[:, rng.integers(len(above), size=(RESAMPLES, len(above)))].sum(axis=2)  # (2, RESAMPLES)
    bounds = np.percentile(drawn[0] / drawn[1], [2.5, 97.5]) if len(above) > 1 else ()
    ratio = folds[0].sum() / folds[1].sum()
    return float(ratio), [float(bound) for bound in bounds] or None


def negated(bounds: Sequence[float] | None) -> list[float] | None:
    """The interval of a difference, where it is taken the other way round."""
    return [-bounds[1], -bounds[0]] if bounds else None
