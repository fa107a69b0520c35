from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from scripts.dicom.headers import not_mr, sequence_of_headers


def headers(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("modality", ["CT", "PT", "US", "RTSTRUCT", "ct "])
def test_another_modality_is_named(modality: str) -> None:
    assert not_mr(headers(Modality=modality)) == f"is no MR: its Modality is {modality.strip().upper()}"


@pytest.mark.parametrize("values", [{"Modality": "MR"}, {"Modality": "OT"}, {"Modality": "SC"}, {}, {"Modality": None}])
def test_possible_mr_series_are_accepted(values: dict[str, object]) -> None:
    assert not_mr(headers(**values)) is None


@pytest.mark.parametrize(
    ("values", "sequence"),
    [
        ({"SeriesDescription": "AX FLAIR", "EchoTime": 14.0}, "flair"),  # the description comes first
        ({"SeriesDescription": "HEAD", "ProtocolName": "t2_tse_tra"}, "t2"),
        ({"SeriesDescription": "AX", "RepetitionTime": 9000, "EchoTime": 125, "InversionTime": 2500}, "flair"),
        ({"RepetitionTime": 500, "EchoTime": 12}, "t1"),
        ({"RepetitionTime": 2300, "EchoTime": 3, "InversionTime": 900}, "t1"),
        ({"RepetitionTime": 500, "EchoTime": 12, "ContrastBolusAgent": "GADAVIST"}, "t1ce"),
        ({"SeriesDescription": "SAG T1", "ContrastBolusAgent": "GD"}, "t1ce"),
        ({"RepetitionTime": 4500, "EchoTime": 98}, "t2"),
        ({"RepetitionTime": 4500, "EchoTime": 98, "ContrastBolusAgent": "GD"}, "t2"),
        ({"SeriesDescription": "DWI b1000"}, "other"),
        ({"RepetitionTime": None, "EchoTime": "", "SeriesDescription": None}, None),
        ({}, None),
    ],
)
def test_the_sequence_is_read_from_description_and_times(values: dict[str, object], sequence: str | None) -> None:
    assert sequence_of_headers(headers(**values)) == sequence
