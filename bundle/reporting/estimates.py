"""Means with their intervals, for the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..core import statistics

__all__ = ["mean", "mean_of_folds", "negated"]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the known values."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of_folds(values: Iterable[float | None], limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Mean of the known values and its interval over the folds, see `ratio_of_folds`.

    Args:
        values: of each fold.
        limits: smallest and largest possible value; the interval is clipped to them.

    Returns:
        "value", None without values; "ci95", None below two folds; "n": number of folds.
    """
    known = [value for value in values if value is not None]
    value, bounds = statistics.ratio_of_folds(known, [1.0] * len(known))
    if limits is not None and bounds is not None:
        bounds = [min(max(bound, limits[0]), limits[1]) for bound in bounds]
    return {"value": value, "ci95": bounds, "n": len(known)}


def negated(bounds: Sequence[float] | None) -> list[float] | None:
    """The interval of the negative difference."""
    return [-bounds[1], -bounds[0]] if bounds else None
