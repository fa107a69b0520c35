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
from pydicom import dcmread

from bundle.command_line.cli import main
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


def test_of_a_study_in_one_folder_the_flair_is_read_and_named(series: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    for file in sorted(series.iterdir()):
        flair = dcmread(file)
        flair.SeriesDescription, flair.SeriesNumber = "AX FLAIR", 7
        (study / f"a{file.name}").write_bytes(written(flair))
        other = dcmread(file)
        other.SeriesDescription, other.SeriesNumber, other.SeriesInstanceUID = "AX T1", 3, "1.2.9"
        other.SOPInstanceUID += ".9"
        (study / f"b{file.name}").write_bytes(written(other))
    for source, name in ((series, "alone"), (study, "study")):
        assert main(["predict", str(source), "--output", str(tmp_path / name), "--dicom-seg"]) == 0
    alone, prediction = (json.loads(next((tmp_path / n).glob("[!i]*.json")).read_text()) for n in ("alone", "study"))
    assert prediction["series"] == {
        **{"number": 7, "uid": "1.2.3", "echo_ms": None, "slices": 10, "of": 2},
        "rule": "sequence",
    }
    assert [flag["code"] for flag in prediction["flags"] if flag not in alone["flags"]] == ["series_chosen"]
    assert prediction["slice_probabilities"] == alone["slice_probabilities"]
    found = highdicom.seg.segread(tmp_path / "study" / "study_seg.dcm")
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_a_single_slice_in_another_plane_is_read_as_it_is_displayed(
    series: Path, tmp_path: Path, plane: str, capsys: Any
) -> None:
    """The same pixels as an axial slice and as one of another plane: the same prediction, and a flag."""
    slices = {"axial": [1, 0, 0, 0, 1, 0], "sagittal": [0, 1, 0, 0, 0, -1], "coronal": [1, 0, 0, 0, 0, -1]}
    found = {}
    for name in ("axial", plane):
        dataset = dcmread(series / "5")
        dataset.ImageOrientationPatient = slices[name]
        (tmp_path / f"{name}.dcm").write_bytes(written(dataset))
        assert main(["predict", str(tmp_path / f"{name}.dcm"), "--output", str(tmp_path / "out")]) == 0
        found[name] = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        found[name]["mask"] = np.asarray(nib.load(tmp_path / "out" / f"{name}_mask.nii.gz").dataobj)
    one, other = found["axial"], found[plane]
    assert np.array_equal(one["mask"], other["mask"]) and one["mask"].shape[2] == 1
    for field in ("tumor_probability", "slice_axis", "area_mm2", "volume_ml"):
        assert one[field] == other[field], field
    assert [flag["code"] for flag in other["flags"] if flag not in one["flags"]] == [f"{plane}_slice"]


def test_a_series_that_cannot_be_referred_to_is_named(series: Path, tmp_path: Path, capsys: Any) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    plane = np.asarray(nib.load(next(series.parent.rglob("*_flair.nii.gz"))).dataobj)[:, :, 5].astype(np.uint16)
    (bare / "1").write_bytes(written(mr_dataset(plane)))
    assert main(["predict", str(bare), "--output", str(tmp_path / "predictions"), "--dicom-seg"]) == 2
    assert "no DICOM object can refer to it" in capsys.readouterr().err
    assert main(["predict", str(bare), "--output", str(tmp_path / "predictions")]) == 0  # without it, a prediction
