"""Fine-tuning says honestly whether it helped, and leaves weights that every consumer takes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_volumes
from bundle.predictor import Predictor
from bundle.weights import find_weights
from bundle.workflows import finetuning
from bundle.workflows.finetuning import comparison, recommendation
from scripts.core.files import sha256_of, write_json


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    shortest = {"max_epochs": 1, "samples_per_epoch": 16, "encoder_lr": 1e-4, "other_lr": 1e-4}
    for name in finetuning.SCHEDULES:
        monkeypatch.setitem(finetuning.SCHEDULES, name, shortest)


def test_three_patients_are_fine_tuned_compared_and_released(
    tmp_path: Path, short: None, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    write_volumes(tmp_path / "own", 3, slices=10, side=160)
    assert main(["finetune", f"clinic={tmp_path / 'own'}", "--output", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "3 patients, 3 folds: 7 trainings and 9 scorings, about 20 s on 1 core" in out
    assert out.count("clinic/PHANTOM") == 0 and out.count("AUC clinic") == 1, "one table, of means"
    assert not [warning for warning in recwarn if "is empty" in str(warning.message)]
    found = json.loads((tmp_path / "run" / "finetuning.json").read_text())
    assert set(found["patients"]) == {f"clinic/PHANTOM_00{n}" for n in (1, 2, 3)}
    assert all(set(dice) == {"before", "after", "scratch"} for dice in found["patients"].values())
    assert found["after_minus_before"]["n"] == 3 and found["recommendation"]["text"] in out
    assert sha256_of(tmp_path / "run/runs/fold0_seed0/before/model.pt") == sha256_of(find_weights(None))
    released = json.loads((tmp_path / "run" / "models" / "report.json").read_text())
    assert "out-of-fold predictions" in json.dumps(released["decision"])
    own = {case for case in released["model"]["trained_on"] if case.startswith("clinic/")}
    assert own == set(found["patients"]) and len(released["model"]["trained_on"]) > len(own)
    scan = next((tmp_path / "own").rglob("*_flair.nii.gz"))
    answer = Predictor(tmp_path / "run" / "models" / "model.pt").predict(scan)["result"]
    assert answer["model"]["sha256"] == sha256_of(tmp_path / "run" / "models" / "model.pt")
    seconds = json.loads((tmp_path / "run/runs/all_seed0/after.json").read_text())["steps"]
    assert main(["finetune", f"clinic={tmp_path / 'own'}", "--output", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run/runs/all_seed0/after.json").read_text())["steps"] == seconds, "done before"


def test_cases_that_the_weights_have_seen_are_refused_by_name_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volumes(tmp_path / "own", 3, slices=10, side=160)
    shutil.copyfile(find_weights(None), tmp_path / "model.pt")
    entry = {"sha256": "0" * 64, "group": "own/PHANTOM_002", "subset": "train"}
    model = {"sha256": sha256_of(tmp_path / "model.pt"), "network_name": "cpu", "modalities": ["flair"]}
    write_json(tmp_path / "report.json", {"model": {**model, "trained_on": {"own/PHANTOM_002": entry}}})
    command = ["finetune", str(tmp_path / "own"), "--output", str(tmp_path / "run")]
    assert main([*command, "--model", str(tmp_path / "model.pt")]) == 2
    assert "trained on 1 of these cases, such as own/PHANTOM_002 (same name); leave them out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_patients_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(tmp_path / "own", 2, slices=10, side=160)
    assert main(["finetune", str(tmp_path / "own"), "--output", str(tmp_path / "run")]) == 2
    assert "at least 3 patients or clusters are needed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("interval", "code"),
    [
        ([0.01, 0.2], "gain"),
        ([-0.01, 0.2], "no_gain_shown"),
        ([0.0, 0.2], "no_gain_shown"),
        ([-0.2, -0.01], "loss"),
        (None, "no_gain_shown"),
    ],
)
def test_a_gain_is_recommended_only_where_the_whole_interval_is_above_zero(
    interval: list[float] | None, code: str
) -> None:
    assert recommendation({"n": 5, "mean_difference": 0.1, "ci95": interval})["code"] == code


def test_differences_are_after_minus_the_other_variant() -> None:
    def variant(dice: list[float], reference: list[float]) -> dict[str, Any]:
        gains = np.array(dice) - np.array(reference)
        scores = {"dice": float(np.mean(dice)), "ci95": {"dice": None}, "patients": {}}
        compared = {"n": 3, "mean_difference": float(gains.mean()), "ci95": [float(gains.min()), float(gains.max())]}
        compared |= {"better": int((gains > 0).sum()), "worse": int((gains < 0).sum())}
        return {
            "seeds": [{"segmentation": scores, "classification": {}}],
            "against_reference": {"dice": compared},
        }

    after, before, scratch = [0.8, 0.7, 0.9], [0.5, 0.6, 0.7], [0.1, 0.75, 0.3]
    variants = {"after": variant(after, after), "before": variant(before, after), "scratch": variant(scratch, after)}
    found = comparison({"variants": variants})
    assert found["after_minus_before"]["mean_difference"] == pytest.approx(0.2)
    assert found["after_minus_before"]["ci95"] == pytest.approx([0.1, 0.3])
    assert (found["after_minus_before"]["better"], found["after_minus_before"]["worse"]) == (3, 0)
    assert found["after_minus_scratch"]["better"] == 2 and found["after_minus_scratch"]["worse"] == 1
    assert found["recommendation"]["code"] == "gain"
