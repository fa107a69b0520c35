"""Means of values that may be undefined."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

__all__ = ["mean_defined"]


def mean_defined(values: Iterable[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan
