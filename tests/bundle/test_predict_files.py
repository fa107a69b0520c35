"""Predict folders with names of their own, and MetaImage files with their voxels beside."""

from __future__ import annotations

import json
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_volumes


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
