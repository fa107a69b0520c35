"""Weights that read several sequences: cases from folders and files, and what every command says of a wrong one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_volumes
from scripts.core.files import write_json
from scripts.core.messages import FLAGS
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights

READ = ["t2", "flair"]  # in another order than the files
OF_SEQUENCES = {name for name in FLAGS if name.startswith("sequence") and name != "sequence_unchecked"}
BRATS_2023 = {"flair": "t2f", "t1": "t1n", "t2": "t2w", "seg": "seg"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights with a report."""
    path = tmp_path_factory.mktemp("several") / "model.pt"
    sha256 = save_weights(multi_task_unet(in_channels=len(READ)), path)
    model = {"sha256": sha256, "network_name": "cpu", "modalities": READ, "trained_on": {}}
    write_json(path.with_name("report.json"), {"schema_version": 1, "model": model, "decision": {}})
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases: named as in BraTS 2020, as in BraTS 2023, and without a T2."""
    root = tmp_path_factory.mktemp("cases")
    write_volumes(root, 3, slices=8, side=96, modalities=("flair", "t1", "t2"))
    for old, new in BRATS_2023.items():
        file = root / "PHANTOM_002" / f"PHANTOM_002_{old}.nii.gz"
        file.rename(file.with_name(f"PHANTOM_002-{new}.nii.gz"))
    (root / "PHANTOM_003" / "PHANTOM_003_t2.nii.gz").unlink()
    return root


def test_a_folder_of_cases_and_pictures_is_predicted_and_what_is_missing_is_flagged(
    model: Path, cases: Path, synthetic: Path, tmp_path: Path
) -> None:
    output, picture = tmp_path / "out", min((synthetic / "kaggle" / "yes").iterdir())
    assert main(["predict", str(cases), str(picture), "--model", str(model), "--output", str(output)]) == 0
    index = json.loads((output / "index.json").read_text())["scans"]
    assert str(cases / "PHANTOM_003" / "PHANTOM_003_flair.nii.gz") in index, "the first file that is there"
    flags, results = {}, {}
    for name in ("PHANTOM_001/PHANTOM_001", "PHANTOM_003/PHANTOM_003", picture.stem):
        results[name] = json.loads((output / f"{name}.json").read_text())
        flags[name] = {flag["code"] for flag in results[name]["flags"]} & OF_SEQUENCES
    assert list(flags.values()) == [set(), {"sequences_missing_untrained"}, {"sequence_unknown_untrained"}]
    whole, part, _ = results.values()
    assert part["missing_sequences"] == ["t2"] and part["input"] == "PHANTOM_003_flair.nii.gz"
    assert "missing_sequences" not in whole
    assert (output / "PHANTOM_003" / "PHANTOM_003_overlay.png").is_file()
    assert main(["predict", str(cases), "--model", str(model), "--output", str(output)]) == 0, "kept, not refused"


def test_weights_say_what_they_were_trained_with(model: Path, cases: Path, synthetic: Path, tmp_path: Path) -> None:
    shutil.copy(model, tmp_path)
    report = json.loads(model.with_name("report.json").read_text())
    report["model"]["trained_with"] = {"missing_sequences": True, "unknown_sequences": True}
    write_json(tmp_path / "report.json", report)
    predictor, case = Predictor(tmp_path / "model.pt"), cases / "PHANTOM_003"
    flair = case / "PHANTOM_003_flair.nii.gz"
    picture = min((synthetic / "kaggle" / "yes").iterdir())
    for scan, code in (
        (flair, "sequences_missing"),
        (flair.read_bytes(), "sequence_unknown"),
        (picture, "sequence_unknown"),
    ):
        result = predictor.predict(scan)["result"]
        assert {flag["code"] for flag in result["flags"]} & OF_SEQUENCES == {code}
    by_name, by_place = predictor.predict(flair), predictor.predict([None, flair])
    assert by_name["result"] == by_place["result"] and torch.equal(by_name["pred"], by_place["pred"])
    another = predictor.predict(case / "PHANTOM_003_t1.nii.gz")["result"]
    assert another["state"] == "no_prediction" and "other_sequence" in {flag["code"] for flag in another["flags"]}


def test_channels_are_in_the_order_of_the_weights(model: Path, cases: Path) -> None:
    predictor, case = Predictor(model), cases / "PHANTOM_001"
    files = [case / f"PHANTOM_001_{sequence}.nii.gz" for sequence in READ]
    from_files = predictor.predict(files)["result"]["slice_probabilities"]
    (scan,) = predictor.parsed(["dataset#data"], dataset_dir=[str(case)])["dataset#data"]
    assert scan["image"] == [str(file) for file in files]
    assert predictor.predict(scan["image"])["result"]["slice_probabilities"] == from_files
    one_way, other_way = (predictor.parts["preprocessing"]({"image": order})["image"] for order in (files, files[::-1]))
    assert one_way.shape[0] == 2 and torch.equal(one_way, other_way.flip(0)) and not torch.equal(one_way, other_way)


def test_what_such_weights_cannot_do_is_one_line(
    model: Path, cases: Path, synthetic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model, tmp_path / "bare.pt")
    for command, reason in (
        (
            ["pipeline", "--volumes", str(cases), "--initial-weights", str(model), "--modalities", "flair"],
            "reads t2,flair, not flair; leave --modalities out",
        ),
        (
            ["predict", str(cases), "--model", str(tmp_path / "bare.pt")],
            "put the report.json of their training beside them",
        ),
        (
            ["pipeline", "--volumes", str(synthetic / "brats"), "--modalities", "t2,t1"],
            "no case has T2 or T1",
        ),
    ):
        assert main([*command, "--output", str(tmp_path / command[0] / command[-1].replace("/", "_"))]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ") and reason in error, command
        assert not (tmp_path / "out" / "data").exists()


@pytest.mark.parametrize("wrong", ["flair,dwi", "t1,T1w", ""])
def test_wrong_names_of_sequences_are_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["pipeline", "--volumes", "x", "--modalities", wrong])
    assert ended.value.code == 2 and "--modalities: " in capsys.readouterr().err
