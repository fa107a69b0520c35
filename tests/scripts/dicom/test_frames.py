"""Where slices lie: rounding, missing positions, single slices in other planes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hostile.dicoms import dicom, enhanced, head, mr_dataset, written
from pydicom import dcmread

from scripts.core.geometry import as_displayed
from scripts.dicom.headers import DicomError
from scripts.dicom.reading import read_dicom
from scripts.dicom.segmentation import segmentation_of
from scripts.io.readers import BrainMriReader

GRAY = head(64, 56).astype(np.uint16)


def series(folder: Path, change: Any, count: int = 6) -> Path:
    """A series whose slices have each what `change(index)` says."""
    folder.mkdir()
    for index in range(count):
        more = {"SOPInstanceUID": f"1.2.{index}", **change(index)}
        (folder / f"{(index * 7) % 11:02d}").write_bytes(
            written(mr_dataset(GRAY + index, position=index * 3.0, **more))
        )
    return folder


def ordered(count: int = 6) -> np.ndarray:
    return np.stack([GRAY + k for k in range(count)], axis=-1)


@pytest.mark.parametrize(
    "change",
    [
        lambda k: {"PixelSpacing": [0.4688, 0.46875][:: 1 if k % 2 else -1]},
        lambda k: {"ImageOrientationPatient": [0.9998, 0.01 * (k % 2), 0, 0, 1, 0]},
        lambda k: {"ImagePositionPatient": [-80.0, -100.0, round(3.0 * k + 0.04 * (k % 2), 2)]},
        lambda k: {"SliceThickness": 3.0 + 0.01 * k},
    ],
)
def test_rounding_may_differ_between_files(tmp_path: Path, change: Any) -> None:
    found = read_dicom(series(tmp_path / "mr", change))
    assert np.array_equal(found.voxels, ordered()) and not found.flags


def test_without_positions_slices_are_sorted_by_location_and_flagged(tmp_path: Path) -> None:
    folder = series(tmp_path / "mr", lambda k: {"ImagePositionPatient": None, "SliceLocation": 40.0 + 3.0 * k})
    found = read_dicom(folder)
    assert np.array_equal(found.voxels, ordered()) and found.flags == ("position_missing",)
    assert found.affine[2, 2] == pytest.approx(3.0) and found.spacing_known and found.thickness_known
    with pytest.raises(DicomError, match="no positions"):
        segmentation_of(folder, np.zeros(found.voxels.shape), {"version": "1", "sha256": "ab" * 32})


def test_one_position_for_all_slices_is_ignored(tmp_path: Path) -> None:
    """As careless de-identification leaves it."""
    more = {"ImagePositionPatient": [0.0, 0.0, 0.0]}
    found = read_dicom(series(tmp_path / "mr", lambda k: {**more, "SliceLocation": 3.0 * k}))
    assert np.array_equal(found.voxels, ordered()) and found.flags == ("position_missing",)


def test_without_positions_and_locations_slices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DicomError, match="neither ImagePositionPatient nor SliceLocation"):
        read_dicom(series(tmp_path / "mr", lambda k: {"ImagePositionPatient": None, "InstanceNumber": k}))
    data = dcmread(series(tmp_path / "x", lambda k: {}) / "00")
    assert data.ImagePositionPatient
    groups = dcmread(_enhanced_without_positions(tmp_path / "enhanced"))
    assert "PlanePositionSequence" not in groups.PerFrameFunctionalGroupsSequence[0]
    with pytest.raises(DicomError, match="neither ImagePositionPatient nor SliceLocation"):
        read_dicom(tmp_path / "enhanced")


def _enhanced_without_positions(path: Path) -> Path:
    path.write_bytes(enhanced(np.moveaxis(ordered(), -1, 0)))
    data = dcmread(path)
    for group in data.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    path.write_bytes(written(data))
    return path


def test_several_slices_without_an_orientation_are_flagged(tmp_path: Path) -> None:
    found = read_dicom(series(tmp_path / "mr", lambda k: {"ImageOrientationPatient": None}))
    assert found.flags == ("orientation_unknown",)


PLANES = {"sagittal": [0, 1, 0, 0, 0, -1], "coronal": [1, 0, 0, 0, 0, -1], "axial": [1, 0, 0, 0, 1, 0]}


@pytest.mark.parametrize("plane", PLANES)
def test_a_single_slice_is_displayed_in_its_own_plane_and_flagged(tmp_path: Path, plane: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(dicom(GRAY, ImageOrientationPatient=PLANES[plane], ImagePositionPatient=[-80.0, -100.0, 50.0]))
    reader = BrainMriReader()
    array, meta = reader.get_data(reader.read(str(path)))
    assert meta["flags"] == ("" if plane == "axial" else f"{plane}_slice")
    shown = as_displayed(array[0], meta["affine"])
    assert shown.shape == (64, 56, 1) and np.array_equal(shown[..., 0], GRAY)
    assert np.allclose(np.linalg.norm(meta["affine"][:3, :3], axis=0), [1.5, 1.25, 3.0])
    codes = {"sagittal": "IPR", "coronal": "ILP", "axial": "PLS"}[plane]
    assert "".join(nib.aff2axcodes(meta["original_affine"])) == codes
