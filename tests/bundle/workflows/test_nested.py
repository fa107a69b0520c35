"""Variants are chosen on inner folds; the outer fold scores the chosen one alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bundle.command_line.cli import main
from bundle.errors import UserError
from bundle.workflows.nested import choice_of, inner_score, run_nested
from bundle.workflows.plans import Plan, Task, Variant, nested_plan

SHORT = {"max_epochs": 1, "samples_per_epoch": 16, "batch_size": 8}
STEPS = {
    "a": {"overlays": [], "settings": SHORT},
    "b": {"overlays": [], "settings": {**SHORT, "inverted_contrast": 1.0}},
}
VARIANTS = {name: Variant((name,), 1, name) for name in STEPS}
PLAN = Plan(3, {"validation": False, "num_workers": 0}, STEPS, VARIANTS, reference="a")


@pytest.fixture(scope="module")
def finished(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants, one outer fold, run to its end."""
    output = tmp_path_factory.mktemp("nested")
    run_nested(replace(PLAN, only=(1,)), output, synthetic / "brats", [str(synthetic / "kaggle")])
    return output


def trained(folder: Path) -> set[str]:
    return set(json.loads((folder / "model.json").read_text())["trained_on"])


def scored(folder: Path) -> set[str]:
    rows = json.loads((folder / "evaluation" / "predictions.json").read_text())["predictions"]
    return {row["case"] for row in rows}


def test_no_choice_has_seen_the_outer_fold(finished: Path) -> None:
    split = json.loads((finished / "data" / "splits.json").read_text())["cases"]
    outer, inner = ({id for id, entry in split.items() if entry["fold"] == fold} for fold in (1, 2))
    for variant in VARIANTS:
        folder = finished / Task(1, 0, (variant,), inner=True).folder
        assert scored(folder) == inner
        notes = json.loads((folder / "model.json").read_text())["trained_on"]
        learned = {id for id, entry in notes.items() if entry["subset"] == "train"}
        assert learned == set(split) - outer - inner and not set(notes) & outer


def test_only_the_chosen_variant_is_scored_on_the_outer_fold(finished: Path) -> None:
    found = json.loads((finished / "choices.json").read_text())["folds"]
    scores = found["1"]["scores"]
    assert list(found) == ["1"] and set(scores) == set(VARIANTS)
    assert found["1"]["chosen"] == max(scores, key=lambda name: scores[name]["mean"])
    folders = sorted(path.parent.parent.name for path in finished.glob("runs/*/*/evaluation"))
    assert (
        folders == ["fold1_seed0"] and (finished / Task(1, 0, (found["1"]["chosen"],)).folder / "evaluation").is_dir()
    )
    split = json.loads((finished / "data" / "splits.json").read_text())["cases"]
    outer = {id for id, entry in split.items() if entry["fold"] == 1}
    folder = finished / Task(1, 0, (found["1"]["chosen"],)).folder
    assert scored(folder) == outer and trained(folder) == set(split) - outer, "the inner fold is trained on again"
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["variants"]) == ["chosen"]
    assert json.loads((finished / "run.json").read_text())["steps"] == 1 + 2 * 2 + 2, "inner trainings are counted"


def test_the_better_variant_is_chosen(tmp_path: Path) -> None:
    for name, dice in (("a", 0.5), ("b", 0.6)):
        folder = tmp_path / Task(0, 0, (name,), inner=True).folder / "evaluation"
        folder.mkdir(parents=True)
        report = {"segmentation": {"mean": {"dice": dice}}, "classification": {"s": {"roc_auc": 0.8}}}
        (folder / "report.json").write_text(json.dumps(report))
    found = choice_of(PLAN, tmp_path, 0)
    assert found["chosen"] == "b" and found["scores"]["a"] == pytest.approx({"dice": 0.5, "roc_auc": 0.8, "mean": 0.65})


def test_scores_that_are_not_there_do_not_count() -> None:
    nothing = {"segmentation": {"mean": {}}, "classification": {"s": {"roc_auc": None}}}
    assert inner_score(nothing) == {"dice": None, "roc_auc": None, "mean": None}
    images = {"segmentation": {"mean": {}}, "classification": {"s": {"roc_auc": 0.7}}}
    assert inner_score(images)["mean"] == 0.7


def test_an_inner_fold_without_scores_is_named(tmp_path: Path) -> None:
    for name in VARIANTS:
        folder = tmp_path / Task(2, 0, (name,), inner=True).folder / "evaluation"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"segmentation": {"mean": {}}, "classification": {}}))
    with pytest.raises(UserError, match="fold 2: its inner fold has neither"):
        choice_of(PLAN, tmp_path, 2)


def test_one_variant_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to choose"):
        run_nested(replace(PLAN, variants={"a": VARIANTS["a"]}), tmp_path / "out", tmp_path, [])
    assert not (tmp_path / "out").exists()


def test_the_command_reads_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"folds": 9, "common": {"validation": False}, "steps": STEPS, "reference": "a"}
    content["variants"] = {name: {"steps": [name], "seeds": 2, "description": name} for name in STEPS}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content))
    plan = nested_plan(tmp_path / "two.yaml", 4, fold=[2, 0, 2], sources=["s"])
    assert (plan.folds, plan.only, plan.common["sources"]) == (4, (0, 2), ["s"])
    assert plan.command.endswith("--folds 4 --precision float32 --fold 0 --fold 2 --learn-from s")
    wrong = ["--choose-from", str(tmp_path / "two.yaml"), "--release", str(tmp_path / "models")]
    assert main(["crossvalidate", "--volumes", str(tmp_path), "--output", str(tmp_path / "out"), *wrong]) == 2
    assert "takes no --release" in capsys.readouterr().err and not (tmp_path / "out").exists()
