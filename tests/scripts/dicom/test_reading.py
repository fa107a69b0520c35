"""DICOM: the volume lies in the patient as its slices say, whatever the order, the syntax and the sign."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hostile.dicoms import dicom, enhanced, head, mr_dataset, packed, plain, written
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from scripts.core.geometry import as_displayed
from scripts.dicom.headers import DicomError
from scripts.dicom.reading import read_dicom
from scripts.io.readers import BrainMriReader, UnreadableImageError
from scripts.io.scan_lists import scans

GRAY = head(64, 56).astype(np.uint16)
# columns run to the patient's left, rows to posterior, slices upwards; in RAS
AXIAL = np.array([[0, -1.25, 0, 80], [-1.5, 0, 0, 100], [0, 0, 3, 0], [0, 0, 0, 1]])


def series(folder: Path, slices: np.ndarray, gap: float = 3.0, **changes: object) -> Path:
    """A folder of single-slice files of (D, H, W), under names that do not tell their order."""
    folder.mkdir()
    for index, pixels in enumerate(slices):
        data = written(mr_dataset(pixels, position=index * gap, **changes))
        (folder / f"{(index * 7) % 11:02d}").write_bytes(data)
    return folder


def stack(count: int = 5) -> np.ndarray:
    """(D, H, W), every slice another."""
    return np.stack([GRAY + 20 * index for index in range(count)])


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def reason(path: Path) -> str:
    with pytest.raises(DicomError) as caught:
        read_dicom(path)
    return str(caught.value)


def test_one_file_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    found = read_dicom(save(tmp_path / "a", dicom(GRAY)))
    assert found.voxels.dtype == np.float32 and np.array_equal(found.voxels[..., 0], GRAY)
    assert np.allclose(found.affine, AXIAL) and found.spacing_known and found.thickness_known and not found.flags


def test_a_series_is_sorted_along_its_slice_normal(tmp_path: Path) -> None:
    volume, affine, *_ = read_dicom(series(tmp_path / "mr", stack()))
    assert np.array_equal(volume, np.moveaxis(stack(), 0, -1)) and np.allclose(affine, AXIAL)


def test_an_enhanced_object_is_read_as_the_series_it_replaces(tmp_path: Path) -> None:
    apart = read_dicom(series(tmp_path / "mr", stack()))
    whole = read_dicom(save(tmp_path / "a", enhanced(stack(), order=[3, 0, 4, 1, 2])))
    assert np.array_equal(apart[0], whole[0]) and np.allclose(apart[1], whole[1])


def test_frames_without_positions_are_stacked_in_order(tmp_path: Path) -> None:
    volume, affine, *_ = read_dicom(save(tmp_path / "a", dicom(stack(), SpacingBetweenSlices=4.0)))
    assert np.array_equal(volume, np.moveaxis(stack(), 0, -1)) and affine[2, 2] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("orientation", "codes"),
    [
        ([1, 0, 0, 0, 1, 0], "PLS"),
        ([0, 1, 0, 0, 0, -1], "IPR"),
        ([1, 0, 0, 0, 0, -1], "ILP"),
        ([0, 1, 0, 1, 0, 0], "LPI"),
    ],
)
def test_the_affine_has_the_directions_of_all_axes(tmp_path: Path, orientation: list[int], codes: str) -> None:
    import nibabel as nib

    normal = np.cross(orientation[:3], orientation[3:])
    (tmp_path / "mr").mkdir()
    for index in range(3):
        changes = {"ImageOrientationPatient": orientation, "ImagePositionPatient": list(index * 2.0 * normal)}
        save(tmp_path / "mr" / str(index), dicom(GRAY, **changes))
    volume, affine, *_ = read_dicom(tmp_path / "mr")
    assert "".join(nib.aff2axcodes(affine)) == codes
    assert np.allclose(np.linalg.norm(affine[:3, :3], axis=0), [1.5, 1.25, 2.0])
    assert as_displayed(volume, affine).size == volume.size


def test_slope_and_intercept_are_each_slices_own(tmp_path: Path) -> None:
    (tmp_path / "mr").mkdir()
    for index, slope in enumerate((1.0, 2.5)):
        data = written(mr_dataset(GRAY, position=index, RescaleSlope=slope, RescaleIntercept=-7))
        save(tmp_path / "mr" / str(index), data)
    volume = read_dicom(tmp_path / "mr")[0]
    assert np.allclose(volume, np.stack([GRAY - 7.0, GRAY * 2.5 - 7.0], axis=-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_monochrome1_is_inverted(tmp_path: Path, dtype: type) -> None:
    gray = GRAY.astype(dtype)
    inverse = -1 - gray if dtype == np.int16 else np.iinfo(dtype).max - gray
    path = save(tmp_path / "a", dicom(inverse, PhotometricInterpretation="MONOCHROME1"))
    assert np.array_equal(read_dicom(path)[0][..., 0], gray)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_every_uncompressed_syntax_gives_the_same(tmp_path: Path, syntax: str) -> None:
    assert np.array_equal(read_dicom(save(tmp_path / "a", dicom(GRAY, syntax)))[0][..., 0], GRAY)


@pytest.mark.parametrize("name", packed())
def test_every_compressed_syntax_is_read(tmp_path: Path, name: str) -> None:
    read = read_dicom(save(tmp_path / "a", packed()[name])).voxels[..., 0]
    assert np.abs(read - GRAY).mean() <= (3 if name == "JPEG" else 0)


@pytest.mark.parametrize(("thickness", "known"), [(3.0, True), (None, False), (0.0, False)])
def test_a_single_slice_without_thickness_is_flagged(tmp_path: Path, thickness: float | None, known: bool) -> None:
    reader = BrainMriReader()
    file = save(tmp_path / "a", dicom(GRAY, SliceThickness=thickness))
    meta = reader.get_data(reader.read(str(file)))[1]
    assert meta["spacing_known"] and meta["thickness_known"] is known


def test_a_picture_without_spacing_is_flagged(tmp_path: Path) -> None:
    reader = BrainMriReader()
    array, meta = reader.get_data(reader.read(str(save(tmp_path / "a", plain()["no spacing"]))))
    assert array.shape == (1, 64, 56, 1) and not meta["spacing_known"] and len(meta["spatial_shape"]) == 2


def test_files_without_pixels_in_the_folder_are_skipped(tmp_path: Path) -> None:
    folder = series(tmp_path / "mr", stack(3))
    save(folder / "readme.txt", b"about this series")
    save(folder / "report", dicom(GRAY, series="1.2.9", PixelData=None))
    assert read_dicom(folder)[0].shape == (64, 56, 3)


def test_missing_and_repeated_slices_are_refused(tmp_path: Path) -> None:
    gap, twice = series(tmp_path / "gap", stack(6)), series(tmp_path / "twice", stack(3))
    (gap / "03").unlink()  # the second from one end
    save(twice / "again", dicom(GRAY + 1, SOPInstanceUID="1.2.99"))
    assert "some are missing" in reason(gap) and "in one place" in reason(twice)


def test_the_reader_names_the_file_and_the_reason(tmp_path: Path) -> None:
    path, reader = save(tmp_path / "a.dcm", dicom(GRAY, Rows=0)), BrainMriReader()
    with pytest.raises(UnreadableImageError, match=r"a\.dcm: its Rows is missing or impossible") as caught:
        reader.get_data(reader.read(str(path)))
    assert caught.value.code == "header" and "CANARY" not in str(caught.value)


def test_without_pydicom_the_reason_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert reason(save(tmp_path / "a", dicom(GRAY))) == "DICOM needs the package pydicom; pip install '.[dicom]'"


def test_scans_finds_files_and_takes_a_folder_as_one(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    series(tmp_path / "in" / "deep" / "mr.1", stack(3))
    save(tmp_path / "in" / "DICOMDIR", dicom(GRAY))
    save(tmp_path / "in" / "picture.png", b"anything")
    found = {scan["name"]: scan["image"] for scan in scans(tmp_path / "in")}
    assert found == {"deep/mr.1": str(tmp_path / "in/deep/mr.1"), "picture": str(tmp_path / "in/picture.png")}
    assert [scan["name"] for scan in scans(tmp_path / "in/deep/mr.1")] == ["mr.1"]
    assert [scan["name"] for scan in scans(save(tmp_path / "one.dcm", dicom(GRAY)))] == ["one"]
