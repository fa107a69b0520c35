from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from scripts.dicom.headers import echo_of, sequence_of_headers, why_no_scan


def headers(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("modality", ["CT", "PT", "US", "RTSTRUCT", "ct "])
def test_another_modality_is_named(modality: str) -> None:
    assert why_no_scan(headers(Modality=modality)) == f"is no MR: its Modality is {modality.strip().upper()}"


@pytest.mark.parametrize("values", [{"Modality": "MR"}, {"Modality": "OT"}, {"Modality": "SC"}, {}, {"Modality": None}])
def test_possible_mr_is_accepted(values: dict[str, object]) -> None:
    assert why_no_scan(headers(**values)) is None


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
        ({"SeriesDescription": "SAG T1", "ContrastBolusAgent": "none"}, "t1"),
        ({"RepetitionTime": None, "EchoTime": "", "SeriesDescription": None}, None),
        ({}, None),
    ],
)
def test_the_sequence_is_read_from_description_and_times(values: dict[str, object], sequence: str | None) -> None:
    assert sequence_of_headers(headers(**values)) == sequence


def functional_groups(**macros: dict[str, object]) -> Sequence:
    group = Dataset()
    for macro, values in macros.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(group, macro, Sequence([item]))
    return Sequence([group])


def test_times_of_an_enhanced_object_are_in_its_functional_groups() -> None:
    groups = functional_groups(
        MRTimingAndRelatedParametersSequence={"RepetitionTime": 9000.0},
        MREchoSequence={"EffectiveEchoTime": 125.0},
        MRModifierSequence={"InversionTimes": [2500.0]},
    )
    assert sequence_of_headers(headers(SharedFunctionalGroupsSequence=groups)) == "flair"
    assert echo_of(headers(PerFrameFunctionalGroupsSequence=groups)) == 125.0


@pytest.mark.parametrize(
    "values",
    [
        {"SeriesDescription": "3-plane localizer"},
        {"SeriesDescription": "AAHScout_MPR_sag"},
        {"SeriesDescription": "Survey_SHC"},
        {"SeriesDescription": "3Plane Loc SSFSE"},
        {"SeriesDescription": "", "ProtocolName": "LOCALISER"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
    ],
)
def test_localizers_are_named(values: dict[str, object]) -> None:
    assert "is a localizer" in str(why_no_scan(headers(Modality="MR", **values)))


@pytest.mark.parametrize("description", ["AX FLAIR", "t2_tirm_tra_dark-fluid", "block design", "T1 SAG local", None])
def test_scans_are_no_localizers(description: str | None) -> None:
    assert why_no_scan(headers(Modality="MR", SeriesDescription=description, ProtocolName="BRAIN")) is None


def test_mosaics_are_named_by_their_type_or_by_the_number_of_their_slices() -> None:
    assert "is a mosaic" in str(why_no_scan(headers(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])))
    tiled = headers(ImageType=["ORIGINAL", "PRIMARY", "M"])
    tiled.add_new((0x0019, 0x0010), "LO", "SIEMENS MR HEADER")
    tiled.add_new((0x0019, 0x100A), "US", 36)
    assert "is a mosaic" in str(why_no_scan(tiled))
    tiled[0x0019, 0x100A].value = 1
    assert why_no_scan(tiled) is None
