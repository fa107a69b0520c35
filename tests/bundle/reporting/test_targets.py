"""What was to be reached, what was, and whether the interval shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bundle.reporting.collect import write_fold_summaries
from bundle.reporting.results import fold_of, load
from bundle.reporting.targets import ATTEMPTED, TARGETS, attempted, evaluated
from bundle.workflows import plans
from bundle.workflows.plans import ablation_plan

COMMITTED = Path(__file__).resolve().parent.parent.parent.parent / "docs" / "results"


@pytest.fixture
def facts() -> dict[str, Any]:
    """A copy of what the committed results say, to change."""
    return dict(json.loads(json.dumps(load(COMMITTED))))


def row(facts: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in evaluated(facts) if row["name"] == name)


def test_every_target_has_a_row(facts: dict[str, Any]) -> None:
    rows = evaluated({**facts, "audits": {int(fold): audit for fold, audit in facts["audits"].items()}})
    assert [found["name"] for found in rows] == list(TARGETS)
    assert all((found["met"] == "not measured") == (found["value"] is None) for found in rows)
    assert any(found["met"] == "goal" for found in rows)


@pytest.mark.parametrize(
    ("dice", "interval", "met", "shown"),
    [
        (0.90, [0.85, 0.95], "goal", True),
        (0.85, [0.79, 0.95], "floor", False),
        (0.79, [0.70, 0.85], "no", False),
        (0.85, None, "floor", None),
    ],
)
def test_a_floor_is_shown_only_if_the_whole_interval_meets_it(
    facts: dict[str, Any], dice: float, interval: list[float] | None, met: str, shown: bool | None
) -> None:
    for seed in facts["recipe"]["seeds"]:
        seed["segmentation"]["manual"] |= {"dice": dice, "ci95": interval}
    found = row(facts, "dice")
    assert (found["value"], found["met"], found["shown"]) == (pytest.approx(dice), met, shown)


def test_unflagged_wrong_answers_are_those_of_the_worst_artifact_of_each_source(facts: dict[str, Any]) -> None:
    def rows(*shares: float) -> list[dict[str, Any]]:
        return [{"severity": number, "wrong_without_flag": {"value": share}} for number, share in enumerate(shares)]

    sources = {
        "a": {"noise": rows(0, 0, 0, 0.1, 0.9), "motion": rows(0, 0, 0, 0.3)},
        "b": {"noise": rows(0, 0, 0, 0.0)},
    }
    assert row({**facts, "robustness": {"sources": sources}}, "unflagged")["value"] == pytest.approx(0.15)
    assert row({**facts, "robustness": None}, "unflagged")["met"] == "not measured"


def test_a_gain_is_the_negated_difference_of_the_variant(facts: dict[str, Any]) -> None:
    variant = facts["comparisons"]["ablations"]["variants"]["images_only"]["against_reference"]["roc_auc"]
    variant["kaggle"] |= {"difference": -0.2, "ci95": [-0.3, 0.1]}
    found = row(facts, "joint_gain")
    assert (found["value"], found["ci95"], found["shown"]) == (pytest.approx(0.2), [-0.1, 0.3], False)


def test_attempts_are_listed_beside_goals_that_are_not_met(facts: dict[str, Any]) -> None:
    rows = evaluated(facts)
    assert {TARGETS[row["name"]].get("score") for row in rows} - {None} == set(ATTEMPTED)
    found = attempted(facts, [{**row, "met": "no"} for row in rows])
    ablations, networks = (facts["comparisons"][name]["variants"] for name in ("ablations", "networks"))
    gains = {variant["description"]: variant["gain"] for variant in found["Dice"]}
    assert gains["Tversky loss for masks"] == ablations["tversky"]["against_reference"]["dice"]["mean_difference"]
    images = {variant["description"]: variant["gain"] for variant in found["ROC-AUC of images"]}
    expected = networks["base"]["against_reference"]["roc_auc"]
    mean = (expected["extra"]["difference"] + expected["kaggle"]["difference"]) / 2
    assert images[networks["base"]["description"]] == pytest.approx(mean), "both are sources of the training"
    slices = {variant["description"]: variant["gain"] for variant in found["ROC-AUC of volumes' slices"]}
    expected = ablations["lambda_3"]["against_reference"]["roc_auc"]["brats"]["difference"]
    assert slices["a heavy classification loss"] == expected
    assert not attempted(facts, [{**row, "met": "goal"} for row in rows])


def test_named_attempts_are_in_the_plans() -> None:
    for experiments in ATTEMPTED.values():
        for plan, names in experiments.items():
            path = Path(plans.__file__).with_name(f"{plan}.yaml")
            assert set(names) <= ablation_plan(path).variants.keys() | {"deep_supervision"}, "an ablation of 0.4.0"


@pytest.mark.parametrize("experiment", ["ablations", "crossvalidation", "networks"])
def test_committed_fold_summaries_are_reproduced(experiment: str, tmp_path: Path) -> None:
    folder = shutil.copytree(COMMITTED / experiment, tmp_path / experiment)
    write_fold_summaries(folder)
    for name in ("maps.json", "volumes.json"):
        assert json.loads((folder / name).read_text()) == json.loads((COMMITTED / experiment / name).read_text())


def test_folds_are_sorted_by_number() -> None:
    files = [Path(f"audit_fold{number}.json") for number in (10, 2, 0, 1)]
    assert [fold_of(path) for path in sorted(files, key=fold_of)] == [0, 1, 2, 10]
