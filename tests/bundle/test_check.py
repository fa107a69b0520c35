"""`python -m bundle check`: text, JSON, exit code; and the work says the same as the check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.command_line.cli import main
from scripts.core.files import write_json


@pytest.fixture
def data(synthetic: Path, tmp_path: Path) -> Path:
    shutil.copytree(synthetic, tmp_path / "data")
    return tmp_path / "data"


def test_clean_folders_are_described_and_the_exit_code_is_0(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data / "brats"), str(data / "kaggle")]) == 0
    said = capsys.readouterr().out
    assert "6 with mask" in said and "12 yes, 12 no" in said and "suggested: --preset" in said
    assert "error:" not in said and "warning:" not in said


def test_the_options_of_evaluate_name_folders_too(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--volumes", f"first={data / 'brats'}", "--images", f"second={data / 'kaggle'}"]
    assert main(["check", *folders, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["sources"]) == {"first", "second"}
    assert main(["check"]) == 2
    assert "name a folder" in capsys.readouterr().err


def test_check_gives_the_messages_of_preprocessing(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mask in (data / "brats").rglob("*_seg.nii.gz"):
        mask.rename(mask.with_name(mask.name.replace("_seg", "_contours")))
    assert main(["check", str(data / "brats"), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    (text,) = [finding["text"] for finding in found["findings"] if finding["code"] == "no_masks"]
    assert "6 cases, 0 masks; these files look like masks" in text
    work = ["pipeline", "--volumes", str(data / "brats"), "--images", str(data / "kaggle"), "--output", str(data / "r")]
    assert main(work) == 2
    assert text.split(": ", 1)[1] in capsys.readouterr().err
    assert main(["check", str(data / "brats"), "--masks", "{case}_contours.nii.gz"]) == 0


def test_a_missing_folder_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "absent")]) == 2
    assert "absent: no such folder" in capsys.readouterr().out


def test_codes_are_positive_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    for codes in ("0", "a", "1,,2"):
        with pytest.raises(SystemExit):
            main(["check", ".", "--labels", codes])
        assert "--labels" in capsys.readouterr().err


def test_predictions_beside_scans_are_no_masks_and_a_folder_of_scans_is_an_error_only_as_volumes(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for mask in (data / "brats").rglob("*_seg.nii.gz"):
        mask.rename(mask.with_name(mask.name.replace("_seg", "_flair_mask")))
        write_json(mask.with_name(mask.name.replace("_seg.nii.gz", "_flair.json")), {"input_sha256": "0"})
    assert main(["check", str(data / "brats")]) == 2
    said = capsys.readouterr().out
    assert "6 cases, 0 masks; predictions are no masks, rename those that were corrected" in said
    assert "predict: 6 scans; skipped: 6 x no scan, by its name, 6 x a prediction of this bundle" in said
    (data / "scans").mkdir()
    (data / "scans" / "a.nii.gz").write_bytes(next((data / "brats").rglob("*_flair.nii.gz")).read_bytes())
    assert main(["check", str(data / "scans")]) == 0
    assert "no case found (no known name: a.nii.gz)" in (said := capsys.readouterr().out)
    assert "its scans can be predicted [layout]" in said and "suggested" not in said
    assert main(["check", "--volumes", str(data / "scans")]) == 2
