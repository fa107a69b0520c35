"""What a report says follows from the predictions alone, and an outsider's ten lines find the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from scripts.evaluation.intervals import auc_within_folds
from scripts.evaluation.reports import make_report, of_learned, patient_scores, pool
from scripts.inference.decision import Calibration, Decision

Row = dict[str, Any]
DICE = {"brats/A": 0.9, "brats/B": 0.5}


def volume(case: str, dice: float | None, patient: str | None = None) -> Row:
    scores = dict.fromkeys(["dice", "iou", "hd95_mm"], dice)
    return {"id": case, "source": "brats", "patient": patient or case, **scores, "reference_ml": 1.0}


def slices(case: str, areas: list[float], logits: list[float], drawn: list[float] | None = None) -> list[Row]:
    tumor = np.flatnonzero(np.array(areas) > 0)
    identity = {"case": case, "source": "brats", "kind": "volume", "group": case}
    return [
        {
            **identity,
            "slice": i,
            "cls": None if 0 < area < 50 else float(area > 0),
            "logit": logits[i],
            "tumor_mm2": area,
            "predicted_mm2": (drawn or areas)[i],
            "slices_from_tumor": int(np.abs(tumor - i).min()) if len(tumor) else None,
        }
        for i, area in enumerate(areas)
    ]


def images(*pairs: tuple[int, float], source: str = "kaggle") -> list[Row]:
    return [
        {
            **{"case": f"{source}/{i}", "slice": 0, "source": source, "kind": "image", "group": f"cluster {i // 2}"},
            **{"cls": float(cls), "logit": logit},
        }
        for i, (cls, logit) in enumerate(pairs)
    ]


def content(predictions: list[Row], segmentation: list[Row] | None = None) -> dict[str, Any]:
    return {
        "facts": {"fold": 0},
        "min_tumor_pixels": 50,
        "segmentation": segmentation or [],
        "predictions": predictions,
    }


def report(predictions: list[Row], segmentation: list[Row] | None = None, **changes: Any) -> dict[str, Any]:
    made = make_report(content(predictions, segmentation), changes.pop("decision", Decision()), 50, **changes)
    json.dumps(made, allow_nan=False)  # plain, and no number that JSON does not have
    return made


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), temperature=st.floats(0.2, 5.0))
def test_an_independent_implementation_finds_the_same_scores(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    classes, logits = np.append(rng.integers(2, size=38), [0, 1]), rng.normal(size=40).round(1)
    decision = Decision(image=Calibration(temperature, 0.4))
    found = report(images(*zip(classes.tolist(), logits.tolist(), strict=True)), decision=decision)
    scores = found["classification"]["kaggle"]
    probabilities = 1 / (1 + np.exp(-logits / temperature))
    assert scores["roc_auc"] == pytest.approx(roc_auc_score(classes, probabilities), abs=1e-6)
    assert scores["pr_auc"] == pytest.approx(average_precision_score(classes, probabilities), abs=1e-6)
    called = probabilities >= 0.4
    assert scores["sensitivity"] == pytest.approx(called[classes == 1].mean())
    assert scores["specificity"] == pytest.approx((~called)[classes == 0].mean())
    listed = [(row["cls"], row["probability"]) for row in scores["cases"]]
    assert roc_auc_score(*zip(*listed, strict=True)) == pytest.approx(scores["roc_auc"], abs=1e-6)


def test_temperature_changes_calibration_and_not_the_order() -> None:
    predictions = images((1, 6.0), (0, 5.0), (1, -1.0), (0, -6.0), (1, 8.0), (0, -2.0))
    sharp, cooled = (
        report(predictions, decision=Decision(image=Calibration(t)))["classification"]["kaggle"] for t in (1.0, 4.0)
    )
    assert sharp["roc_auc"] == cooled["roc_auc"] and sharp["brier"] != cooled["brier"]
    assert cooled["brier_before"] == sharp["brier"] == sharp["brier_before"]


def test_a_patient_with_two_visits_counts_once() -> None:
    visits = [volume("a1", 0.2, "a"), volume("a2", 0.4, "a"), volume("b", 0.9)]
    assert patient_scores(visits, "dice") == pytest.approx({"a": 0.3, "b": 0.9})
    segmentation = report([], visits)["segmentation"]
    assert segmentation["mean"]["dice"] == pytest.approx(0.6)
    assert (segmentation["n"], segmentation["patients_n"]) == (3, 2)
    assert segmentation["mean"]["ci95"]["dice"] == [0.0, 1.0], "two patients say nothing of the others"
    assert segmentation["mean"]["ci95"]["hd95_mm"][1] > 1.0, "what is measured in mm ends nowhere"


def test_patients_are_sorted_undefined_first_then_worst() -> None:
    rows = [volume("good", 0.9), volume("empty", None), volume("bad", 0.1)]
    assert [row["id"] for row in report([], rows)["segmentation"]["patients"]] == ["empty", "bad", "good"]


def test_hard_negatives_are_near_the_tumor() -> None:
    areas = [0.0] * 8 + [300.0, 300.0] + [0.0] * 8
    logits = [-3.0] * 3 + [2.0] * 5 + [1.0, 3.0] + [-3.0] * 8
    brats = report(slices("brats/A", areas, logits))["classification"]["brats"]
    assert brats["hard_negatives"]["n"] == 10 and brats["n"] == 18
    assert brats["hard_negatives"]["specificity"] == 0.5 and brats["specificity"] == 11 / 16
    assert brats["hard_negatives"]["roc_auc"] < brats["roc_auc"]


def test_small_and_large_tumors_are_scored_separately() -> None:
    rows = slices("brats/A", [0.0, 60.0, 2500.0, 49.0], [0.0, -1.0, 5.0, 0.0])
    by_area = report(rows)["classification"]["brats"]["by_tumor_area"]
    assert [entry["positives"] for entry in by_area] == [1, 1]
    assert [entry["roc_auc"] for entry in by_area] == [0.0, 1.0]
    assert [(entry["low_mm2"], entry["high_mm2"]) for entry in by_area] == [(50.0, 200.0), (2000.0, None)]


def test_patients_have_equal_weight_in_the_mean_auc() -> None:
    rows = slices("brats/A", [0.0, 90.0] * 20, [-1.0, 1.0] * 20) + slices("brats/B", [0.0, 90.0], [1.0, -1.0])
    brats = report(rows + slices("brats/slab", [90.0], [0.0]))["classification"]["brats"]
    assert brats["mean_patient_roc_auc"]["value"] == 0.5 and brats["mean_patient_roc_auc"]["n"] == 2
    assert brats["patients"]["brats/slab"]["roc_auc"] is None


def test_a_source_of_one_class_is_undefined_and_not_a_number() -> None:
    scores = report(images((1, 2.0), (1, -2.0)))["classification"]["kaggle"]
    assert scores["roc_auc"] is None and scores["specificity"] is None and scores["sensitivity"] == 0.5


def test_each_fold_uses_its_own_threshold() -> None:
    predictions = images((1, 1.0), (0, 1.0))
    decisions = {"kaggle/0": Decision(image=Calibration(1.0, 0.5)), "kaggle/1": Decision(image=Calibration(1.0, 0.9))}
    scores = report(predictions, decisions=decisions)["classification"]["kaggle"]
    assert (scores["sensitivity"], scores["specificity"], scores["threshold"]) == (1.0, 1.0, None)


def test_a_volume_of_one_slice_uses_the_threshold_of_images() -> None:
    alone = [{**row, "kind": "image"} for row in slices("brats/A", [0.0], [1.0], drawn=[9.0])]
    decision = Decision(image=Calibration(1.0, 0.9), volume=Calibration(1.0, 0.5))
    for predictions in (
        alone + slices("brats/B", [90.0, 0.0], [1.0, -1.0]),
        slices("brats/B", [90.0, 0.0], [1.0, -1.0]) + alone,
    ):
        found = report(predictions, decision=decision)
        scores = found["classification"]["brats"]
        assert (scores["sensitivity"], scores["specificity"]) == (1.0, 1.0) and set(scores["patients"]) == {
            "brats/A",
            "brats/B",
        }
        assert found["segmentation"]["empty_slices"]["n"] == 2


def test_folds_are_combined_once() -> None:
    first, second = content(images((1, 1.0))), content(slices("brats/A", [90.0], [1.0]), [volume("brats/A", 0.5)])
    assert len(pool([first, second])["predictions"]) == 2
    with pytest.raises(ValueError, match="kaggle/0 was scored in two folds"):
        pool([first, second, first])
    with pytest.raises(ValueError, match="least pixels of a tumor slice"):
        pool([first, {**second, "min_tumor_pixels": 10}])


def test_auc_is_computed_within_folds() -> None:
    """Two perfect networks, one of which is surer than the other."""
    first, second = content(images((1, 9.0), (0, 5.0))), content(images((1, 1.0), (0, -5.0), source="other"))
    renamed = [{**row, "source": "kaggle"} for row in second["predictions"]]
    scores = make_report(pool([first, content(renamed)]), Decision(), 0)["classification"]["kaggle"]
    assert scores["roc_auc"] == 0.75 and scores["within_folds"]["roc_auc"] == 1.0


def test_a_patient_sampled_twice_counts_twice() -> None:
    """Two patients, each a fold: one is told apart, the other is not."""
    classes, scores, folds = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.1, 0.9]), [0, 0, 1, 1]
    within = auc_within_folds(classes, scores, folds)
    assert within(np.arange(4)) == {"roc_auc": 0.5}
    assert within(np.array([0, 1, 0, 1, 2, 3])) == {"roc_auc": pytest.approx(2 / 3)}


def test_share_of_images_with_a_mask_by_class() -> None:
    rows = images((0, -1.0), (0, 1.0), (0, -2.0), (1, 2.0))
    for row, share in zip(rows, (0.0, 0.2, 0.0, 0.01), strict=True):
        row["predicted_share"] = share
    found = report(rows)["classification"]["kaggle"]["nonempty_masks"]
    assert found == {"none": {"n": 3, "share": pytest.approx(1 / 3)}, "tumor": {"n": 1, "share": 1.0}}
    assert report(rows[:3])["classification"]["kaggle"]["nonempty_masks"]["tumor"] == {"n": 0, "share": None}
    assert "nonempty_masks" not in report(images((0, -1.0), (1, 1.0)))["classification"]["kaggle"], "nobody measured it"


def test_every_source_has_its_own_n_beside_its_scores() -> None:
    made = report(images((1, 1.0), (0, 0.0)) + images((1, 1.0), source="other") + slices("brats/A", [90.0], [1.0]))
    for scores in made["classification"].values():
        assert {"n", "positives", "sensitivity", "specificity", "ci95", "groups"} <= scores.keys()
    assert "pooled" not in made["classification"] and set(made["classification"]) == {"brats", "kaggle", "other"}


def test_what_was_not_learned_is_not_scored() -> None:
    rows = slices("brats/A", [0.0, 90.0, 80.0], [-1.0, 2.0, 1.0])
    both = content(rows, [volume("brats/A", 0.9)])
    classes = make_report(of_learned(both, ["classification"]), Decision(), 0)
    assert classes["segmentation"]["n"] == classes["segmentation"]["empty_slices"]["n"] == 0
    assert classes["patients"] == {} and classes["classification"]["brats"]["roc_auc"] == 1.0
    masks = make_report(of_learned(both, ["segmentation"]), Decision(), 0)
    assert masks["segmentation"]["mean"]["dice"] == 0.9 and masks["classification"]["brats"]["n"] == 0
    assert masks["patients"]["all"]["sensitivity"] is None, "no volume has a probability"
    assert of_learned(both, ["segmentation", "classification"]) == both
