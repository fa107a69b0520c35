"""Temperature and operating point are fitted as written, on validation only, and carried beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from scripts.core.files import sha256_of
from scripts.evaluation.calibration import (
    fit_calibration,
    fit_decision,
    fit_operating_point,
    fit_temperature,
    with_evidence_of_others,
    write_decision,
)
from scripts.inference.decision import Calibration, Decision, decision_of

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)


def sample(temperature: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn from the probabilities that logits of this temperature mean."""
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=3.0, size=n)
    return (rng.random(n) < expit(logits / temperature)).astype(float), logits


def rows(kind: str, classes: np.ndarray, logits: np.ndarray, source: str = "s") -> list[dict[str, Any]]:
    return [
        {"kind": kind, "source": source, "group": f"g{i}", "case": f"c{i}", "cls": float(cls), "logit": float(logit)}
        for i, (cls, logit) in enumerate(zip(classes, logits, strict=True))
    ]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_true_temperature_is_recovered(temperature: float) -> None:
    assert fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.1)


def test_temperature_is_the_most_likely_one() -> None:
    classes, logits = sample(2.0, 60)

    def loss(temperature: float) -> float:
        return float(-np.log(expit(np.where(classes > 0.5, logits, -logits) / temperature).clip(1e-300)).mean())

    best = fit_temperature(classes, logits)
    assert loss(best) <= min(loss(t) for t in np.geomspace(0.06, 19, 200)) + 1e-6


@PROPERTY
@given(
    positives=st.lists(st.floats(0, 1), min_size=1, max_size=30),
    negatives=st.lists(st.floats(0, 1), max_size=30),
    target=st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]),
)
def test_operating_point_is_the_highest_that_reaches_its_target(
    positives: list[float], negatives: list[float], target: float
) -> None:
    classes = np.array([1.0] * len(positives) + [0.0] * len(negatives))
    probabilities = np.array(positives + negatives)
    point = fit_operating_point(classes, probabilities, target)
    sensitivity = (np.array(positives) >= point).mean()
    assert sensitivity >= target - 1e-9
    higher = [p for p in positives if p > point + 1e-5]
    assert all((np.array(positives) >= p).mean() < target - 1e-9 for p in higher)


def test_a_fitted_calibration_contains_its_evidence() -> None:
    classes, logits = sample(2.0, 300)
    fitted = fit_calibration(classes, logits, [f"g{i // 3}" for i in range(300)], 0.9, 0.3, "validation", 200)
    called = expit(logits / fitted.temperature) >= fitted.operating_point
    evidence = fitted.evidence
    assert evidence["sensitivity"] == called[classes > 0.5].mean() >= 0.9
    assert evidence["specificity"] == (~called)[classes < 0.5].mean()
    assert (evidence["n"], evidence["groups"], evidence["positives"]) == (300, 100, int(classes.sum()))
    for name, value in (("temperature", fitted.temperature), ("operating_point", fitted.operating_point)):
        low, high = evidence["ci95"][name]
        assert low <= value <= high and low < high
    assert set(evidence["at_display_threshold"]) == {"sensitivity", "specificity"}  # never one without the other


def test_one_class_cannot_be_fitted_and_is_reported() -> None:
    fitted = fit_calibration(np.ones(5), np.arange(5.0), list("abcde"), 0.95, 0.3, "validation: 5 images")
    assert fitted == Calibration(fitted_on="nothing: one class only in validation: 5 images")


def test_images_and_volumes_are_fitted_separately() -> None:
    (c1, l1), (c2, l2) = sample(1.0, 400), sample(3.0, 400)
    fitted = fit_decision([*rows("image", c1, l1), *rows("volume", c2, l2)], Decision(top_slices=7), 0.95, "val", 0)
    assert fitted.image.temperature < 1.5 < 2.0 < fitted.volume.temperature and fitted.top_slices == 7
    assert fitted.image.fitted_on == "val: 400 images of 400 clusters"
    assert fitted.volume.fitted_on == "val: 400 slices of 400 patients"


