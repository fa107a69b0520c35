"""Uploaded files become scans; the examples are what their titles say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from bundle import Predictor
from bundle.core import files
from bundle.ui.scans import EXAMPLES, Scan, example, scans_of
from tests.hostile.cases import head, nifti
from tests.hostile.dicoms import dicom

NIFTI, DICOM, OTHER = nifti(head(8, 8)), dicom(head(16, 16)), b"a text"


def test_dicom_files_of_a_folder_are_one_scan_and_other_files_one_each() -> None:
    uploads = {"s/a/2.dcm": DICOM + b"2", "s/a/1.dcm": DICOM, "s/b/1": DICOM, "s/x_flair.nii.gz": NIFTI, "y.nii": NIFTI}
    found = {scan.name: scan for scan in scans_of(uploads.items())}
    assert list(found) == ["1", "a", "x_flair.nii.gz", "y.nii"]
    assert found["a"].files == (DICOM, DICOM + b"2") and found["a"].is_dicom and not found["y.nii"].is_dicom


def test_files_without_a_folder_are_all_kept_and_in_a_folder_masks_and_texts_are_left_out() -> None:
    assert [scan.name for scan in scans_of({"x_seg.nii.gz": NIFTI, "list.txt": OTHER}.items())] == [
        "list.txt",
        "x_seg.nii.gz",
    ]
    names = ("x_seg.nii.gz", "x_t1.nii.gz", "x_flair.nii.gz", "x.nii.gz")
    uploads = {**{f"x/{name}": NIFTI for name in names}, "x/list.txt": OTHER}
    assert [scan.name for scan in scans_of(uploads.items())] == ["x.nii.gz", "x_flair.nii.gz"]
    assert [scan.name for scan in scans_of(uploads.items(), ["t1"])] == ["x.nii.gz", "x_t1.nii.gz"]


def test_predictions_in_a_folder_are_left_out() -> None:
    made = ("x.json", "x_mask.nii.gz", "x_overlay.png", "x_probability.nii.gz", "x_seg.dcm")
    uploads = {"a/x.nii.gz": NIFTI, "a/y_overlay.png": NIFTI, **{f"a/{name}": NIFTI for name in made}}
    assert [scan.name for scan in scans_of(uploads.items())] == ["x.nii.gz", "y_overlay.png"]


@pytest.mark.parametrize(("name", "stem"), [("Case 1.nii.gz", "Case 1"), ("a.b.PNG", "a.b"), ("series", "series")])
def test_downloads_are_named_after_the_scan(name: str, stem: str) -> None:
    assert Scan(name, (b"",)).stem == stem


@pytest.mark.parametrize(
    ("name", "told"),
    [("P1_flair.nii.gz", "flair"), ("BraTS-GLI-00005-100-t1n.nii.gz", "t1"), ("head.png", ""), ("x_T2.png", "t2")],
)
def test_the_name_of_a_file_tells_its_sequence_but_not_that_of_dicom(name: str, told: str) -> None:
    assert Scan(name, (b"content",)).sequence_told == told
    assert Scan(name, (b"\0" * 128 + b"DICM",)).sequence_told == "", "its header tells"
    assert Scan(name, (b"one", b"two")).sequence_told == "" == Scan(name, (b"",), are_channels=True).sequence_told


def test_a_series_is_read_from_a_folder_that_is_gone_afterwards(tmp_path: Path) -> None:
    scan = Scan("series", (DICOM, DICOM + b"2"))
    with scan.source() as place:
        assert isinstance(place, Path) and files.content_sha256(place) == scan.sha256
    assert not place.exists()
    with Scan("x", (NIFTI,)).source() as content:
        assert content == NIFTI
    assert Scan("x", (NIFTI,)).sha256 == hashlib.sha256(NIFTI).hexdigest()


@pytest.fixture(scope="module")
def released() -> Predictor:
    return Predictor()


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_released_weights_are_right_on_the_examples_but_for_the_failure(title: str, released: Predictor) -> None:
    result = released.predict(example(title).files[0])["result"]
    missed = title == "A failure: missed tumor"
    assert (result["state"] == "tumor") is (title.endswith("with a tumor") and not missed)
    if title == "Image without a tumor":
        assert result["state"] == "no_tumor"
    elif result["kind"] == "volume":
        assert (result["volume_ml"] == 0) is missed


def test_the_sequences_of_a_case_are_one_scan_for_weights_that_read_several() -> None:
    uploads = {
        "A/A_t1.nii.gz": NIFTI + b"1",
        "A/A_flair.nii.gz": NIFTI,
        "A/A_seg.nii.gz": NIFTI,
        "B_flair.nii.gz": NIFTI,
    }
    found = {scan.name: scan for scan in scans_of(uploads.items(), ["flair", "t1"])}
    assert list(found) == ["A", "B"] and found["A"].files == (NIFTI, NIFTI + b"1")
    with found["A"].source() as content:
        assert content == [NIFTI, NIFTI + b"1"]
    with found["B"].source() as content:
        assert content == [NIFTI, None], "no T1"
    assert not found["A"].is_dicom
