"""`python -m bundle info`: every number is that of the report; nothing of torch is imported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from bundle import __version__
from bundle.command_line import info
from bundle.command_line.cli import main
from scripts.core.files import sha256_of
from scripts.core.messages import report_note

ROOT = Path(__file__).resolve().parents[3]
WEIGHTS = ROOT / "models" / "model.pt"
HEAVY = {"torch", "monai", "scipy", "pandas", "matplotlib"}


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    """What `info --json` prints."""
    assert main(["info", "--json", *arguments]) == 0
    found: dict[str, dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_versions_weights_and_numbers_are_those_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    found, report = described(capsys), json.loads(WEIGHTS.with_name("report.json").read_text())
    assert found["bundle"] == __version__ and found["packages"]["torch"] == version("torch")
    assert found["weights"]["sha256"] == sha256_of(WEIGHTS) and found["weights"]["modalities"] == ["flair"]
    assert found["weights"]["report"] == report_note("matching")
    decision = report["decision"]
    for kind, name in (("image", "image"), ("volume", "slice"), ("patient", "volume")):
        shown, fitted = found["thresholds"][name], decision[kind]
        assert shown["operating_point"] == fitted["operating_point"] and shown["n"] == fitted["evidence"]["n"]
        assert shown["sensitivity"] == fitted["evidence"]["sensitivity"]
        assert shown["display_threshold"] == decision["display_threshold"]
    dice = report["segmentation"]["mean"]["dice"]
    assert found["scores"]["dice"]["value"] == dice and found["scores"]["scored"] == report["scored"]
    for name, row in found["scores"]["sources"].items():
        scores = report["classification"][name]
        assert {row[key] == scores[key] for key in ("n", "specificity")} == {True}
        of_images = scores.get("within_folds", scores)["roc_auc"]  # logits of several folds are not compared
        auc = (scores.get("mean_patient_roc_auc") or {"value": of_images})["value"]
        assert row["roc_auc"] == (auc and pytest.approx(auc))
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    readme = re.findall(r"ROC-AUC of (?:a volume's slices|images), (\w+) \| ([\d.]+)", (ROOT / "README.md").read_text())
    assert not re.search(r"(ROC-AUC|sensitivity|specificity) -|of 0 patients", text), "what is unknown is left out"
    assert readme and all(re.search(rf"{name} \(.*ROC-AUC.* {value};", text) for name, value in readme), "the same"
    assert f"Dice {dice:.3f} (" in text and f"operating point {decision['image']['operating_point']:.3f}" in text


def test_weights_without_a_report_have_no_thresholds_and_no_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(WEIGHTS, tmp_path)
    found = described(capsys, "--model", str(tmp_path / "model.pt"))
    assert found["thresholds"] == found["scores"] == {} and found["weights"]["report"] == report_note("missing")
    assert main(["info", "--model", str(tmp_path / "model.pt")]) == 0
    assert "Dice" not in capsys.readouterr().out


def test_missing_weights_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(tmp_path / "none.pt")]) == 2
    error = capsys.readouterr().err
    assert "none.pt: no weights here" in error and error.count("\n") == 1


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    present = info._version
    monkeypatch.setattr(info, "_version", lambda package: None if package == "pydicom" else present(package))
    found = described(capsys)
    assert "dicom" not in found["reads"] and {"nifti", "png"} <= {*found["reads"]}
    absent = {name for name, there in found["extras"].items() if not there}
    assert {"dicom", "app", "all", "dev"} <= absent and "export" not in absent, "app, all and dev need dicom"


@pytest.mark.parametrize("arguments", [["info"], ["--help"], ["predict", "--help"], ["pipeline", "--help"]])
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "bundle", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "bundle" in imported and not imported & HEAVY
