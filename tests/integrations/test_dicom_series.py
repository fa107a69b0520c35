"""A DICOM series on the command line: the SEG that comes out lies where the mask lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import numpy as np
import pytest
from hostile.dicoms import mr_dataset, written

from bundle.cli import main
from bundle.datasets.phantoms import write_volumes
from scripts.core.geometry import as_displayed

REFERENCES: dict[str, Any] = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as an axial MR series, pixels not square, files in no order."""
    place = tmp_path_factory.mktemp("series")
    write_volumes(place / "brats", 1, slices=10, side=160)
    image = nib.load(place / "brats" / "PHANTOM_001" / "PHANTOM_001_flair.nii.gz")
    volume = as_displayed(np.asarray(image.dataobj), image.affine)[:, ::2]  # (H, W / 2, D)
    (place / "dicom").mkdir()
    for index in range(volume.shape[2]):
        plane = np.ascontiguousarray(volume[:, :, index]).astype(np.uint16)
        dataset = mr_dataset(plane, position=index * 3.0, PixelSpacing=[1.0, 2.0], **REFERENCES)
        (place / "dicom" / f"{(index * 7) % 10}").write_bytes(written(dataset))
    return place / "dicom"


def test_the_segmentation_is_at_the_place_of_the_mask(series: Path, tmp_path: Path) -> None:
    assert main(["predict", str(series), "--output", str(tmp_path), "--dicom-seg"]) == 0
    mask = np.asarray(nib.load(tmp_path / "dicom_mask.nii.gz").dataobj)
    found = highdicom.seg.segread(tmp_path / "dicom_seg.dcm")
    drawn = np.zeros_like(mask)
    planes = found.pixel_array.reshape(-1, found.Rows, found.Columns)
    for group, plane in zip(found.PerFrameFunctionalGroupsSequence, planes, strict=True):
        drawn[:, :, round(float(group.PlanePositionSequence[0].ImagePositionPatient[2]) / 3.0)] = plane
    assert mask.any() and np.array_equal(drawn, mask)
    prediction = json.loads((tmp_path / "dicom.json").read_text())
    assert prediction["volume_ml"] == pytest.approx(mask.sum() * 1.0 * 2.0 * 3.0 / 1000, rel=1e-3)


def test_a_series_that_cannot_be_referred_to_is_named(series: Path, tmp_path: Path, capsys: Any) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    plane = np.asarray(nib.load(next(series.parent.rglob("*_flair.nii.gz"))).dataobj)[:, :, 5].astype(np.uint16)
    (bare / "1").write_bytes(written(mr_dataset(plane)))
    assert main(["predict", str(bare), "--output", str(tmp_path / "predictions"), "--dicom-seg"]) == 2
    assert "no DICOM object can refer to it" in capsys.readouterr().err
    assert main(["predict", str(bare), "--output", str(tmp_path / "predictions")]) == 0  # without it, a prediction
