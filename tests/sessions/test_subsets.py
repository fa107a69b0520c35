"""The pipeline on every part of the data, to the end, and what predicts, scores and describes the weights then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.workflows.presets import PRESETS

pytestmark = pytest.mark.session
SEQUENCES = ["flair", "t1", "t1ce", "t2"]
SHORT = {"max_epochs": 1, "samples_per_epoch": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FLAIR volumes, volumes of four sequences, images, and cases that nothing is trained on."""
    root = tmp_path_factory.mktemp("data")
    write_volumes(root / "flair", 5, slices=10, side=128)
    write_volumes(root / "four", 5, slices=10, side=128, seed=1, modalities=SEQUENCES)
    write_volumes(root / "new", 1, slices=10, side=128, seed=2, modalities=SEQUENCES)
    (root / "new" / "PHANTOM_001").rename(root / "new" / "case")
    for file in (root / "new" / "case").iterdir():
        file.rename(file.with_name(file.name.replace("PHANTOM_001", "NEW_1")))
    write_images(root / "images", 24)
    return root


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "quick", dict.fromkeys(("stage1", "stage2", "stage3"), SHORT))


def trained(output: Path, *options: str) -> dict[str, Any]:
    """The report of the weights of a run."""
    assert main(["pipeline", *options, "--output", str(output)]) == 0
    found: dict[str, Any] = json.loads((output / "models" / "report.json").read_text())
    for command in (["info"], ["evaluate", "--volumes", str(output.parent / "new"), "--output", f"{output}/scores"]):
        assert main([*command, "--model", str(output / "models" / "model.pt")]) == 0
    return found


def entry_of(run: Path, scan: Path) -> dict[str, Any]:
    """The prediction's files by `index.json`."""
    output = run / "predictions"
    assert main(["predict", str(scan), "--model", str(run / "models" / "model.pt"), "--output", str(output)]) == 0
    scans = json.loads((output / "index.json").read_text())["scans"].values()
    (entry,) = (entry for entry in scans if "json" in entry)
    return dict(entry)


def test_volumes_alone_of_two_sources_segment_and_classify(data: Path) -> None:
    run = data / "volumes"
    report = trained(run, "--volumes", f"a={data / 'flair'}", "--volumes", f"b={data / 'four'}")
    assert report["segmentation"]["n"] and "learned" not in report["model"].keys() - {"learned"}
    assert report["model"]["learned"] == ["segmentation", "classification"]
    assert entry_of(run, data / "new" / "case").keys() == {"state", "json", "mask", "overlay"}


def test_images_alone_classify_and_give_no_mask(data: Path) -> None:
    run = data / "classes"
    report = trained(run, "--images", str(data / "images"))
    assert report["model"]["learned"] == ["classification"] and not report["segmentation"]["n"]
    assert not (run / "stage1").exists() and not (run / "stage3").exists()
    entry = entry_of(run, data / "new" / "case")
    assert entry.keys() == {"state", "json", "overlay"} and entry["state"] != "no_prediction"
    assert not json.loads((run / "scores" / "report.json").read_text())["segmentation"]["n"]
    assert main(["finetune", str(data / "flair"), "--model", f"{run}/models/model.pt", "--output", f"{run}/f"]) == 2


def test_four_sequences_are_channels_from_training_to_prediction_and_start_the_next(data: Path) -> None:
    run, again = data / "channels", data / "again"
    report = trained(run, "--volumes", str(data / "four"), "--modalities", ",".join(SEQUENCES))
    assert report["model"]["modalities"] == SEQUENCES
    assert entry_of(run, data / "new" / "case")["mask"]
    weights = run / "models" / "model.pt"
    assert Predictor(weights).parts["modalities"] == SEQUENCES
    start = ["--volumes", f"new={data / 'four'}", "--initial-weights", str(weights), "--output", str(again)]
    assert main(["pipeline", *start, "--seed", "3"]) in (0, 2), "refused where another seed tests a training case"
    assert main(["pipeline", *start]) == 0, "the same split"
    assert json.loads((again / "models" / "report.json").read_text())["model"]["modalities"] == SEQUENCES


def test_three_regions_are_learned_scored_and_predicted(data: Path) -> None:
    run = data / "regions"
    four = ["--volumes", str(data / "four"), "--modalities", ",".join(SEQUENCES)]
    report = trained(run, *four, "--regions", "wt,tc,et")
    assert report["model"]["regions"] == ["wt", "tc", "et"]
    of_regions = report["segmentation"]["regions"]
    assert {one["n"] for one in of_regions.values()} == {report["segmentation"]["patients_n"]}
    result = json.loads((run / "predictions" / entry_of(run, data / "new" / "case")["json"]).read_text())
    assert [one["name"] for one in result["regions"]] == list(of_regions)
    scored = json.loads((run / "scores" / "report.json").read_text())["segmentation"]["regions"]
    assert all(one["n"] == 1 for one in scored.values())
