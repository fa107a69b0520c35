"""Types of tumors on synthetic images in four classes: they are learned, scored and predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.datasets.typed_phantoms import write_typed_images
from bundle.workflows.presets import PRESETS

pytestmark = [pytest.mark.session, pytest.mark.timeout(3600)]
TYPES = ["glioma", "meningioma", "pituitary"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of docs/how-to/training.md."""
    place = tmp_path_factory.mktemp("types")
    made = str(place / "phantoms")
    assert main(["phantoms", "--output", made, "--patients", "8", "--images", "320", "--four-classes"]) == 0
    sources = ["--volumes", f"{made}/brats", "--images", f"{made}/kaggle"]
    asked = ["--tumor-types", ",".join(TYPES), "--preset", "quick", "--output", str(place / "run")]
    assert main(["pipeline", *sources, *asked]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    write_typed_images(folder, 48, seed=5)
    return folder


def scores_of(report: Path, source: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.read_text())["tumor_types"][source]
    return found


def test_types_are_learned_in_images_that_were_left_out(run: Path) -> None:
    found = scores_of(run / "models" / "report.json", "kaggle")
    low, high = found["ci95"]["macro_roc_auc"]
    assert found["n"] > 40 and 0.5 < low < found["macro_roc_auc"] < high
    assert found["ci95"]["balanced_accuracy"][0] > 1 / 3
    assert sum(sum(row.values()) for row in found["confusion"].values()) == found["n"]
    assert "classification" in json.loads((run / "models" / "report.json").read_text())


def test_weights_are_scored_on_new_images_in_four_classes(run: Path, new: Path, tmp_path: Path) -> None:
    model = str(run / "models" / "model.pt")
    assert main(["evaluate", "--images", f"new={new}", "--model", model, "--output", str(tmp_path / "scores")]) == 0
    found = scores_of(tmp_path / "scores" / "report.json", "new")
    assert found["n"] == 36 and found["ci95"]["macro_roc_auc"][0] > 0.5


def test_a_predicted_tumor_has_the_probability_of_each_type(run: Path, new: Path, tmp_path: Path) -> None:
    model = str(run / "models" / "model.pt")
    assert main(["predict", str(new), "--model", model, "--output", str(tmp_path / "p")]) == 0
    results = [json.loads(path.read_text()) for path in (tmp_path / "p").rglob("PHANTOM*.json")]
    assert len(results) == 48
    for result in results:
        assert ("tumor_type" in result) is (result["state"] == "tumor")
    told = [result["tumor_type"] for result in results if result["state"] == "tumor"]
    assert len(told) > 10 and all(list(one) == TYPES and abs(sum(one.values()) - 1) < 1e-5 for one in told)


def test_cross_validation_pools_the_types_of_all_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = {"max_epochs": 1, "samples_per_epoch": 16}
    monkeypatch.setitem(PRESETS, "quick", dict.fromkeys(("stage1", "stage2", "stage3"), short))
    write_volumes(tmp_path / "brats", 4, slices=10, side=128)
    write_typed_images(tmp_path / "kaggle", 36)
    write_images(tmp_path / "yesno", 6, seed=3)
    sources = [f"--volumes={tmp_path}/brats", f"--images={tmp_path}/kaggle", f"--images={tmp_path}/yesno"]
    asked = ["--tumor-types", ",".join(TYPES), "--volume-types", "brats=glioma", "--folds", "3"]
    asked += ["--fold", "0", "--fold", "1"]
    assert main(["crossvalidate", *sources, *asked, "--output", str(tmp_path / "folds")]) == 0
    found = scores_of(tmp_path / "folds" / "report.json", "kaggle")
    assert 9 < found["n"] < 27 and list(found["by_type"]) == TYPES
    assert list(json.loads((tmp_path / "folds" / "report.json").read_text())["tumor_types"]) == ["kaggle"]
    (seed,) = json.loads((tmp_path / "folds" / "summary.json").read_text())["variants"]["recipe"]["seeds"]
    assert seed["tumor_types"]["kaggle"]["macro_roc_auc"] == found["macro_roc_auc"]
