from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from scripts.core.label_codes import (
    LabelError,
    codes_in,
    label_set_of,
    region_codes_of,
    regions_of,
    tumor_codes_of,
    tumor_of,
    whole_tumor,
)
from scripts.core.regions import REGIONS


def codes(*values: int) -> np.ndarray:
    """A mask that holds each of the codes in one voxel, and background."""
    return np.array([0, *values, 0], dtype=np.float32)


@pytest.mark.parametrize(
    ("case", "held", "tumor"),
    [
        ("BraTS-GLI-02405-100", (1, 2, 3, 4), {1, 2, 3}),  # 4: resection cavity
        ("BraTS-MET-00086-000", (1, 2, 3, 4), {1, 2, 3}),
        ("PatientID_0101_Timepoint_4", (1, 2, 3, 4), {1, 2, 3}),
        ("BraTS-PED-00012-000", (1, 2, 3, 4), {1, 2, 3, 4}),  # 4: edema
        ("brats_2013_pat0003_1", (1, 2, 3, 4), {1, 2, 3, 4}),  # 3: non-enhancing core, 4: enhancing
        ("BraTS20_Training_001", (1, 2, 4), {1, 2, 4}),
        ("UCSF-PDGM-0429", (1, 2, 4), {1, 2, 4}),
        ("CASE_001", (1, 2, 4), {1, 2, 4}),
        ("CASE_001", (255,), {255}),
    ],
)
def test_codes_are_tumor_by_data_set(case: str, held: tuple[int, ...], tumor: set[int]) -> None:
    mask = codes(*held)
    assert set(mask[whole_tumor(mask, case)].tolist()) == tumor


def test_an_unknown_set_with_both_codes_needs_the_option() -> None:
    mask = codes(1, 2, 3, 4)
    with pytest.raises(LabelError, match="resection cavity since BraTS 2024"):
        whole_tumor(mask, "CASE_001")
    assert whole_tumor(mask, "CASE_001", [1, 2, 3]).sum() == 3
    assert whole_tumor(mask, "BraTS-GLI-02405-100", [4]).sum() == 1  # the user's word comes first


def test_a_code_that_a_known_set_does_not_have_is_refused() -> None:
    with pytest.raises(LabelError, match="contains the code 7, which BraTS 2017 to 2021"):
        whole_tumor(codes(1, 7), "BraTS20_Training_001")


@given(st.integers(3, 9), st.sampled_from([0.1, 0.3, 0.45, 0.6, 0.9]), st.sampled_from([1.0, 255.0]))
def test_an_interpolated_mask_of_one_code_is_cut_at_one_half(radius: int, shift: float, white: float) -> None:
    ball = (np.hypot(*np.ogrid[-12:13, -12:13]) < radius).astype(np.float64)
    moved = ndimage.shift(ball, (shift, 0), order=1)
    found = whole_tumor((moved * white).astype(np.float32))
    assert (found == (moved >= 0.5)).all() and found.sum() < (moved > 0).sum()
    assert (found == (ndimage.shift(ball, (round(shift), 0), order=0) > 0.5)).all()


def test_interpolation_beyond_zero_and_one_changes_nothing() -> None:
    ball = (np.hypot(*np.ogrid[-12:13, -12:13]) < 7).astype(np.float64)
    waved = ndimage.shift(ball, (0.5, 0.25), order=3)
    assert waved.min() < 0 and waved.max() > 1
    assert (whole_tumor(waved) == (waved >= 0.5)).all()


def test_an_interpolated_mask_of_several_codes_is_refused_with_the_share() -> None:
    mask = np.zeros((20, 20))
    mask[5:15, 5:15], mask[8:12, 8:12] = 2, 4
    blurred = ndimage.gaussian_filter(mask, 1)
    with pytest.raises(LabelError, match=r"\d+% of its marked voxels .* interpolation; resample the original"):
        whole_tumor(blurred, "BraTS20_Training_001")


