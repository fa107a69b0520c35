"""A mask as RTSTRUCT: the pixels within its outlines are the mask again, by our reading and by another program's."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.dicoms import dicom, enhanced, head, mr_dataset, written
from matplotlib.path import Path as Polygon
from pydicom import Dataset, dcmread

from scripts.dicom.headers import DicomError
from scripts.dicom.reading import read_dicom
from scripts.dicom.structure_set import structure_set_of

MODEL = {"version": "1.2.3", "sha256": "ab" * 32}
SHAPE = (64, 56, 6)
GRAY = head(*SHAPE[:2]).astype(np.uint16)
REFERENCES = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
OBLIQUE = {"ImageOrientationPatient": [0.96, 0.28, 0, -0.224, 0.768, 0.6]}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "series")


def write_series(folder: Path, **changes: Any) -> Path:
    folder.mkdir()
    cosines = np.array(changes.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0]), dtype=float)
    normal = np.cross(cosines[:3], cosines[3:])
    for index in range(SHAPE[-1]):
        place = {"ImagePositionPatient": (np.array([-80.0, -100.0, 0.0]) + index * 3.0 * normal).round(5).tolist()}
        data = written(mr_dataset(GRAY, position=index * 3.0, **{**REFERENCES, **changes, **place}))
        (folder / f"{index}").write_bytes(data)
    return folder


def tumors(hole: bool = True) -> np.ndarray:
    """Two parts, one of them with a hole, and one pixel."""
    rows, columns, slices = np.indices(SHAPE)
    distance = np.hypot((rows - 30) / 1.5, columns - 25)
    mask = (distance < 12 - np.abs(slices - 2) * 2) & (slices < 5)
    if hole:
        mask &= ~((distance < 4) & (slices == 2))
    return np.asarray(mask | ((rows > 50) & (rows < 56) & (columns > 5) & (columns < 12) & (slices == 1)))


def mask_of(structures: Dataset, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centers are in an odd number of outlines."""
    mask = np.zeros(shape, dtype=bool)
    to_indices = np.linalg.inv(affine) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    centers = np.indices(shape[:2]).reshape(2, -1).T
    for contour in structures.ROIContourSequence[0].get("ContourSequence", []):
        points = np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3))
        places = np.c_[points, np.ones(len(points))] @ to_indices.T
        assert np.ptp(places[:, 2]) < 1e-2 and contour.NumberOfContourPoints == len(points)
        mask[..., round(places[0, 2])] ^= Polygon(places[:, :2]).contains_points(centers).reshape(shape[:2])
    return mask


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("changes", [{}, OBLIQUE], ids=["axial", "oblique"])
def test_a_mask_is_the_same_after_the_way_through_outlines(changes: dict[str, Any], tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", **changes)
    stack, mask = read_dicom(series), tumors()
    made = dcmread(BytesIO(structure_set_of(series, mask, MODEL)))
    assert (mask_of(made, stack.affine, SHAPE) == mask).all()
    kinds = {contour.ContourGeometricType for contour in made.ROIContourSequence[0].ContourSequence}
    assert kinds == {"CLOSEDPLANAR_XOR"}


def test_it_refers_to_the_slices_that_it_is_drawn_on(series: Path) -> None:
    made = dcmread(BytesIO(structure_set_of(series, tumors(hole=False), MODEL)))
    slices = {dcmread(path).SOPInstanceUID: float(dcmread(path).ImagePositionPatient[2]) for path in series.iterdir()}
    for contour in made.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        assert {float(value) for value in contour.ContourData[2::3]} == {slices[image.ReferencedSOPInstanceUID]}
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
    assert made.StudyInstanceUID == "1.2.3.4" and made.Modality == "RTSTRUCT" and made.PatientName == "CANARY^PATIENT"
    assert structure_set_of(series, tumors(hole=False), MODEL) == structure_set_of(series, tumors(hole=False), MODEL)


def test_frames_of_one_file_are_named_by_number(tmp_path: Path) -> None:
    file = tmp_path / "frames.dcm"
    file.write_bytes(enhanced(np.stack([GRAY] * SHAPE[-1]), order=[3, 1, 0, 2, 5, 4], **REFERENCES))
    made = dcmread(BytesIO(structure_set_of(file, tumors(), MODEL)))
    assert (mask_of(made, read_dicom(file).affine, SHAPE) == tumors()).all()
    contour = made.ROIContourSequence[0].ContourSequence[0]
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == 3


def test_an_empty_mask_has_no_outline_and_a_wrong_one_is_refused(series: Path) -> None:
    made = dcmread(BytesIO(structure_set_of(series, np.zeros(SHAPE), MODEL)))
    assert "ContourSequence" not in made.ROIContourSequence[0]
    with pytest.raises(DicomError, match="does not fit its 6 slices"):
        structure_set_of(series, np.zeros((64, 56, 5)), MODEL)
    with pytest.raises(DicomError, match="StudyInstanceUID is missing"):
        structure_set_of(dicom(FrameOfReferenceUID="1.2.3.5"), np.zeros((64, 56, 1)), MODEL)
    unlocated = dicom(**REFERENCES, ImagePositionPatient=None)
    with pytest.raises(DicomError, match="no positions that an RTSTRUCT could refer to"):
        structure_set_of(unlocated, np.zeros((64, 56, 1)), MODEL)


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs Debian's dicom3tools")
def test_a_validator_finds_no_error(series: Path, tmp_path: Path) -> None:
    (tmp_path / "outlines.dcm").write_bytes(structure_set_of(series, tumors(hole=False), MODEL))
    done = subprocess.run(["dciodvfy", str(tmp_path / "outlines.dcm")], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if line.startswith("Error")], done.stderr


@pytest.mark.skipif(not shutil.which("plastimatch"), reason="pip install plastimatch")
def test_plastimatch_reads_the_same_mask(series: Path, tmp_path: Path) -> None:
    import nibabel as nib

    (tmp_path / "outlines.dcm").write_bytes(structure_set_of(series, tumors(hole=False), MODEL))
    words = [
        "--input",
        "outlines.dcm",
        "--referenced-ct",
        "series",
        "--output-prefix",
        "masks",
        "--prefix-format",
        "nii",
    ]
    done = subprocess.run(["plastimatch", "convert", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    (file,) = (tmp_path / "masks").glob("*.nii*")
    image = nib.load(file)
    ours = nib.Nifti1Image(tumors(hole=False).astype(np.uint8), read_dicom(series).affine)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.io_orientation(ours.affine))
    theirs = image.as_reoriented(turn)
    assert np.allclose(theirs.affine, ours.affine, atol=1e-3), done.stdout
    assert dice(theirs.get_fdata() > 0, tumors(hole=False)) > 0.98


def test_each_region_is_a_region_of_interest(series: Path) -> None:
    labels = tumors(hole=False).astype(np.uint8) * 2
    labels[..., 2][labels[..., 2] > 0] = 4
    regions = [
        {"name": "wt", "title": "whole tumor", "codes": [2, 4]},
        {"name": "et", "title": "enhancing", "codes": [4]},
    ]
    made = dcmread(BytesIO(structure_set_of(series, labels, MODEL, regions=regions)))
    assert [one.ROIName for one in made.StructureSetROISequence] == ["Whole tumor", "Enhancing"]
    whole, inner = ([*contours.ContourSequence] for contours in made.ROIContourSequence)
    assert len({tuple(one.ROIDisplayColor) for one in made.ROIContourSequence}) == 2
    heights = [{float(value) for one in contours for value in one.ContourData[2::3]} for contours in (whole, inner)]
    assert heights[1] < heights[0] and len(heights[1]) == 1
