"""Folds, seeds and variants are put together without a case having a part in its own threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.evaluation.calibration import fit_decision
from scripts.evaluation.summaries import cross_fitted, summarize
from scripts.inference.decision import Decision

SETTINGS = {"decision": Decision(), "target_sensitivity": 0.9, "margin": 0.01, "resamples": 60}


def fold(number: int, gain: float = 0.0, noise: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Predictions of two patients and twenty images."""
    rng = np.random.default_rng(number + 100 * seed)
    predictions, segmentation = [], []
    for i in range(20):
        identity = {"case": f"kaggle/{number}-{i}", "source": "kaggle", "kind": "image", "group": f"c{number}-{i}"}
        predictions.append({**identity, "slice": 0, "cls": float(i % 2), "logit": float(i % 2 + noise * rng.normal())})
    for name in "ab":
        case = f"brats/{number}{name}"
        scores = {"dice": 0.5 + 0.1 * number + gain + 0.02 * seed, "iou": 0.4 + gain, "hd95_mm": 9.0}
        scores |= {"reference_ml": 20.0, "predicted_ml": 18.0}
        segmentation.append({"id": case, "source": "brats", "patient": case, **scores})
        for i in range(10):
            identity = {"case": case, "source": "brats", "kind": "volume", "group": case, "slice": i}
            measured = {"tumor_mm2": 90.0 * (i % 2), "predicted_mm2": 0.0, "slices_from_tumor": 1 - i % 2}
            predictions.append({**identity, "cls": float(i % 2), "logit": float(i % 2 + rng.normal()), **measured})
    return {"facts": {}, "min_tumor_pixels": 50, "segmentation": segmentation, "predictions": predictions}


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """File that names the predictions of two variants."""
    found: dict[str, dict[str, Any]] = {}
    for name, seeds, gain, noise in (("recipe", 2, 0.0, 1.0), ("better", 1, 0.05, 0.1)):
        found[name] = {"description": name, "learns": ["segmentation", "classification"], "seeds": []}
        for seed in range(seeds):
            files = [tmp_path / f"{name}{seed}{number}.json" for number in range(3)]
            for number, file in enumerate(files):
                file.write_text(json.dumps(fold(number, gain, noise, seed)))
            found[name]["seeds"].append([str(file) for file in files])
    (tmp_path / "variants.json").write_text(json.dumps(found))
    return tmp_path / "variants.json"


def test_the_threshold_of_a_fold_comes_from_the_other_folds() -> None:
    parts = [fold(number) for number in range(3)]
    decisions = cross_fitted(parts, Decision(), 0.9, 0)
    others = parts[1]["predictions"] + parts[2]["predictions"]
    assert decisions["kaggle/0-3"] == fit_decision(others, Decision(), 0.9, "predictions of the other folds", 0)
    changed = [
        {**parts[0], "predictions": [{**row, "logit": -row["logit"]} for row in parts[0]["predictions"]]},
        *parts[1:],
    ]
    assert cross_fitted(changed, Decision(), 0.9, 0)["kaggle/0-3"] == decisions["kaggle/0-3"], "its own predictions"


def test_the_threshold_of_a_single_fold_comes_from_its_other_patients() -> None:
    part = fold(0)
    decisions = cross_fitted([part], Decision(), 0.9, 0)
    assert decisions.keys() == {row["case"] for row in part["predictions"]}
    group = part["predictions"][0]["group"]
    changed = [{**row, "logit": -row["logit"]} if row["group"] == group else row for row in part["predictions"]]
    again = cross_fitted([{**part, "predictions": changed}], Decision(), 0.9, 0)
    own = [row["case"] for row in part["predictions"] if row["group"] == group]
    assert all(again[case] == decisions[case] for case in own)
    assert any(again[case] != decision for case, decision in decisions.items())


def test_manual_masks_are_compared_separately(variants: Path, tmp_path: Path) -> None:
    summary = summarize(variants, "recipe", output_dir=tmp_path, automatic_masks=["*b"], **SETTINGS)
    against = summary["variants"]["better"]["against_reference"]
    assert (against["dice"]["n"], against["dice_manual"]["n"]) == (6, 3)
    assert against["dice_manual"]["mean_difference"] == pytest.approx(0.05)


def test_a_source_not_trained_on_does_not_change_thresholds() -> None:
    parts = [fold(number) for number in range(3)]
    other = [{**row, "source": "other", "case": f"other/{row['case']}"} for row in fold(7)["predictions"]]
    more = [
        {**part, "predictions": part["predictions"] + (other if number == 1 else [])}
        for number, part in enumerate(parts)
    ]
    learned = ["brats", "kaggle"]
    assert (
        cross_fitted(more, Decision(), 0.9, 0, learned)["kaggle/0-3"]
        == (cross_fitted(parts, Decision(), 0.9, 0)["kaggle/0-3"])
    )
    assert cross_fitted(more, Decision(), 0.9, 0)["kaggle/0-3"] != cross_fitted(parts, Decision(), 0.9, 0)["kaggle/0-3"]


