"""A prediction as DICOM SR: every number is in it with its unit and its weights, and a validator finds no error."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from hostile.dicoms import head, mr_dataset, written

from scripts.dicom.headers import DicomError
from scripts.dicom.segmentation import segmentation_of
from scripts.dicom.structured_report import report_of

MODEL = {"version": "1.2.3", "sha256": "ab" * 32}
GRAY = head(64, 56).astype(np.uint16)
REFERENCES = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


@pytest.fixture
def series(tmp_path: Path) -> Path:
    (tmp_path / "series").mkdir()
    for index in range(3):
        data = written(mr_dataset(GRAY, position=index * 3.0, **REFERENCES))
        (tmp_path / "series" / f"{index}").write_bytes(data)
    return tmp_path / "series"


def result(**changes: Any) -> dict[str, Any]:
    prediction = {"tumor_probability": 0.75, "threshold": 0.4, "state": "tumor", "volume_ml": 1.25, "model": MODEL}
    return {**prediction, **changes}


def drawn(series: Path, pixels: int) -> bytes:
    mask = np.zeros((*GRAY.shape, 3))
    mask[20, 10 : 10 + pixels, 1] = 1
    return segmentation_of(series, mask, MODEL)


MEASURED = (
    "Probability that a tumor is shown",
    "Probability from which a tumor counts as detected",
    "Volume",
)


def numbers(content: bytes) -> dict[str, tuple[float, str]]:
    """Every measurement in a report, value and unit by name; geometry of the images is none."""

    def walk(items: Any) -> Any:
        for item in items:
            if item.ValueType == "NUM":
                value = item.MeasuredValueSequence[0]
                yield (
                    item.ConceptNameCodeSequence[0].CodeMeaning,
                    (float(value.NumericValue), value.MeasurementUnitsCodeSequence[0].CodeValue),
                )
            yield from walk(item.get("ContentSequence", []))

    found = dict(walk(highdicom.sr.srread(BytesIO(content)).ContentSequence))
    return {name: value for name, value in found.items() if name in MEASURED}


def test_the_report_contains_probability_threshold_and_volume(series: Path) -> None:
    content = report_of(series, drawn(series, 5), result())
    assert numbers(content) == {
        "Probability that a tumor is shown": (0.75, "1"),
        "Probability from which a tumor counts as detected": (0.4, "1"),
        "Volume": (1.25, "mL"),
    }
    text = highdicom.sr.srread(BytesIO(content)).to_json()
    assert "Tumor pattern" in text and "1.2.3" in text and "ab" * 32 in text


def test_without_a_mask_or_a_prediction_no_measurement_is_written(series: Path) -> None:
    empty = report_of(series, drawn(series, 0), result(state="no_tumor", tumor_probability=0.01, volume_ml=0.0))
    assert "Volume" not in numbers(empty)
    none = report_of(series, drawn(series, 0), result(state="no_prediction", tumor_probability=None, volume_ml=0.0))
    assert numbers(none) == {} and "No prediction" in str(highdicom.sr.srread(BytesIO(none)))


def test_the_procedure_is_an_mri_of_the_brain(series: Path) -> None:
    content = highdicom.sr.srread(BytesIO(report_of(series, drawn(series, 5), result()))).ContentSequence
    named = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in content}
    code = named["Procedure reported"].ConceptCodeSequence[0]
    assert (code.CodingSchemeDesignator, code.CodeValue) == ("LN", "24590-2")


def test_the_report_refers_to_series_and_segmentation(series: Path) -> None:
    segmentation = drawn(series, 5)
    evidence = highdicom.sr.srread(BytesIO(report_of(series, segmentation, result())))
    uids = {
        item.ReferencedSOPInstanceUID
        for study in evidence.CurrentRequestedProcedureEvidenceSequence
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }
    assert highdicom.seg.segread(BytesIO(segmentation)).SOPInstanceUID in uids and len(uids) == 4


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs Debian's dicom3tools")
@pytest.mark.parametrize("pixels", [0, 5])
def test_the_validator_finds_no_error(series: Path, tmp_path: Path, pixels: int) -> None:
    file = tmp_path / "sr.dcm"
    file.write_bytes(report_of(series, drawn(series, pixels), result()))
    said = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
    assert "Error" not in said.stderr + said.stdout, said.stderr


def test_a_series_that_cannot_be_referred_to_is_refused(series: Path) -> None:
    segmentation = drawn(series, 5)
    for index, file in enumerate(sorted(series.iterdir())):
        file.write_bytes(written(mr_dataset(GRAY, position=index * 3.0, FrameOfReferenceUID="1.2.3.5")))
    with pytest.raises(DicomError, match="StudyInstanceUID is missing"):
        report_of(series, segmentation, result())


def test_each_region_has_its_volume(series: Path) -> None:
    labels = np.zeros((*GRAY.shape, 3))
    labels[20, 10:14, 1], labels[20, 10:12, 1] = 2, 1
    names = {"wt": "whole tumor", "tc": "tumor core", "et": "enhancing tumor"}
    codes = {"wt": [2, 1, 4], "tc": [1, 4], "et": [4]}
    volumes = {"wt": 1.25, "tc": 0.5, "et": 0.0}
    regions = [{"name": n, "title": names[n], "codes": codes[n], "volume_ml": volumes[n]} for n in names]
    segmentation = segmentation_of(series, labels, MODEL, regions=regions)
    made = highdicom.sr.srread(BytesIO(report_of(series, segmentation, result(regions=regions))))
    text = str(made)
    assert text.count("tumor core") == 1 and text.count("whole tumor") == 1 and "enhancing tumor" not in text
