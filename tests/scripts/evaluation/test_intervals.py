"""Intervals come from whole patients, and say nothing where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from scripts.evaluation.intervals import bootstrap, interval_of_mean, paired_difference

VALUES = np.random.default_rng(0).normal(size=60)


def mean_of(values: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda rows: {"mean": float(values[rows].mean())}


def test_the_interval_of_a_mean_equals_a_textbook_example() -> None:
    low, high = bootstrap(range(60), mean_of(VALUES), 4000)["mean"] or [0.0, 0.0]
    error = VALUES.std(ddof=0) / np.sqrt(60)
    assert low == pytest.approx(VALUES.mean() - 1.96 * error, abs=0.03)
    assert high == pytest.approx(VALUES.mean() + 1.96 * error, abs=0.03)


def test_slices_of_one_patient_do_not_make_the_interval_narrower() -> None:
    patients = np.repeat(VALUES[:8], 20)  # each patient's slices agree
    groups = np.repeat([f"patient {i}" for i in range(8)], 20).tolist()
    grouped = bootstrap(groups, mean_of(patients), 1000)["mean"] or [0.0, 0.0]
    alone = bootstrap(range(8), mean_of(VALUES[:8]), 1000)["mean"] or [0.0, 0.0]
    naive = bootstrap(range(160), mean_of(patients), 1000)["mean"] or [0.0, 0.0]
    assert grouped == pytest.approx(alone, abs=1e-9)
    assert np.ptp(naive) < 0.5 * np.ptp(grouped)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(order=st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    groups = [f"g{i // 2}" for i in range(12)]
    values = VALUES[:12]
    shuffled = bootstrap([groups[i] for i in order], mean_of(values[order]), 50)["mean"]
    assert shuffled == pytest.approx(bootstrap(groups, mean_of(values), 50)["mean"], abs=1e-12)


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    first, again = (bootstrap(range(60), mean_of(VALUES), 200, seed=1)["mean"] for _ in range(2))
    assert first == again != bootstrap(range(60), mean_of(VALUES), 200, seed=2)["mean"]


def test_one_patient_has_no_interval() -> None:
    assert bootstrap(["a", "a", "a"], mean_of(VALUES[:3])) == {}


def test_undefined_resamples_are_left_out_and_too_many_give_no_interval() -> None:
    seldom = bootstrap(range(20), lambda rows: {"x": None if 0 in rows[:5] else 1.0}, 400)
    mostly = bootstrap(range(20), lambda rows: {"x": 1.0 if 0 in rows[:5] else float("nan")}, 400)
    assert seldom == {"x": [1.0, 1.0]} and mostly == {"x": None}


def test_a_mean_of_few_values_has_students_t_interval() -> None:
    """Student's table: 2.776 for five; scipy's own interval agrees."""
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    low, high = interval_of_mean(values) or [0.0, 0.0]
    assert (low, high) == (pytest.approx(0.3 - 2.776 * 0.070711, abs=1e-4), pytest.approx(0.4963, abs=1e-4))
    assert [low, high] == pytest.approx(list(ttest_1samp(values, 0.0).confidence_interval(0.95)))
    assert interval_of_mean([0.9, 1.0, 0.8, 1.0], (0.0, 1.0))[1] == 1.0  # type: ignore[index]
    assert interval_of_mean([0.5]) is None and interval_of_mean([0.5, 0.5]) == [0.5, 0.5]


def test_a_model_better_for_every_patient_is_not_inferior() -> None:
    first = {f"p{i}": 0.5 + 0.01 * i for i in range(9)}
    second = {patient: dice + 0.02 for patient, dice in first.items()}
    found = paired_difference(first, second, 0.01)
    assert found["mean_difference"] == pytest.approx(0.02) and found["better"] == found["n"] == 9
    assert found["non_inferior"] is True and found["ci95"] == pytest.approx([0.02, 0.02])


def test_few_noisy_patients_do_not_show_non_inferiority() -> None:
    first = dict(zip("abcdefg", [0.8, 0.7, 0.9, 0.6, 0.5, 0.8, 0.9], strict=True))
    second = dict(zip("abcdefg", [0.9, 0.6, 0.9, 0.7, 0.4, 0.8, 0.9], strict=True))
    found = paired_difference(first, second, 0.01)
    assert found["mean_difference"] == pytest.approx(0.0) and found["non_inferior"] is False


def test_a_single_patient_does_not_show_non_inferiority() -> None:
    assert paired_difference({"a": 0.5}, {"a": 0.9}, 0.01)["non_inferior"] is None


def test_different_patients_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different patients"):
        paired_difference({"a": 0.5}, {"b": 0.5}, 0.01)