def test_slices_without_a_class_or_a_prediction_are_not_fitted_on() -> None:
    predictions = rows("volume", *sample(1.0, 50))
    unknown = [{**predictions[0], "cls": None}, {**predictions[1], "logit": None}]
    alone, together = (fit_decision(a, Decision(), 0.95, "val", 0) for a in (predictions, predictions + unknown))
    assert alone == together


def test_a_fitted_decision_is_read_for_its_weights_only(tmp_path: Path) -> None:
    weights, predictions = tmp_path / "model.pt", tmp_path / "predictions.json"
    weights.write_bytes(b"weights")
    content = [*rows("image", *sample(2.0, 80)), *rows("volume", *sample(0.7, 80))]
    predictions.write_text(json.dumps({"facts": {"subset": "val"}, "predictions": content}))
    write_decision(predictions, weights, Decision(), 0.9)
    found = decision_of(weights)
    assert found.image.temperature > 1.2 and found.image.evidence["target_sensitivity"] == 0.9
    assert found.image.fitted_on.startswith("validation")
    weights.write_bytes(b"other weights")
    assert decision_of(weights) == Decision()


def test_a_new_decision_keeps_the_list_of_training_cases(tmp_path: Path) -> None:
    weights, predictions, report = (tmp_path / name for name in ("model.pt", "predictions.json", "report.json"))
    weights.write_bytes(b"weights")
    model = {"sha256": sha256_of(weights), "network_name": "base", "trained_on": {"kaggle/1": {"subset": "train"}}}
    report.write_text(json.dumps({"model": model, "segmentation": {"n": 1}}))
    content = [*rows("image", *sample(2.0, 80)), *rows("volume", *sample(0.7, 80))]
    predictions.write_text(json.dumps({"facts": {"subset": "val"}, "predictions": content}))
    write_decision(predictions, weights, Decision(), 0.9)
    written = json.loads(report.read_text())
    assert written["model"] == model and written.keys() == {"schema_version", "model", "decision"}


def test_nothing_is_fitted_on_test_cases(tmp_path: Path) -> None:
    weights, predictions = tmp_path / "model.pt", tmp_path / "predictions.json"
    weights.write_bytes(b"weights")
    predictions.write_text(json.dumps({"facts": {"subset": "test"}, "predictions": rows("image", *sample(2.0, 80))}))
    with pytest.raises(
        ValueError, match=r"predictions\.json: predictions of subset 'test', calibrate with --subset val"
    ):
        write_decision(predictions, weights, Decision(), 0.9)
    assert not (tmp_path / "report.json").exists()


def test_evidence_is_of_out_of_fold_predictions() -> None:
    """By hand: at 0.5 three of four predictions are called right, at the others' 0.9 two."""
    predictions = [
        {"case": str(i), "kind": "image", "source": "a", "group": str(i), "cls": cls, "logit": logit}
        for i, (cls, logit) in enumerate([(1, 3.0), (1, 1.0), (0, 1.0), (0, -2.0)])
    ]
    fitted = Decision(image=Calibration(1.0, 0.5, "all", {"n": 4, "sensitivity": 1.0, "specificity": 0.5}))
    per_fold_decisions = {str(i): Decision(image=Calibration(1.0, 0.9)) for i in range(4)}
    found = with_evidence_of_others(fitted, predictions, per_fold_decisions).image
    assert (found.evidence["sensitivity"], found.evidence["specificity"], found.evidence["n"]) == (0.5, 1.0, 4)
    assert found.evidence["at_display_threshold"] == {"sensitivity": 1.0, "specificity": 0.5}
    assert (found.temperature, found.operating_point) == (1.0, 0.5), "what decides stays"
    assert with_evidence_of_others(Decision(), predictions, per_fold_decisions) == Decision(), "nothing was fitted"
