"""The features of a slice's look: what is computed faster here is what numpy and scipy compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scripts.inference.look_features import FOLDS, _extremes, _quantiles


@pytest.mark.parametrize("size", FOLDS)
@pytest.mark.parametrize(
    ("choose", "reference"), [(np.minimum, ndimage.minimum_filter), (np.maximum, ndimage.maximum_filter)]
)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_the_extremes_are_those_of_scipy(
    size: int, choose: np.ufunc, reference: Any, height: int, width: int, seed: int
) -> None:
    levels = np.random.default_rng(seed).normal(size=(height, width)).round(1)
    assert np.array_equal(_extremes(levels, size, choose), reference(levels, size))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_the_quantiles_are_those_of_numpy(values: list[float], shares: list[float]) -> None:
    assert _quantiles(np.array(values), shares) == np.quantile(values, shares).tolist()
