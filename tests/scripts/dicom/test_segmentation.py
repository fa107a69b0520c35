"""A mask as DICOM SEG: every frame lies on the slice that it was drawn on, and a validator finds nothing to say."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from hostile.dicoms import enhanced, head, mr_dataset, written

from scripts.dicom.headers import DicomError
from scripts.dicom.reading import read_dicom
from scripts.dicom.segmentation import segmentation_of

MODEL = {"version": "1.2.3", "sha256": "ab" * 32}
REFERENCES = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
GRAY = head(64, 56).astype(np.uint16)
GAP = 3.0


def series(folder: Path, count: int = 5, **changes: Any) -> Path:
    """Single-slice files under names that do not tell their order."""
    folder.mkdir()
    for index in range(count):
        data = written(mr_dataset(GRAY + index, position=index * GAP, **{**REFERENCES, **changes}))
        (folder / f"{(index * 7) % 11:02d}").write_bytes(data)
    return folder


def mask(count: int = 5) -> np.ndarray:
    """(H, W, D): on slice k, k + 1 pixels; none on the first."""
    drawn = np.zeros((*GRAY.shape, count), dtype=np.float32)
    for index in range(1, count):
        drawn[20, 10 : 11 + index, index] = 1
    return drawn


def placed(content: bytes) -> dict[float, np.ndarray]:
    """Frames by their height in the patient."""
    found = highdicom.seg.segread(BytesIO(content))
    planes = found.pixel_array.reshape(-1, found.Rows, found.Columns)
    groups = found.PerFrameFunctionalGroupsSequence
    return {
        float(group.PlanePositionSequence[0].ImagePositionPatient[2]): plane
        for group, plane in zip(groups, planes, strict=True)
    }


@pytest.mark.parametrize("form", ["series", "enhanced"])
def test_each_frame_is_at_the_position_of_its_slice(tmp_path: Path, form: str) -> None:
    source = series(tmp_path / "series")
    if form == "enhanced":
        volume, order = np.stack([GRAY + k for k in range(5)]), [3, 0, 4, 1, 2]
        source = tmp_path / "enhanced.dcm"
        source.write_bytes(enhanced(volume, GAP, order, **REFERENCES))
    assert read_dicom(source)[0].shape == mask().shape
    frames = placed(segmentation_of(source, mask(), MODEL))
    assert sorted(frames) == [GAP * index for index in range(1, 5)]  # an empty one is left out
    for index in range(1, 5):
        assert np.array_equal(frames[GAP * index], mask()[:, :, index])


def test_the_segmentation_refers_to_its_series_and_names_the_algorithm(tmp_path: Path) -> None:
    found = highdicom.seg.segread(BytesIO(segmentation_of(series(tmp_path / "a"), mask(), MODEL)))
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    assert found.StudyInstanceUID == "1.2.3.4" and found.FrameOfReferenceUID == "1.2.3.5"
    segment = found.SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"  # SNOMED CT: neoplasm
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "1.2.3"


def test_no_pixel_of_the_series_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who refers to a series needs its headers; foreign pixels are decoded in a process of their own."""
    monkeypatch.setattr("pydicom.Dataset.pixel_array", property(lambda _: pytest.fail("decoded")))
    assert segmentation_of(series(tmp_path / "a"), mask(), MODEL)


def test_identifiers_are_a_function_of_the_prediction(tmp_path: Path) -> None:
    source = series(tmp_path / "a")
    first, again = (highdicom.seg.segread(BytesIO(segmentation_of(source, mask(), MODEL))) for _ in range(2))
    other = highdicom.seg.segread(BytesIO(segmentation_of(source, 1 - mask(), MODEL)))
    assert first.SOPInstanceUID == again.SOPInstanceUID != other.SOPInstanceUID
    assert first.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
@pytest.mark.parametrize("drawn", ["some", "nothing"])
def test_the_validator_finds_no_error(tmp_path: Path, drawn: str) -> None:
    file = tmp_path / "seg.dcm"
    file.write_bytes(segmentation_of(series(tmp_path / "a"), mask() * (drawn == "some"), MODEL))
    said = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr + said.stdout, said.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"FrameOfReferenceUID": ""}, "no DICOM object can refer to it: FrameOfReferenceUID is missing"),
        ({"StudyInstanceUID": ""}, "no DICOM object can refer to it: StudyInstanceUID is missing"),
    ],
)
def test_a_series_that_cannot_be_referred_to_is_refused(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    with pytest.raises(DicomError) as caught:
        segmentation_of(series(tmp_path / "a", **changes), mask(), MODEL)
    assert str(caught.value) == f"{reason}; the mask can be had as NIfTI only"


def test_classic_frames_without_positions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "frames.dcm"
    file.write_bytes(written(mr_dataset(np.stack([GRAY] * 5), **REFERENCES)))
    with pytest.raises(DicomError, match="no positions of their own"):
        segmentation_of(file, mask(), MODEL)


def test_a_mask_of_another_grid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DicomError, match=r"a mask of shape \(64, 56, 4\) does not fit its 5 slices"):
        segmentation_of(series(tmp_path / "a"), mask(4), MODEL)


REGIONS = [
    {"name": "wt", "title": "whole tumor", "codes": [2, 1, 4], "volume_ml": 0.1},
    {"name": "tc", "title": "tumor core", "codes": [1, 4], "volume_ml": 0.1},
    {"name": "et", "title": "enhancing tumor", "codes": [4], "volume_ml": 0.1},
]


def test_each_region_is_a_segment_and_they_overlap(tmp_path: Path) -> None:
    labels = mask() * 2
    labels[20, 11:13, 3], labels[20, 11, 3] = 1, 4
    content = segmentation_of(series(tmp_path / "a"), labels, MODEL, regions=REGIONS)
    found = highdicom.seg.segread(BytesIO(content))
    assert [one.SegmentLabel for one in found.SegmentSequence] == ["Whole tumor", "Tumor core", "Enhancing tumor"]
    pixels = dict.fromkeys((1, 2, 3), 0)
    for group, plane in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        pixels[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int(plane.sum())
    assert pixels == {1: int((labels > 0).sum()), 2: 2, 3: 1}
    again = highdicom.seg.segread(BytesIO(segmentation_of(tmp_path / "a", labels, MODEL, regions=REGIONS)))
    assert again.SOPInstanceUID == found.SOPInstanceUID
