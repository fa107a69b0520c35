from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_auc_score, roc_curve

from scripts.evaluation.classification_scores import (
    area_bins,
    classification_scores,
    curves,
    expected_calibration_error,
    reliability,
    resampled_scores,
    roc_auc,
)

NEEDS_BOTH = {"roc_auc", "pr_auc", "mcc", "specificity_at_95_sensitivity"}
Rows = list[tuple[bool, float]]
few = settings(deadline=None, max_examples=40)  # scikit-learn's checks take milliseconds a call

# probabilities from a coarse grid, so that there are ties and values on every edge
rows_of_predictions = st.lists(
    st.tuples(st.booleans(), st.integers(0, 20).map(lambda k: k / 20)), min_size=2, max_size=40
)


def arrays_of(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(cls) for cls, _ in rows]), np.array([p for _, p in rows])


def two_classes(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    classes, probabilities = arrays_of(rows)
    assume(0 < classes.sum() < len(classes))
    return classes, probabilities


def score(classes: np.ndarray, probabilities: np.ndarray, threshold: float = 0.5) -> dict[str, Any]:
    return classification_scores(classes, probabilities, threshold, 0.3)


def auc_by_ranks(classes: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of pairs of a positive and a negative in the right order, ties for a half."""
    pairs = list(itertools.product(probabilities[classes > 0], probabilities[classes == 0]))
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def average_precision_by_hand(classes: np.ndarray, probabilities: np.ndarray) -> float:
    """Precision at each threshold from the top, weighted by the recall that it adds."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(probabilities), reverse=True):
        called = probabilities >= threshold
        recall = (called & (classes > 0)).sum() / (classes > 0).sum()
        total += (recall - recall_before) * classes[called].mean()
        recall_before = recall
    return total


def test_a_worked_example() -> None:
    """Called at 0.5: rows 0 and 2, one of them a tumor. Called at 0.3: row 1 as well.

    roc_auc: of 2 * 3 pairs one is in the wrong order. pr_auc: recall 1/2 at precision 1, the rest at precision 2/3.
    mcc = (1 * 2 - 1 * 1) / sqrt(2 * 2 * 3 * 3) = 1/6. brier = (0.01 + 0.36 + 0.25 + 0.04 + 0.01) / 5. ece: each row is
    alone in its bin of ten, so (0.1 + 0.6 + 0.5 + 0.2 + 0.1) / 5. Both positives are found at 0.4, with one negative of
    three. The raw values 1, 0, 1, 0, 0 are wrong twice: brier 2/5; bin [0, 0.1): |0 - 1/3| of 3 rows, bin [0.9, 1]:
    |1 - 1/2| of 2 rows, so ece (1 + 1) / 5.
    """
    classes, probabilities = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.4, 0.5, 0.2, 0.1])
    raw = np.array([1.0, 0.0, 1.0, 0.0, 0.0])
    assert classification_scores(classes, probabilities, 0.5, 0.3, raw) == {
        "n": 5,
        "positives": 2,
        "prevalence": 0.4,
        "roc_auc": pytest.approx(5 / 6),
        "pr_auc": pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        "threshold": 0.5,
        "sensitivity": 0.5,
        "specificity": pytest.approx(2 / 3),  # the negative at the threshold is called
        "confusion": {"tp": 1, "fp": 1, "tn": 2, "fn": 1},
        "mcc": pytest.approx(1 / 6),
        "brier": pytest.approx(0.67 / 5),
        "ece": pytest.approx(1.5 / 5),
        "at_display_threshold": {"threshold": 0.3, "sensitivity": 1.0, "specificity": pytest.approx(2 / 3)},
        "specificity_at_95_sensitivity": pytest.approx(2 / 3),
        "brier_before": pytest.approx(2 / 5),
        "ece_before": pytest.approx(2 / 5),
    }


