"""Thresholds of "no tumor" keep their bound on the share of missed tumors as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, binom

from scripts.evaluation.miss_rate import THRESHOLDS, fit_bounds, fit_threshold, tumors_needed
from scripts.inference.decision import Calibration, Decision

pytest.importorskip("mapie")


@pytest.mark.parametrize(("miss_rate", "confidence", "n"), [(0.1, 0.9, 40), (0.1, 0.9, 150), (0.2, 0.8, 60)])
def test_repeated_splits_break_the_bound_at_most_as_often_as_allowed(
    miss_rate: float, confidence: float, n: int
) -> None:
    """The true share of tumors below each fitted threshold is known: the scores are drawn from a distribution."""
    rng, scores = np.random.default_rng(7), beta(2.0, 2.0)
    repetitions = 300
    fitted = [fit_threshold(scores.rvs(n, random_state=rng), miss_rate, confidence) for _ in range(repetitions)]
    broken = sum(found is not None and scores.cdf(found) > miss_rate for found in fitted)
    assert broken <= binom.ppf(0.999, repetitions, 1.0 - confidence)
    assert any(found is not None for found in fitted), "a bound that is never given is of no use"


def test_more_tumors_allow_a_higher_threshold() -> None:
    scores = beta(2.0, 2.0)
    few, many = (fit_threshold(scores.ppf((np.arange(n) + 0.5) / n), 0.1, 0.9) for n in (40, 2000))
    best = THRESHOLDS[scores.cdf(THRESHOLDS) <= 0.1].max()
    assert (few or 0.0) < (many or 0.0) <= best and many == pytest.approx(best, abs=0.02)


def test_with_too_few_tumors_there_is_none() -> None:
    needed = tumors_needed(0.1, 0.9)
    assert fit_threshold(np.full(needed - 1, 0.9), 0.1, 0.9) is None
    assert fit_threshold(np.full(needed, 0.9), 0.1, 0.9) == THRESHOLDS[-1]
    assert fit_threshold(np.full(needed, 0.001), 0.1, 0.9) is None


def image(case: int, source: str, cls: float, logit: float, group: str = "") -> dict[str, Any]:
    own = {"case": f"{source}/{case}", "source": source, "kind": "image", "slice": 0, "cls": cls, "logit": logit}
    return {**own, "group": group or f"{source}/{case}"}


def test_each_source_has_its_bound_and_each_cluster_counts_once() -> None:
    large = [image(i, "large", 1.0, 3.0) for i in range(30)] + [image(100 + i, "large", 0.0, -3.0) for i in range(5)]
    small = [image(i, "small", 1.0, 3.0, group="one") for i in range(30)] + [image(99, "small", 1.0, -4.0, "one")]
    found = fit_bounds([*large, *small], Decision(image=Calibration(temperature=2.0)))
    populations = found["populations"]
    assert (found["miss_rate"], found["confidence"]) == (0.1, 0.9)
    assert populations["large"]["tumors"] == 30 and populations["large"]["threshold"] == THRESHOLDS[-1]
    assert populations["large"]["needed"] is None and len(populations["large"]["probabilities"]) == 35
    assert populations["small"]["tumors"] == 1 and populations["small"]["threshold"] is None
    assert populations["small"]["needed"] == 22


def test_volumes_count_as_a_whole() -> None:
    def slices(case: int, cls: float, logit: float) -> list[dict[str, Any]]:
        own = {"case": f"lgg/{case}", "source": "lgg", "kind": "volume", "group": f"patient {case // 2}", "cls": cls}
        return [{**own, "slice": number, "logit": logit, "tumor_mm2": 100.0 * cls} for number in range(4)]

    rows = [row for case in range(60) for row in slices(case, 1.0, 2.0)] + slices(99, 0.0, -2.0)
    found = fit_bounds(rows, Decision())["populations"]["lgg"]
    assert (found["kind"], found["tumors"], len(found["probabilities"])) == ("volume", 30, 61)
    assert found["threshold"] == THRESHOLDS[-1]