def test_values_of_a_scaled_file_are_codes() -> None:
    scaled = codes(1, 2, 4) * np.float32(1.0001)
    assert whole_tumor(scaled, "BraTS20_Training_001").sum() == 3
    assert codes_in(scaled) == {1: 1, 2: 1, 4: 1}


def test_empty_masks_have_no_tumor() -> None:
    assert not whole_tumor(np.zeros((3, 3)), "anything").any()
    assert not whole_tumor(np.zeros(0)).any()


@pytest.mark.parametrize(
    ("labels", "tumor"),
    [
        ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}, [1, 2, 3]),
        ({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3]}, [1, 2, 3]),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "Resection Cavity": 4, "ignore": 5}, [1, 2, 3]),
    ],
)
def test_tumor_codes_are_read_from_the_description(labels: dict[str, object], tumor: list[int]) -> None:
    assert tumor_codes_of(labels) == tumor


def test_the_reason_names_the_file() -> None:
    with pytest.raises(ValueError, match=r"^/data/A_seg\.nii\.gz: contains the codes 3 and 4"):
        tumor_of(codes(3, 4), {"id": "mine/A", "label": "/data/A_seg.nii.gz"})


def test_names_of_no_data_set_have_no_label_set() -> None:
    assert label_set_of("CASE_001") is None and label_set_of("xBraTS-GLI-1") is None


@pytest.mark.parametrize(
    ("case", "held", "core", "enhancing"),
    [
        ("BraTS20_Training_001", (1, 2, 4), {1, 4}, {4}),
        ("brats_2013_pat0003_1", (1, 2, 3, 4), {1, 3, 4}, {4}),
        ("BraTS-GLI-02405-100", (1, 2, 3, 4), {1, 3}, {3}),  # 4: resection cavity
        ("BraTS-PED-00012-000", (1, 2, 3, 4), {1, 2, 3}, {1}),  # 2: non-enhancing, 3: cystic, 4: edema
        ("CASE_001", (1, 2, 4), {1, 4}, {4}),
        ("CASE_001", (2, 4), {4}, {4}),
        ("BraTS20_Training_001", (1, 2), {1}, set()),
    ],
)
def test_regions_are_codes_by_data_set(case: str, held: tuple[int, ...], core: set[int], enhancing: set[int]) -> None:
    mask = codes(*held)
    whole, *inner = regions_of(mask, {"id": f"source/{case}"}, list(REGIONS))
    assert np.array_equal(whole, whole_tumor(mask, case))
    assert [set(mask[region].tolist()) for region in inner] == [core, enhancing]


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ((1,), {}),  # a mask of the whole tumor
        ((255,), {}),
        ((2,), {"id": "brats/BraTS20_Training_001"}),
        ((1, 2, 3), {"tumor_codes": [1, 2, 3]}),  # what these are is not said
        ((5, 6), {}),
        ((1, 2), {"id": "brats/TCGA-06-0119"}),  # of an unknown data set
        ((1, 2, 3), {"id": "brats/Patient-001"}),  # LUMIERE has edema as 3
    ],
)
def test_codes_that_do_not_tell_regions_are_the_whole_tumor_alone(held: tuple[int, ...], told: dict[str, Any]) -> None:
    assert regions_of(codes(*held), told, list(REGIONS)).shape == (1, len(held) + 2)


def test_a_mask_without_tumor_has_no_region() -> None:
    assert not regions_of(np.zeros((2, 3)), {}, list(REGIONS)).any()
    assert regions_of(np.zeros((2, 3)), {}, list(REGIONS)).shape == (3, 2, 3)


def test_a_description_names_the_regions() -> None:
    decathlon = {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}
    nested = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
    assert region_codes_of(decathlon) == region_codes_of(nested) == {"tc": [2, 3], "et": [3]}
    assert region_codes_of({"background": 0, "tumor": 1}) is None
    case = {"tumor_codes": tumor_codes_of(decathlon), "region_codes": region_codes_of(decathlon)}
    assert regions_of(codes(1, 2, 3), case, list(REGIONS)).sum(axis=1).tolist() == [3, 2, 1]
