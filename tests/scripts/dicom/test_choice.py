"""Of a folder with several series, echoes or orientations one is read by a rule, and the prediction says which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.dicoms import dicom, enhanced, head, mr_dataset, written
from pydicom import dcmread

from scripts.dicom.frames import Stack
from scripts.dicom.headers import DicomError
from scripts.dicom.reading import read_dicom, read_series

GRAY = head(40, 36).astype(np.uint16)
SAGITTAL, CORONAL = [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]


def add(folder: Path, uid: str, count: int = 6, bright: int = 0, **changes: Any) -> Path:
    """Add an axial series to a folder; all its pixels are brighter by so much."""
    folder.mkdir(exist_ok=True)
    for index in range(count):
        changes.setdefault("SOPInstanceUID", None)
        named = {**changes, "SOPInstanceUID": f"{uid}.{index}"}
        data = written(mr_dataset(GRAY + bright + index, position=3.0 * index, series=uid, **named))
        (folder / f"{uid}_{index}").write_bytes(data)
    return folder


def turned(folder: Path, uid: str, orientation: list[int], count: int, bright: int = 0, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    for index in range(count):
        place = {"ImageOrientationPatient": orientation, "ImagePositionPatient": list(3.0 * index * normal)}
        named = {**place, "SOPInstanceUID": f"{uid}.{orientation.index(1)}{orientation.index(-1)}.{index}", **changes}
        (folder / f"{uid}_{orientation.index(1)}{index}").write_bytes(dicom(GRAY + bright + index, series=uid, **named))
    return folder


def brightness(found: Stack) -> int:
    return int(found.voxels.min())


def said(found: Stack) -> dict[str, Any]:
    assert found.flags == ("series_chosen",)
    return dict(json.loads(found.chosen))


def reason(path: Path) -> str:
    with pytest.raises(DicomError) as caught:
        read_dicom(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "other", "rule"),
    [
        ({"SeriesDescription": "AX FLAIR"}, {"SeriesDescription": "AX T2"}, "sequence"),
        ({"SeriesDescription": "AX FLAIR", "count": 5}, {"count": 9}, "sequence"),
        ({}, {"SeriesDescription": "AX T1", "count": 9}, "sequence"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["DERIVED", "SECONDARY"], "count": 9}, "original"),
        ({}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"], "SeriesNumber": 1}, "original"),
        ({"SeriesNumber": 9}, {"count": 3, "SeriesNumber": 1}, "slices"),
        ({"count": 8, "SeriesNumber": 9}, {"count": 6, "SeriesNumber": 1}, "slices"),
        ({"EchoTime": 90.0}, {"EchoTime": 40.0}, "echo"),
        ({"SeriesNumber": 4}, {"SeriesNumber": 5}, "number"),
    ],
)
@pytest.mark.parametrize("order", ["1.2.3", "1.2.9"])
def test_one_series_is_chosen_by_the_first_rule_that_decides(
    tmp_path: Path, chosen: dict[str, Any], other: dict[str, Any], rule: str, order: str
) -> None:
    folder = add(tmp_path / "study", "1.2.5", bright=100, **chosen)
    found = read_dicom(add(folder, order, **other))
    assert brightness(found) == 100 + GRAY.min()
    count = chosen.get("count", 6)
    assert said(found) | {"echo_ms": None} == {
        "number": chosen.get("SeriesNumber"),
        "uid": "1.2.5",
        "echo_ms": None,
        "slices": count,
        "of": 2,
        "rule": rule,
    }


def test_series_of_several_patients_are_refused(tmp_path: Path) -> None:
    folder = add(tmp_path / "all", "1.2.5", PatientID="A")
    add(folder, "1.2.6", count=8, PatientID="A")
    assert len(read_series(folder).datasets) == 8
    assert "2 patients, by PatientID" in reason(add(folder, "1.2.7", PatientID="B"))


def test_the_wanted_sequence_decides(tmp_path: Path) -> None:
    folder = add(tmp_path / "study", "1.2.5", SeriesDescription="AX FLAIR")
    add(folder, "1.2.6", bright=100, SeriesDescription="AX T1")
    assert brightness(read_dicom(folder)) == GRAY.min()
    assert brightness(read_dicom(folder, ["t1"])) == 100 + GRAY.min()
    assert {str(one.SeriesInstanceUID) for one in read_series(folder, ["t1"]).datasets} == {"1.2.6"}


def test_an_axial_series_comes_before_a_sagittal_one(tmp_path: Path) -> None:
    folder = add(tmp_path / "study", "1.2.5", bright=100)
    found = read_dicom(turned(folder, "1.2.3", SAGITTAL, 9))
    assert brightness(found) == 100 + GRAY.min() and said(found)["rule"] == "plane"


def test_of_orientations_in_one_series_one_is_chosen(tmp_path: Path) -> None:
    folder = add(tmp_path / "study", "1.2.5")
    found = read_dicom(turned(folder, "1.2.5", SAGITTAL, 2))
    assert found.voxels.shape == (*GRAY.shape, 6) and said(found)["of"] == 2


def test_of_echoes_in_one_series_the_longer_is_chosen(tmp_path: Path) -> None:
    folder = tmp_path / "dual"
    for number, echo in enumerate((12.0, 90.0)):
        for index in range(5):
            more = {"EchoTime": echo + 0.1 * index, "SOPInstanceUID": f"1.2.{number}.{index}"}  # rounded differently
            (tmp_path / "dual").mkdir(exist_ok=True)
            data = written(mr_dataset(GRAY + 100 * number + index, position=3.0 * index, **more))
            (folder / f"{index}_{number}").write_bytes(data)
    found = read_dicom(folder)
    assert brightness(found) == 100 + GRAY.min() and said(found)["echo_ms"] == pytest.approx(90.0)
    assert said(found)["rule"] == "echo"


def test_series_without_a_deciding_rule_are_counted_and_refused(tmp_path: Path) -> None:
    folder = add(add(add(tmp_path / "study", "1.2.1"), "1.2.2"), "1.2.3")
    assert reason(folder) == "holds 3 series and no rule decides between them; name the folder of one"


def test_the_same_instance_twice_is_read_once(tmp_path: Path) -> None:
    alone = read_dicom(add(tmp_path / "alone", "1.2.5"))
    folder = add(tmp_path / "twice", "1.2.5")
    for file in list(folder.iterdir()):
        again = dcmread(file)
        (folder / f"{file.name}_copy").write_bytes(file.read_bytes())
        if file.name.endswith("_3"):  # sent once more, under another name
            again.SOPInstanceUID = "1.2.77"
            (folder / "resent").write_bytes(written(again))
    found = read_dicom(folder)
    assert np.array_equal(found.voxels, alone.voxels) and not found.flags and not found.chosen
    assert len(read_series(folder).datasets) == 6


def test_one_identifier_for_all_slices_loses_none(tmp_path: Path) -> None:
    """As careless de-identification leaves it."""
    folder = tmp_path / "mr"
    folder.mkdir()
    for index in range(4):
        (folder / str(index)).write_bytes(written(mr_dataset(GRAY, position=index * 3.0, SOPInstanceUID="1.2.7")))
    assert read_dicom(folder).voxels.shape[2] == 4


def test_localizers_and_other_modalities_in_the_folder_are_skipped(tmp_path: Path) -> None:
    folder = add(tmp_path / "study", "1.2.5", bright=100)
    add(folder, "1.2.1", 9, SeriesDescription="localizer")
    add(folder, "1.2.2", 9, Modality="CT")
    add(folder, "1.2.3", 9, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    for plane in ([1, 0, 0, 0, 1, 0], SAGITTAL, CORONAL):
        normal = np.cross(plane[:3], plane[3:])
        for index in range(3):
            more = {"ImageOrientationPatient": plane, "ImagePositionPatient": list(20.0 * index * normal)}
            name = f"1.2.4.1{plane[1]}{-plane[5]}{index}"
            (folder / name).write_bytes(dicom(GRAY + index, series="1.2.4", SOPInstanceUID=name, **more))
    found = read_dicom(folder)
    assert brightness(found) == 100 + GRAY.min() and not found.flags
    for file in folder.glob("1.2.5*"):
        file.unlink()
    for uid in ("1.2.1", "1.2.2", "1.2.3"):
        for file in folder.glob(f"{uid}_*"):
            file.unlink()
    assert reason(folder) == "is a localizer: a few slices in each of three planes; name another series"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"SeriesDescription": "localizer"}, "is a localizer"),
        ({"Modality": "CT"}, "is no MR: its Modality is CT"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "is a mosaic"),
    ],
)
def test_a_folder_without_another_series_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert told in reason(add(tmp_path / "study", "1.2.5", **changes))


def test_of_the_echoes_in_an_enhanced_object_one_is_read(tmp_path: Path) -> None:
    """Two stacks of frames in one file, one behind the other."""
    from io import BytesIO

    from pydicom import Dataset, Sequence

    volume = np.stack([GRAY + k for k in range(10)])
    data = dcmread(BytesIO(enhanced(volume)))
    for k, group in enumerate(data.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [-80.0, -100.0, 3.0 * (k % 5)]
        echo = Dataset()
        echo.EffectiveEchoTime = 90.0 if k < 5 else 20.0
        group.MREchoSequence = Sequence([echo])
    path = tmp_path / "enhanced"
    path.write_bytes(written(data))
    found = read_dicom(path)
    assert np.array_equal(found.voxels, np.moveaxis(volume[:5], 0, -1)) and said(found)["rule"] == "echo"