@pytest.mark.parametrize(
    ("classes", "undefined"),
    [
        ([1.0, 1.0], NEEDS_BOTH | {"specificity"}),
        ([0.0, 0.0], NEEDS_BOTH | {"sensitivity"}),
        ([], NEEDS_BOTH | {"sensitivity", "specificity", "prevalence", "brier", "ece"}),
    ],
)
def test_scores_undefined_for_one_class_are_none(classes: list[float], undefined: set[str]) -> None:
    scores = score(np.array(classes), np.array([0.3, 0.7][: len(classes)]))
    assert {name for name, value in scores.items() if value is None} == undefined
    assert scores["n"] == len(classes) == sum(scores["confusion"].values())
    at_display = scores["at_display_threshold"]
    assert {name for name, value in at_display.items() if value is None} == undefined & {"sensitivity", "specificity"}
    json.dumps(scores, allow_nan=False)


def test_scores_before_scaling_are_given_only_if_known() -> None:
    classes, probabilities = np.array([1, 0]), np.array([0.7, 0.2])
    with_raw = classification_scores(classes, probabilities, 0.5, 0.3, probabilities)
    assert with_raw["brier_before"] == with_raw["brier"] and with_raw["ece_before"] == with_raw["ece"]
    assert {*with_raw} - {*score(classes, probabilities)} == {"brier_before", "ece_before"}


def test_empty_raw_probabilities_have_no_scores() -> None:
    scores = classification_scores(np.array([]), np.array([]), 0.5, 0.3, np.array([]))
    assert scores["brier_before"] is None and scores["ece_before"] is None


@pytest.mark.parametrize("value", [-0.1, 1.0001, math.nan, math.inf, -math.inf])
def test_values_outside_0_to_1_are_refused(value: float) -> None:
    classes, good, bad = np.array([0, 1]), np.array([0.1, 0.2]), np.array([0.5, value])
    for refused in (
        lambda: score(classes, bad),
        lambda: classification_scores(classes, good, 0.5, 0.3, bad),
        lambda: expected_calibration_error(classes, bad),
        lambda: reliability(classes, bad),
        lambda: curves(classes, bad),
    ):
        with pytest.raises(ValueError, match=r"^probabilities must be finite and from 0 to 1$"):
            refused()


@pytest.mark.parametrize("shapes", [(2, 3), (3, 2), (0, 1), ((2, 1), (2, 1)), ((2, 1), 2)])
def test_rows_that_do_not_match_are_refused(shapes: tuple[Any, Any]) -> None:
    classes, probabilities = np.zeros(shapes[0]), np.zeros(shapes[1])
    with pytest.raises(ValueError, match=r"^classes \(.*\) and probabilities \(.*\) must be rows of one length$"):
        score(classes, probabilities)
    with pytest.raises(ValueError, match="must be rows of one length"):
        classification_scores(np.zeros(4), np.zeros(4), 0.5, 0.3, np.zeros(5))


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, math.nan])
def test_invalid_classes_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"^classes must be 0 or 1$"):
        score(np.array([0.0, value]), np.array([0.1, 0.2]))


@few
@given(rows=rows_of_predictions, kind=st.sampled_from([bool, np.int64, np.float32, np.uint8]))
def test_classes_may_be_of_any_number_type(rows: Rows, kind: type) -> None:
    classes, probabilities = arrays_of(rows)
    assert score(classes.astype(kind), probabilities) == score(classes, probabilities)


@few
@given(rows=rows_of_predictions)
def test_areas_equal_the_rank_formula_and_the_sum_over_thresholds(rows: Rows) -> None:
    classes, probabilities = two_classes(rows)
    scores = score(classes, probabilities)
    assert scores["roc_auc"] == pytest.approx(auc_by_ranks(classes, probabilities))
    assert scores["pr_auc"] == pytest.approx(average_precision_by_hand(classes, probabilities))


@few
@given(rows=rows_of_predictions)
def test_areas_depend_only_on_the_order_of_probabilities(rows: Rows) -> None:
    classes, probabilities = two_classes(rows)
    maps = [probabilities, probabilities**3, 1 / (1 + np.exp(-7 * probabilities)), 0.4 + probabilities / 9]
    scores = [score(classes, p) for p in maps]
    for name in ("roc_auc", "pr_auc", "specificity_at_95_sensitivity"):
        assert [s[name] for s in scores] == [pytest.approx(scores[0][name])] * len(maps)
    assert score(1 - classes, 1 - probabilities)["roc_auc"] == pytest.approx(scores[0]["roc_auc"])


