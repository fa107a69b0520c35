"""The main job: what it leaves behind, and that it continues instead of repeating."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from bundle.errors import UserError
from bundle.workflows import initial_weights, stages
from bundle.workflows.pipeline import run_pipeline, training_time
from bundle.workflows.presets import PRESETS
from scripts.core.files import sha256_of

SHORT = {"max_epochs": 1, "samples_per_epoch": 16}


def manifest(output: Path) -> dict[str, dict[str, dict[str, object]]]:
    content: dict[str, dict[str, dict[str, object]]] = json.loads((output / "manifest.json").read_text())
    return content


@pytest.mark.parametrize(("cores", "told"), [(1, "10 min on 1 core"), (8, "80 s on 8 cores")])
def test_the_time_of_training_is_estimated_on_processors(
    cores: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    stages = {"stage1": {"max_epochs": 10, "samples_per_epoch": 600}}
    assert training_time(stages, "stage1") == told
    assert training_time(stages, "evaluation") == "", "only training takes a known time"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_time(stages, "stage1") == "", "unknown on a GPU"


def test_the_pipeline_writes_weights_reports_and_pictures(pipeline_run: Path) -> None:
    for path in ("models/model.pt", "models/report.json", "evaluation/overlays_brats.png", "evaluation/cam_brats.png"):
        assert (pipeline_run / path).is_file()
    report = json.loads((pipeline_run / "evaluation" / "report.json").read_text())
    assert report["segmentation"]["n"] >= 1 and set(report["classification"]) == {"brats", "kaggle"}
    for scores in report["classification"].values():
        assert (scores["sensitivity"] is None) == (scores["positives"] == 0)
        assert "specificity" in scores and scores["n"] > 0
    for patient in report["segmentation"]["patients"]:
        assert patient["dice"] == pytest.approx(2 * patient["iou"] / (1 + patient["iou"]), abs=1e-3)


def test_manifest_has_versions_settings_and_hashes(pipeline_run: Path) -> None:
    content = manifest(pipeline_run)
    assert content["settings"]["seed"] == 0
    for name in ("data", "stage1", "stage2", "stage3", "calibration", "evaluation", "models"):
        assert content["steps"][name]["finished"] and (content["steps"][name]["seconds"] > 0 or name == "models")
        assert f"{os.cpu_count()} cores" in content["steps"][name]["machine"]
        assert {"monai", "torch", "python", "bundle", "code"} <= set(content["steps"][name]["versions"])


def test_released_report_belongs_to_the_released_weights(pipeline_run: Path) -> None:
    model = json.loads((pipeline_run / "models" / "report.json").read_text())["model"]
    assert model["sha256"] == sha256_of(pipeline_run / "models" / "model.pt")
    split = json.loads((pipeline_run / "data" / "splits.json").read_text())["cases"]
    tested = {case for case, entry in split.items() if entry["fold"] == 0}
    assert tested and not tested & set(model["trained_on"])
    assert tested | set(model["trained_on"]) == set(split)


@pytest.fixture
def copy(pipeline_run: Path, tmp_path: Path) -> Path:
    """A finished run that may be changed."""
    output = tmp_path / "run"
    shutil.copytree(pipeline_run, output)
    return output


def again(output: Path, synthetic: Path, **changes: int) -> None:
    run_pipeline(output, synthetic / "brats", [str(synthetic / "kaggle")], preset="test", **changes)


def test_a_finished_pipeline_repeats_nothing(copy: Path, synthetic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = manifest(copy)["steps"]
    again(copy, synthetic)
    after = manifest(copy)["steps"]
    assert {name: entry["finished"] for name, entry in before.items() if name != "data"} == {
        name: entry["finished"] for name, entry in after.items() if name != "data"
    }
    assert capsys.readouterr().out.count("done before") == 7


def test_a_missing_result_and_its_dependents_are_made_again(copy: Path, synthetic: Path) -> None:
    before = manifest(copy)["steps"]
    shutil.rmtree(copy / "evaluation")
    again(copy, synthetic)
    after = manifest(copy)["steps"]
    assert after["evaluation"]["made"] == before["evaluation"]["made"], "the same report, to the byte"
    assert after["stage3"] == before["stage3"]


def test_damaged_weights_are_trained_again(copy: Path, synthetic: Path) -> None:
    before = manifest(copy)["steps"]
    (copy / "stage2" / "model.pt").write_bytes(b"damaged")
    again(copy, synthetic)
    after = manifest(copy)["steps"]
    assert after["stage2"]["made"] == before["stage2"]["made"], "the same weights, to the bit"
    assert after["stage1"] == before["stage1"] and after["models"]["made"] == before["models"]["made"]


def test_a_missing_folder_leaves_the_output_unchanged(synthetic: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="typo: no such folder"):
        run_pipeline(tmp_path / "out", synthetic / "typo", [str(synthetic / "kaggle")], preset="test")
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder_are_refused(copy: Path, synthetic: Path) -> None:
    with pytest.raises(UserError, match=r"holds a run with other settings \(seed\)"):
        again(copy, synthetic, seed=1)


def test_unreadable_cases_stop_the_pipeline_and_are_named(
    synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bundle.command_line.cli import main

    shutil.copytree(synthetic / "kaggle", tmp_path / "kaggle")
    (tmp_path / "kaggle" / "yes" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    monkeypatch.setitem(PRESETS, "quick", dict.fromkeys(("stage1", "stage2", "stage3"), SHORT))
    arguments = [
        "--brats",
        str(synthetic / "brats"),
        "--kaggle",
        str(tmp_path / "kaggle"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(["pipeline", *arguments]) == 2
    error = capsys.readouterr().err
    assert "1 of 31 cases could not be read, the others are stored" in error and "broken.jpg" in error
    assert json.loads((tmp_path / "out" / "data" / "store.json").read_text())["cases"]
    assert main(["pipeline", *arguments, "--skip-unreadable"]) == 0
    assert "broken.jpg" in capsys.readouterr().err


BOTH, MASKS, CLASSES = ["segmentation", "classification"], ["segmentation"], ["classification"]


@pytest.mark.parametrize(
    ("kinds", "tasks", "order"),
    [
        (["volume", "image"], BOTH, ["stage1", "stage2", "stage3"]),
        (["volume"], BOTH, ["stage1", "stage2", "stage3"]),
        (["volume"], MASKS, ["stage1"]),
        (["image"], CLASSES, ["stage2"]),
        (["volume", "image"], CLASSES, ["stage2"]),
    ],
)
def test_the_stages_are_those_that_the_data_teach(kinds: list[str], tasks: list[str], order: list[str]) -> None:
    lengths = {stage: {"max_epochs": epochs} for stage, epochs in (("stage1", 7), ("stage2", 2), ("stage3", 3))}
    chain = stages.chain_of({"kinds": kinds, "tasks": tasks}, lengths)
    assert list(chain) == order
    if kinds == ["volume", "image"] and tasks == BOTH:
        assert chain == lengths, "as the configs say"
    elif tasks == CLASSES:
        assert chain["stage2"]["max_epochs"] == 7 and chain["stage2"]["frozen"] == ["decoder"]
        assert chain["stage2"]["kinds"] == kinds and chain["stage2"]["initial_weights"] is None
    elif tasks == BOTH:
        assert chain["stage2"]["kinds"] == chain["stage3"]["kinds"] == ["volume"] and "kinds" not in chain["stage1"]


def test_data_that_teach_nothing_and_no_data_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bundle.command_line.cli import main

    with pytest.raises(UserError, match="nothing to train on"):
        stages.chain_of({"kinds": ["volume"], "tasks": []}, {})
    assert main(["pipeline", "--output", str(tmp_path / "out")]) == 2
    error = "error: no data: name a folder of volumes (--volumes), of images (--images), or both\n"
    assert capsys.readouterr().err == error and not (tmp_path / "out").exists()


def test_initial_weights_must_not_know_the_cases_of_the_test(
    pipeline_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = pipeline_run / "models" / "model.pt"
    asked = {"store": pipeline_run / "data", "weights": weights}
    initial_weights.require_held_out(**asked, fold=0)  # of which nothing was trained on
    assert "of the training cases already, such as" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"cases to validate and test on, such as .* \(same name\)"):
        initial_weights.require_held_out(**asked, fold=1)
    assert stages.taught_by(pipeline_run / "data", 0) == {"kinds": ["volume", "image"], "tasks": BOTH}


def test_initial_weights_must_fit(pipeline_run: Path, tmp_path: Path) -> None:
    weights = pipeline_run / "models" / "model.pt"
    assert initial_weights.require_fitting(weights, "cpu", None) == (weights, ["flair"])
    with pytest.raises(UserError, match="of the network cpu; add --network cpu"):
        initial_weights.require_fitting(weights, "base", None)
    (tmp_path / "text.pt").write_text("no weights")
    for file, reason in (("text.pt", "not a state dict, or damaged"), ("none.pt", "no weights here")):
        with pytest.raises(UserError, match=reason):
            initial_weights.require_fitting(tmp_path / file, "cpu", None)
