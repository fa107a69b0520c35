"""Numbers with their intervals, as the report puts them together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..core import statistics

__all__ = ["mean", "mean_of_folds", "negated"]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def mean_of_folds(values: Iterable[float | None], limits: tuple[float, float] | None = None) -> dict[str, Any]:
    """Mean of what is known, and its interval over the folds, see `core.statistics.ratio_of_folds`.

    Args:
        values: of each fold.
        limits: between which every value lies; the interval ends there.

    Returns:
        "value", None where nothing is known; "ci95", None below two folds; "n" folds.
    """
    known = [value for value in values if value is not None]
    value, bounds = statistics.ratio_of_folds(known, [1.0] * len(known))
    if limits is not None and bounds is not None:
        bounds = [min(max(bound, limits[0]), limits[1]) for bound in bounds]
    return {"value": value, "ci95": bounds, "n": len(known)}


def negated(bounds: Sequence[float] | None) -> list[float] | None:
    """The interval of a difference, where it is taken the other way round."""
    return [-bounds[1], -bounds[0]] if bounds else None