@few
@given(rows=rows_of_predictions, data=st.data())
def test_the_order_of_rows_does_not_matter(rows: Rows, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    scores, others = score(*arrays_of(rows)), score(*arrays_of(shuffled))
    flat = [{**s, **s["at_display_threshold"], **s["confusion"]} for s in (scores, others)]
    for name in flat[0].keys() - {"at_display_threshold", "confusion"}:
        assert flat[0][name] == (None if flat[1][name] is None else pytest.approx(flat[1][name]))
    assert curves(*arrays_of(rows)) == curves(*arrays_of(shuffled))


@few
@given(rows=rows_of_predictions, threshold=st.integers(-1, 21).map(lambda k: k / 20))
def test_the_confusion_matrix_is_counted_row_by_row(rows: Rows, threshold: float) -> None:
    classes, probabilities = two_classes(rows)
    scores = score(classes, probabilities, threshold)
    tp = sum(cls and p >= threshold for cls, p in rows)
    fp = sum(not cls and p >= threshold for cls, p in rows)
    fn, tn = sum(cls for cls, _ in rows) - tp, sum(not cls for cls, _ in rows) - fp
    assert scores["confusion"] == {"tp": tp, "fp": fp, "tn": tn, "fn": fn}
    assert scores["sensitivity"] == pytest.approx(tp / (tp + fn))
    assert scores["specificity"] == pytest.approx(tn / (tn + fp))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert scores["mcc"] == pytest.approx((tp * tn - fp * fn) / math.sqrt(product) if product else 0.0)
    at_display = classification_scores(classes, probabilities, 0.5, threshold)["at_display_threshold"]
    assert at_display == {name: scores[name] for name in ("threshold", "sensitivity", "specificity")}


@few
@given(rows=rows_of_predictions)
def test_specificity_at_95_sensitivity_is_the_best_of_all_thresholds(rows: Rows) -> None:
    classes, probabilities = two_classes(rows)
    best = 0.0
    for threshold in [*probabilities, 0.0, 2.0]:
        called = probabilities >= threshold
        if called[classes > 0].sum() * 100 >= 95 * (classes > 0).sum():
            best = max(best, float((~called)[classes == 0].mean()))
    assert score(classes, probabilities)["specificity_at_95_sensitivity"] == pytest.approx(best)


def test_exactly_95_percent_sensitivity_is_enough() -> None:
    """Of 20 positives one lies below all negatives: 19/20 are found without any false alarm."""
    classes = np.array([1.0] * 20 + [0.0] * 10)
    probabilities = np.array([0.1] + [0.9] * 19 + [0.5] * 10)
    assert score(classes, probabilities)["specificity_at_95_sensitivity"] == 1.0
    probabilities[1] = 0.2  # now 18/20, and the next threshold calls every negative too
    assert score(classes, probabilities)["specificity_at_95_sensitivity"] == 0.0


def test_thresholds_within_straight_segments_of_the_curve_are_used() -> None:
    """18 of 20 positives above all; then twice one more with one of four negatives: at 19/20 three of four are left."""
    classes = np.array([1] * 18 + [1, 0] * 2 + [0] * 2)
    probabilities = np.array([0.9] * 18 + [0.8] * 2 + [0.7] * 2 + [0.1] * 2)
    assert score(classes, probabilities)["specificity_at_95_sensitivity"] == 0.75


@few
@given(rows=rows_of_predictions)
def test_brier_is_the_mean_squared_error_and_that_of_scikit_learn(rows: Rows) -> None:
    classes, probabilities = arrays_of(rows)
    brier = score(classes, probabilities)["brier"]
    assert brier == pytest.approx(float(np.mean((probabilities - classes) ** 2)))
    assert brier == pytest.approx(brier_score_loss(classes, probabilities))


def test_calibration_of_a_worked_example() -> None:
    """Bin [0, 0.5): mean (0.1 + 0.2 + 0.3) / 3 = 0.2, observed 1/3. Bin [0.5, 1]: mean 0.75, observed 1/2.

    ece = 3/5 * |0.2 - 1/3| + 2/5 * |0.75 - 0.5| = 0.08 + 0.1.
    """
    classes, probabilities = np.array([0, 1, 0, 0, 1]), np.array([0.1, 0.2, 0.3, 0.5, 1.0])
    assert reliability(classes, probabilities, bins=2) == [
        {
            "low": 0.0,
            "high": 0.5,
            "n": 3,
            "mean_probability": pytest.approx(0.2),
            "observed": pytest.approx(1 / 3),
        },
        {"low": 0.5, "high": 1.0, "n": 2, "mean_probability": 0.75, "observed": 0.5},
    ]
    assert expected_calibration_error(classes, probabilities, bins=2) == pytest.approx(0.18)


@pytest.mark.parametrize("bins", [1, 3, 7, 10, 15])
def test_an_edge_is_in_the_upper_bin_and_1_in_the_last(bins: int) -> None:
    for index in range(bins + 1):
        (row,) = reliability(np.array([1]), np.array([index / bins]), bins)
        expected = min(index, bins - 1)
        assert (row["low"], row["high"]) == (expected / bins, (expected + 1) / bins)


@few
@given(rows=rows_of_predictions, bins=st.integers(1, 20))
def test_every_row_is_in_one_bin_and_means_are_within_its_edges(rows: Rows, bins: int) -> None:
    classes, probabilities = arrays_of(rows)
    table = reliability(classes, probabilities, bins)
    assert sum(row["n"] for row in table) == len(rows) and all(row["n"] > 0 for row in table)
    assert [row["low"] for row in table] == sorted({row["low"] for row in table})
    for row in table:
        inside = [p for p in probabilities if row["low"] <= p and (p < row["high"] or row["high"] == 1.0)]
        assert len(inside) == row["n"] and row["mean_probability"] == pytest.approx(np.mean(inside))
        assert row["low"] <= row["mean_probability"] + 1e-12 and row["mean_probability"] - 1e-12 <= row["high"]
    assert sum(row["n"] * row["observed"] for row in table) == pytest.approx(classes.sum())
    json.dumps(table, allow_nan=False)


@few
@given(rows=rows_of_predictions, bins=st.integers(1, 20))
def test_ece_is_between_the_error_of_the_mean_and_the_mean_error(rows: Rows, bins: int) -> None:
    classes, probabilities = arrays_of(rows)
    error = expected_calibration_error(classes, probabilities, bins)
    assert error is not None
    assert abs(classes.mean() - probabilities.mean()) - 1e-12 <= error <= np.abs(classes - probabilities).mean() + 1e-12
    one_bin = expected_calibration_error(classes, probabilities, 1)
    assert one_bin == pytest.approx(abs(classes.mean() - probabilities.mean()))


@pytest.mark.parametrize(("probability", "error"), [(0.3, 0.0), (0.8, 0.5), (0.0, 0.3), (1.0, 0.7)])
def test_ece_of_a_constant_probability(probability: float, error: float) -> None:
    classes = np.array([1] * 3 + [0] * 7)
    assert expected_calibration_error(classes, np.full(10, probability)) == pytest.approx(error)


def test_no_rows_have_no_calibration() -> None:
    empty = np.array([])
    assert expected_calibration_error(empty, empty) is None and reliability(empty, empty) == []


def test_curves_of_a_worked_example() -> None:
    """From the top: a tumor at 0.9, a negative at 0.5, a tumor at 0.4, a negative at 0.2."""
    drawn = curves(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.5, 0.2]))
    assert drawn["roc"] == [[0.0, 0.0], [0.0, 0.5], [0.5, 0.5], [0.5, 1.0], [1.0, 1.0]]
    assert drawn["pr"] is not None
    assert drawn["pr"][:3] == [[0.0, 1.0], [0.5, 1.0], [0.5, 0.5]]
    assert drawn["pr"][3:] == [[1.0, pytest.approx(2 / 3)], [1.0, 0.5]]


