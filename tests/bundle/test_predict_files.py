"""Predict folders with names of their own, and MetaImage files with their voxels beside."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes


def test_named_folders_keep_their_predictions_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(tmp_path / "a", 1, slices=8, side=96)
    (scan,) = (tmp_path / "a").rglob("*_flair.nii.gz")
    (tmp_path / "b").mkdir()
    voxels = np.asarray(nib.load(scan).dataobj).astype(np.float32).T
    itk.imwrite(itk.image_from_array(np.ascontiguousarray(voxels)), str(tmp_path / "b" / "scan.mhd"))
    assert (tmp_path / "b" / "scan.raw").is_file()
    out = tmp_path / "out"
    assert main(["predict", f"first={scan.parent}", f"second={tmp_path / 'b'}", "--output", str(out)]) == 0
    index = json.loads((out / "index.json").read_text())["scans"]
    assert index[str(scan)]["json"] == f"first/{scan.name.replace('.nii.gz', '.json')}"
    assert index[str(tmp_path / "b" / "scan.mhd")]["json"] == "second/scan.json"
    assert index[str(tmp_path / "b" / "scan.raw")] == {"skipped": "the voxels of scan.mhd"}
    assert main(["predict", f"x={tmp_path / 'absent'}", "--output", str(out)]) == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_every_lesion_of_a_folder_is_a_row_of_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_volumes(tmp_path / "a", 2, slices=20, side=160, seed=21)
    out = tmp_path / "out"
    assert main(["predict", str(tmp_path / "a"), "--output", str(out)]) == 0
    rows = list(csv.DictReader((out / "lesions.csv").read_text().splitlines()))
    told = [json.loads(path.read_text()) for path in sorted(out.rglob("*_flair.json"))]
    assert len(rows) == sum(len(prediction["lesions"]) for prediction in told) >= 2
    for prediction in told:
        assert sum(lesion["volume_ml"] for lesion in prediction["lesions"]) == pytest.approx(prediction["volume_ml"])
        own = [row for row in rows if Path(row["scan"]).name == prediction["input"]]
        for row, lesion in zip(own, prediction["lesions"], strict=True):
            assert int(row["number"]) == lesion["number"] and float(row["longest_mm"]) == lesion["longest_mm"]
            assert [int(row["first_slice"]), int(row["last_slice"])] == lesion["slices"]
            assert [float(row[f"centroid_mm_{axis}"]) for axis in "xyz"] == lesion["centroid_mm"]
            assert 0.5 < lesion["probability"] <= 1.0
    before = (out / "lesions.csv").read_text()
    assert main(["predict", str(tmp_path / "a"), "--output", str(out)]) == 0  # all are kept
    assert (out / "lesions.csv").read_text() == before


def test_the_bound_on_missed_tumors_is_written_for_a_named_population(
    constant_weights: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(constant_weights["no_tumor"].parent, tmp_path / "models") / "model.pt"
    write_images(tmp_path / "images", 10)
    told = ["predict", str(tmp_path / "images"), "--model", str(model), "--output", str(tmp_path / "out")]
    assert main(told) == 0
    files = [path for path in (tmp_path / "out").rglob("*.json") if path.name != "index.json"]
    assert len(files) == 10 and not any("no_tumor_bound" in json.loads(file.read_text()) for file in files)

    probability = json.loads(files[0].read_text())["tumor_probability"]
    fields = {"kind": "image", "tumors": 25, "threshold": 0.1, "needed": None, "probabilities": [probability] * 40}
    report = json.loads(model.with_name("report.json").read_text())
    report["no_tumor_bounds"] = {"miss_rate": 0.1, "confidence": 0.9, "populations": {"site": fields}}
    model.with_name("report.json").write_text(json.dumps(report))
    assert main([*told, "--population", "elsewhere"]) == 2
    assert "--population elsewhere: not known, these weights have site" in capsys.readouterr().err
    for population, expected in (("site", {"miss_rate": 0.1, "n": 25}), (None, {"population": None})):
        assert main([*told, *(["--population", population] if population else [])]) == 0  # predictions are kept
        for file in files:
            bound = json.loads(file.read_text())["no_tumor_bound"]
            assert expected.items() <= bound.items() and ("absent" in bound) is (population is None)
