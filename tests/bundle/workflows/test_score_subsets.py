"""`subsets`: weights of several sequences on every combination of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_volumes
from scripts.audit.sequence_subsets import only
from scripts.core.files import write_json
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights

READ = ["flair", "t2"]


def weights(folder: Path, modalities: list[str], known: str | None = None) -> Path:
    """Untrained weights that know one case."""
    torch.manual_seed(len(modalities))
    sha256 = save_weights(multi_task_unet(in_channels=len(modalities)), folder / "model.pt")
    entry = {"sha256": "0" * 64, "phash": None, "group": known, "subset": "train"}
    model = {
        "sha256": sha256,
        "network_name": "cpu",
        "modalities": modalities,
        "trained_on": {known: entry} if known else {},
    }
    write_json(folder / "report.json", {"schema_version": 1, "model": model, "decision": {}})
    return folder / "model.pt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes, of which the weights know one and one has no T2; weights; a baseline."""
    root = tmp_path_factory.mktemp("subsets")
    write_volumes(root / "brats", 3, slices=8, side=96, modalities=READ)
    (root / "brats" / "PHANTOM_003" / "PHANTOM_003_t2.nii.gz").unlink()
    for name in ("several", "one"):
        (root / name).mkdir()
    weights(root / "several", READ, "brats/PHANTOM_001")
    weights(root / "one", ["flair"])
    return root


def test_every_combination_is_compared_on_the_same_patients(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["subsets", "--volumes", str(folder / "brats"), "--model", str(folder / "several/model.pt")]
    command += ["--baseline", str(folder / "one/model.pt"), "--output", str(folder / "out")]
    assert main(command) == 0
    told, found = capsys.readouterr().out, json.loads((folder / "out" / "subsets.json").read_text())
    assert found["left_out"] == 1 and found["baseline"] == "flair" and "flair+t2" in told
    rows = found["sources"]["brats"]
    assert [(row["sequences"], row["weights"], row["patients"]) for row in rows] == [
        (["flair", "t2"], "these", 1),
        (["flair"], "these", 2),
        (["t2"], "these", 1),
        (["flair"], "baseline", 2),
    ]
    dice = {(row["case"][-1], *row["sequences"], row["baseline"]): row["dice"] for row in found["rows"]}
    gain = dice["2", "flair", "t2", False] - dice["2", "flair", False]
    assert rows[0]["against_alone"]["value"] == pytest.approx(gain) and rows[0]["against_alone"]["patients"] == 1
    gain = sum(dice[case, "flair", False] - dice[case, "flair", True] for case in "23") / 2
    assert rows[1]["against_baseline"]["value"] == pytest.approx(gain) and rows[1]["against_baseline"]["ci95"]
    assert rows[3]["against_baseline"]["value"] == 0
    before = {file: file.stat().st_mtime_ns for file in (folder / "out" / "cases").rglob("*.json")}
    assert main(command) == 0 and {file: file.stat().st_mtime_ns for file in before} == before, "kept"
    assert json.loads((folder / "out" / "subsets.json").read_text()) == found


def test_a_sequence_that_is_taken_away_is_as_one_that_is_not_there(folder: Path) -> None:
    predictor, case = Predictor(folder / "several" / "model.pt"), folder / "brats" / "PHANTOM_001"
    files = [case / f"PHANTOM_001_{name}.nii.gz" for name in READ]
    image = predictor.read(files)
    for number, name in enumerate(READ):
        taken = predictor.infer(only(image, READ, [name]))
        absent = predictor.predict([file if n == number else None for n, file in enumerate(files)])
        assert torch.equal(taken["image"], absent["image"]) and torch.equal(taken["pred"], absent["pred"])
        assert taken["result"] == absent["result"] and taken["result"]["missing_sequences"] == [READ[1 - number]]
    assert torch.equal(only(image, READ, READ), image) and "missing_sequences" not in only(image, READ, READ).meta


def test_what_cannot_be_compared_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, several = str(folder / "one/model.pt"), str(folder / "several/model.pt")
    for more, reason in (
        (["--model", one], "nothing can be left out"),
        (["--model", several, "--other", one], "reads flair, not flair,t2"),
        (["--model", several, "--baseline", several], "as a baseline name weights that read one of flair,t2"),
        (["--model", several, "--images", str(folder)], "an image has one sequence"),
    ):
        arguments = ["--volumes", str(folder / "brats"), "--output", str(folder / "refused")]
        assert main(["subsets", *arguments, *more]) == 2
        assert reason in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "refused").exists()
