"""Weights are scored on any labeled folder, and bad folders get a clear line or a defined "undefined"."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bundle.command_line.cli import main


def evaluate(output: Path, model: Path, *options: str) -> int:
    return main(["evaluate", "--output", str(output), "--model", str(model), *options])


@pytest.fixture(scope="module")
def model(pipeline_run: Path) -> Path:
    return pipeline_run / "models" / "model.pt"


@pytest.fixture(scope="module")
def scored(unseen: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scored")
    folders = ["--brats", str(unseen / "brats"), "--kaggle", f"synthetic={unseen / 'kaggle'}"]
    assert evaluate(output, model, *folders) == 0
    return output


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_the_report_has_the_documented_keys(scored: Path) -> None:
    report = report_of(scored)
    segmentation = report["segmentation"]
    assert {"id", "dice", "iou", "hd95_mm"} <= segmentation["patients"][0].keys() and segmentation["n"] == 2
    assert {"dice", "iou", "boundary_f_1mm", "boundary_f_2mm"} <= segmentation["mean"]["ci95"].keys()
    assert set(report["classification"]) == {"brats", "synthetic"}
    for scores in report["classification"].values():
        assert {"roc_auc", "pr_auc", "sensitivity", "specificity", "n", "positives", "ci95"} <= scores.keys()
    assert {path.name for path in scored.iterdir()} >= {"predictions.json", "explanation.json", "cam_brats.png"}


def test_an_independent_scorer_agrees(scored: Path, unseen: Path, model: Path) -> None:
    """From the files that `predict` writes: ten lines of numpy for the Dice, scikit-learn for the AUC."""
    report, predictions = report_of(scored), scored / "predictions"
    assert main(["predict", str(unseen), "--output", str(predictions), "--model", str(model)]) == 0
    for patient in report["segmentation"]["patients"]:
        name = patient["id"].removeprefix("brats/")
        a = np.asarray(nib.load(predictions / f"brats/{name}/{name}_flair_mask.nii.gz").dataobj) > 0
        b = np.asarray(nib.load(unseen / f"brats/{name}/{name}_seg.nii.gz").dataobj) > 0
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) == pytest.approx(patient["dice"], abs=1e-6)
        assert (a & b).sum() / (a | b).sum() == pytest.approx(patient["iou"], abs=1e-6)
    probabilities, classes = [], []
    for label, cls in (("yes", 1), ("no", 0)):
        for path in sorted((predictions / "kaggle" / label).glob("*.json")):
            probabilities.append(json.loads(path.read_text())["tumor_probability"])
            classes.append(cls)
    assert roc_auc_score(classes, probabilities) == pytest.approx(
        report["classification"]["synthetic"]["roc_auc"], abs=1e-6
    )


def test_training_cases_are_refused_unless_allowed(
    synthetic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = ["--kaggle", str(synthetic / "kaggle")], tmp_path / "out"
    assert evaluate(output, model, *images) == 2
    assert "model.pt: trained on" in capsys.readouterr().err and not output.exists(), "nothing is left"
    assert evaluate(output, model, "--kaggle", f"other={synthetic / 'kaggle'}", "--allow-training-cases") == 0
    assert "of them scored here" in report_of(output)["provenance"]


def test_a_renamed_and_recompressed_training_image_is_recognized(
    synthetic: Path, unseen: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    seen = json.loads((model.parent / "report.json").read_text())["model"]["trained_on"]
    image = next(case for case in seen if case.startswith("kaggle/yes"))
    shutil.copytree(unseen / "kaggle" / "no", tmp_path / "other" / "no")
    (tmp_path / "other" / "yes").mkdir()
    source = Image.open(synthetic / image).convert("L")
    source.save(tmp_path / "other" / "yes" / "renamed.png")
    assert evaluate(tmp_path / "out", model, "--kaggle", str(tmp_path / "other")) == 2
    assert "other/yes/renamed.png" in capsys.readouterr().err


@pytest.mark.parametrize("case", ["no labels", "no masks", "no folder", "nothing"])
def test_folders_without_labels_are_refused(
    case: str, unseen: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(unseen / "kaggle" / "yes", tmp_path / "pictures")
    shutil.copytree(unseen / "brats", tmp_path / "brats", ignore=shutil.ignore_patterns("*_seg.nii.gz"))
    options = {
        "no labels": ["--kaggle", str(tmp_path / "pictures")],
        "no masks": ["--brats", str(tmp_path / "brats")],
        "no folder": ["--brats", str(tmp_path / "absent")],
        "nothing": [],
    }[case]
    assert evaluate(tmp_path / "out", model, *options) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    told = {"no labels": "pictures", "no masks": "2 cases, 0 masks"}
    assert {**told, "no folder": "no such folder", "nothing": "no data: name a folder"}[case] in message


def test_a_class_without_an_image_is_refused(
    unseen: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(unseen / "kaggle" / "yes", tmp_path / "one" / "yes")
    (tmp_path / "one" / "no").mkdir()
    assert evaluate(tmp_path / "out", model, "--kaggle", str(tmp_path / "one")) == 2
    assert "the class 'no' has no image" in capsys.readouterr().err


def test_volumes_with_empty_masks_have_no_dice(unseen: Path, model: Path, tmp_path: Path) -> None:
    shutil.copytree(unseen / "brats", tmp_path / "brats")
    for path in (tmp_path / "brats").rglob("*_seg.nii.gz"):
        mask = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), path)
    assert evaluate(tmp_path / "out", model, "--brats", str(tmp_path / "brats")) == 0
    report = report_of(tmp_path / "out")
    assert report["segmentation"]["mean"]["dice"] is None
    assert report["segmentation"]["empty_slices"]["n"] == report["classification"]["brats"]["n"] > 0
    assert report["classification"]["brats"]["roc_auc"] is None


def test_a_mask_on_another_grid_is_refused_by_name(
    unseen: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(unseen / "brats", tmp_path / "brats")
    path = sorted((tmp_path / "brats").rglob("*_seg.nii.gz"))[0]
    mask = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[:-4].astype(np.uint8), mask.affine), path)
    assert evaluate(tmp_path / "out", model, "--brats", str(tmp_path / "brats")) == 2
    assert f"{path}: mask of shape" in capsys.readouterr().err


def test_training_cases_are_not_audited(
    synthetic: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["audit", "--kaggle", str(synthetic / "kaggle"), "--output", str(tmp_path), "--model", str(model)]
    assert main(options) == 2
    assert "model.pt: trained on" in capsys.readouterr().err and not (tmp_path / "audit.json").exists()
    assert main([*options, "--predict", "classifiers:brightest"]) == 0, "of another classifier nothing is known"


def test_the_audit_accepts_the_network_or_any_function(unseen: Path, model: Path, tmp_path: Path) -> None:
    folder = f"other={unseen / 'kaggle'}"  # its pictures bear names of training ones
    options = ["audit", "--kaggle", folder, "--output", str(tmp_path), "--model", str(model)]
    assert main(options) == 0
    own = json.loads((tmp_path / "audit.json").read_text())
    assert main([*options, "--predict", "classifiers:brightest"]) == 0
    other = json.loads((tmp_path / "audit.json").read_text())
    asked = ("within_source", "blanked", "style_swap")
    assert [own[name]["values"] for name in asked] != [other[name]["values"] for name in asked]
    assert other["cam"]["verdict"] == "not applicable"
    assert main([*options, "--predict", "classifiers:absent"]) == 2


def test_unchanged_scans_are_scored_as_by_evaluate(scored: Path, unseen: Path, model: Path, tmp_path: Path) -> None:
    folders = ["--volumes", str(unseen / "brats"), "--images", f"synthetic={unseen / 'kaggle'}"]
    chosen = ["--corruptions", "jpeg", "--severities", "0", "5"]
    outputs = [tmp_path / "first", tmp_path / "second"]
    for output in outputs:
        assert main(["robustness", *folders, *chosen, "--output", str(output), "--model", str(model)]) == 0
    first, second = ((output / "robustness.json").read_bytes() for output in outputs)
    assert first == second, "the same command gives the same bytes"
    report = report_of(scored)
    unchanged = {source: rows["jpeg"][0] for source, rows in json.loads(first)["sources"].items()}
    assert unchanged["brats"]["dice"]["value"] == pytest.approx(report["segmentation"]["mean"]["dice"], abs=1e-9)
    for source, scores in unchanged.items():
        for name in ("roc_auc", "ece"):
            assert scores[name]["value"] == pytest.approx(report["classification"][source][name], abs=1e-6)


def test_artifacts_need_torchio(
    unseen: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bundle.workflows.robustness.find_spec", lambda name: None)
    output = tmp_path / "out"
    told = ["--volumes", str(unseen / "brats"), "--output", str(output), "--model", str(model)]
    assert main(["robustness", *told]) == 2
    needed = "needs the package torchio, which is not installed; pip install -e '.[robustness]'"
    assert needed in capsys.readouterr().err and not output.exists()