@pytest.mark.parametrize("classes", [[1, 1], [0, 0], []])
def test_one_class_has_no_curves(classes: list[int]) -> None:
    assert curves(np.array(classes), np.array([0.2, 0.6][: len(classes)])) == {"roc": None, "pr": None}


@few
@given(rows=rows_of_predictions)
def test_curves_are_monotonic_and_integrate_to_the_area(rows: Rows) -> None:
    classes, probabilities = two_classes(rows)
    drawn = curves(classes, probabilities)
    assert drawn["roc"] and drawn["pr"]
    assert drawn["roc"][0] == [0.0, 0.0] and drawn["roc"][-1] == [1.0, 1.0]
    assert drawn["pr"][0] == [0.0, 1.0] and drawn["pr"][-1][0] == 1.0
    x, y = np.array(drawn["roc"]).T
    assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all() and (np.diff(np.array(drawn["pr"])[:, 0]) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(score(classes, probabilities)["roc_auc"])


def test_long_curves_are_thinned_reproducibly_with_both_ends() -> None:
    rng = np.random.default_rng(3)
    probabilities = rng.random(5000)
    classes = rng.random(5000) < probabilities
    drawn = curves(classes, probabilities)
    assert drawn == curves(classes, probabilities)
    whole = {
        "roc": np.stack(roc_curve(classes, probabilities)[:2], axis=1),
        "pr": np.stack(precision_recall_curve(classes, probabilities)[1::-1], axis=1)[::-1],
    }
    for name, every in whole.items():
        points = drawn[name]
        assert points is not None and len(points) == 200 < len(every)
        assert points[0] == every[0].tolist() and points[-1][0] == every[-1][0] == 1.0
        assert {tuple(point) for point in points} <= {tuple(point) for point in every.tolist()}
    area = np.trapezoid(*np.array(drawn["roc"]).T[::-1])
    assert area == pytest.approx(score(classes, probabilities)["roc_auc"], abs=0.005)


def test_area_bins_include_their_lower_edge() -> None:
    areas = [0.0, 49.999, 50.0, 199.999, 200.0, 799.999, 800.0, 1999.999, 2000.0, 9000.0, math.nan]
    assert {(low, high): np.flatnonzero(rows).tolist() for low, high, rows in area_bins(areas)} == {
        (50.0, 200.0): [2, 3],
        (200.0, 800.0): [4, 5],
        (800.0, 2000.0): [6, 7],
        (2000.0, math.inf): [8, 9],
    }


@few
@given(areas=st.lists(st.floats(0, 5000), max_size=30))
def test_every_area_from_50_on_is_in_one_bin(areas: list[float]) -> None:
    bins = area_bins(np.array(areas))
    counts = np.sum([rows for _, _, rows in bins], axis=0)
    assert counts.tolist() == [int(area >= 50) for area in areas]
    assert all(rows.dtype == bool and rows.shape == (len(areas),) for _, _, rows in bins)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 9999), n=st.integers(1, 40), levels=st.sampled_from([3, 10, 1000]))
def test_resampled_scores_equal_the_scores_of_the_sampled_rows(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    classes, probabilities = rng.integers(2, size=n), rng.integers(levels + 1, size=n) / levels
    points = rng.choice([0.3, 0.5], size=n)
    rows = rng.integers(n, size=n)
    found = resampled_scores(classes, probabilities, points)(rows)
    expected = classification_scores(classes[rows], probabilities[rows], points[rows], 0.3)
    for name, value in found.items():
        assert value == (None if expected[name] is None else pytest.approx(expected[name], abs=1e-9)), name


def test_auc_by_ranks_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, scores = rng.random(30) < 0.4, rng.integers(0, 6, 30).astype(float)
        assert roc_auc(positive, scores) == pytest.approx(roc_auc_score(positive, scores))
    assert np.isnan(roc_auc(np.ones(3, bool), np.arange(3.0))) and np.isnan(roc_auc(np.ones(0, bool), np.ones(0)))