def test_tasks_a_variant_is_not_trained_for_are_not_scored(variants: Path, tmp_path: Path) -> None:
    content = json.loads(variants.read_text())
    content["masks only"] = {**content["better"], "learns": ["segmentation"]}
    content["classes only"] = {**content["better"], "learns": ["classification"]}
    variants.write_text(json.dumps(content))
    found = summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)["variants"]
    masks, classes = (found[name] for name in ("masks only", "classes only"))
    assert masks["seeds"][0]["segmentation"]["dice"] == found["better"]["seeds"][0]["segmentation"]["dice"]
    assert masks["seeds"][0]["classification"]["kaggle"]["within_folds"]["roc_auc"] is None
    assert masks["against_reference"]["roc_auc"]["kaggle"] == {"difference": None, "ci95": None, "n": 0}
    assert classes["seeds"][0]["segmentation"]["dice"] is None
    assert classes["against_reference"]["dice"]["n"] == 0
    turned = summarize(variants, "classes only", output_dir=tmp_path, **SETTINGS)["variants"]["better"]
    assert turned["against_reference"]["dice"]["n"] == 0, "nor is there anything to compare with"
    assert classes["seeds"][0]["classification"] == found["better"]["seeds"][0]["classification"]


def test_variants_are_compared_on_the_same_patients_and_images(variants: Path, tmp_path: Path) -> None:
    summary = summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)
    against = summary["variants"]["better"]["against_reference"]
    assert against["dice"]["mean_difference"] == pytest.approx(0.05) and against["dice"]["non_inferior"]
    assert against["dice"]["n"] == 6 and against["seeds"] == 1
    low, high = against["roc_auc"]["kaggle"]["ci95"]
    assert 0 < low <= against["roc_auc"]["kaggle"]["difference"] <= high
    assert against["roc_auc"]["brats"]["difference"] == 0.0
    own = summary["variants"]["recipe"]["against_reference"]
    assert own["dice"]["mean_difference"] == 0.0 and own["seeds"] == 2


def test_the_report_is_out_of_fold_and_of_every_case(variants: Path, tmp_path: Path) -> None:
    summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["classification"]["kaggle"]["n"] == 60 and report["segmentation"]["n"] == 6
    assert report["patients"]["all"]["n"] == report["patients"]["sources"]["brats"]["n"] == 6
    assert report["decision_out_of_fold"]["volume"]["fitted_on"] == "out-of-fold predictions: 60 slices of 6 patients"
    assert json.loads((tmp_path / "summary.json").read_text())["variants"].keys() == {"recipe", "better"}


def test_every_repetition_of_the_reference_has_its_report(variants: Path, tmp_path: Path) -> None:
    summary = summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)
    assert sorted(path.name for path in tmp_path.glob("report*.json")) == ["report.json", "report_seed1.json"]
    second = json.loads((tmp_path / "report_seed1.json").read_text())
    assert len(second["classification"]["kaggle"]["cases"]) == 60
    first = json.loads((tmp_path / "report.json").read_text())
    dice = [seed["segmentation"]["dice"] for seed in summary["variants"]["recipe"]["seeds"]]
    assert [made["segmentation"]["mean"]["dice"] for made in (first, second)] == dice
    assert dice == pytest.approx([0.6, 0.62])
    logits = [[row["logit"] for row in made["classification"]["kaggle"]["cases"]] for made in (first, second)]
    assert logits[0] != logits[1]
    assert "bootstrap" in first["rules"]["interval"] and "bootstrap" not in second["rules"]["interval"]


def test_a_comparison_is_of_the_mean_over_repetitions(variants: Path, tmp_path: Path) -> None:
    content = json.loads(variants.read_text())
    for seed, gain in enumerate((0.05, 0.15)):  # not the same in both
        for number in range(3):
            (tmp_path / f"other{seed}{number}.json").write_text(json.dumps(fold(number, gain, 0.1, seed)))
    files = [[str(tmp_path / f"other{seed}{number}.json") for number in range(3)] for seed in range(2)]
    content["other"] = {**content["better"], "seeds": files}
    variants.write_text(json.dumps(content))
    found = summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)["variants"]
    against = found["other"]["against_reference"]
    assert against["seeds"] == 2 and against["dice"]["mean_difference"] == pytest.approx(0.1)
    aucs = [
        [seed["classification"]["kaggle"]["within_folds"]["roc_auc"] for seed in found[name]["seeds"]]
        for name in ("other", "recipe")
    ]
    assert against["roc_auc"]["kaggle"]["difference"] == pytest.approx(np.mean(aucs[0]) - np.mean(aucs[1]))
    assert aucs[0][0] - aucs[1][0] != pytest.approx(aucs[0][1] - aucs[1][1])


def test_repetitions_of_other_cases_are_not_compared(variants: Path, tmp_path: Path) -> None:
    content = json.loads(variants.read_text())
    path = Path(content["better"]["seeds"][0][1])
    scored = json.loads(path.read_text())
    lost = scored["predictions"].pop(3)
    path.write_text(json.dumps(scored))
    with pytest.raises(ValueError, match=f"scored on different slices or images, such as {lost['case']}"):
        summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)


def test_a_variant_that_lacks_something_is_named(variants: Path, tmp_path: Path) -> None:
    content = json.loads(variants.read_text())
    del content["better"]["learns"]
    variants.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"variants\.json: variant 'better' lacks 'learns'"):
        summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)


def test_a_missing_reference_is_named(variants: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no variant 'other'"):
        summarize(variants, "other", output_dir=tmp_path, **SETTINGS)


def test_automatic_masks_are_left_out_of_the_manual_mean(variants: Path, tmp_path: Path) -> None:
    found = summarize(variants, "recipe", output_dir=tmp_path, automatic_masks=["?b", "1*"], **SETTINGS)["variants"][
        "recipe"
    ]
    manual = found["seeds"][0]["segmentation"]["manual"]
    assert manual["n"] == 2 and manual["dice"] == pytest.approx(0.6) and manual["worst_dice"] == pytest.approx(0.5)
    without = summarize(variants, "recipe", output_dir=tmp_path, **SETTINGS)["variants"]["recipe"]
    assert without["seeds"][0]["segmentation"]["manual"] is None
