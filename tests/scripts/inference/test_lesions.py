"""The table of lesions: sizes known by construction, on any grid."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.inference.lesions import DescribeLesionsd, _widest_slice, diameters_mm, lesion_table

FLAT = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])


def ball(shape: tuple[int, int, int], center: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    places = np.indices(shape).reshape(3, -1).T
    return np.asarray((((places - center) / radii) ** 2).sum(axis=1) <= 1).reshape(shape)


def test_an_ellipsoid_has_the_diameters_and_the_volume_of_its_formula() -> None:
    mask = ball((80, 80, 60), (40, 40, 30), (25, 15, 20))
    (lesion,) = lesion_table(mask, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert lesion["volume_ml"] == pytest.approx(4 / 3 * np.pi * 25 * 15 * 20 / 1000, rel=0.01)
    assert lesion["longest_mm"] == pytest.approx(51, abs=0.5)
    assert lesion["perpendicular_mm"] == pytest.approx(31, abs=0.5)
    assert lesion["slices"] == [10, 50] and lesion["widest_slice"] == 30
    assert lesion["area_mm2"] == pytest.approx(np.pi * 25 * 15, rel=0.01)
    assert lesion["centroid"] == [40.0, 40.0, 30.0] and lesion["centroid_mm"] == [-40.0, -40.0, 30.0]


def test_what_is_told_in_millimeters_does_not_depend_on_the_order_of_the_axes() -> None:
    mask = ball((40, 50, 20), (20, 22, 9), (9, 14, 5)) | ball((40, 50, 20), (8, 40, 15), (4, 4, 2))
    image = nib.Nifti1Image(mask.astype(np.uint8), np.diag([-0.5, -0.75, 3.0, 1.0]))
    expected = lesion_table(mask, image.affine)
    assert [lesion["number"] for lesion in expected] == [1, 2]
    for axes in ("LPS", "RAS", "SRP", "AIL"):
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
        turned = image.as_reoriented(turn)
        found = lesion_table(turned.get_fdata() > 0, turned.affine)
        for one, other in zip(expected, found, strict=True):
            for key in ("voxels", "volume_ml", "area_mm2", "longest_mm", "perpendicular_mm", "centroid_mm"):
                assert one[key] == pytest.approx(other[key], abs=0.011)  # type: ignore[literal-required]


def test_the_longest_diameter_is_that_of_all_pairs_of_points() -> None:
    plane = np.random.default_rng(0).random((9, 11)) > 0.8
    steps = np.array([[0.0, 2.0], [0.7, 0.0], [0.0, 0.3]])
    points = [(steps @ place) for place in np.argwhere(plane)]
    points = [point + sign * step / 2 for point in points for step in steps.T for sign in (-1, 1)]
    longest = max(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(points, 2))
    assert diameters_mm(plane, steps)[0] == pytest.approx(longest)
    assert diameters_mm(np.eye(1, dtype=bool), FLAT) == (1.0, 1.0) and diameters_mm(plane & False, FLAT) == (0.0, 0.0)


def test_lesions_that_touch_at_a_corner_are_one_and_the_largest_comes_first() -> None:
    mask = np.zeros((8, 8, 4), dtype=bool)
    mask[0, 0, 0] = True
    mask[4:6, 4:6, 1] = mask[6, 6, 2] = True
    probability = np.where(mask, 0.6, 0.0)
    probability[6, 6, 2] = 1.0
    large, small = lesion_table(mask, np.eye(4), probability)
    assert (large["voxels"], small["voxels"]) == (5, 1) and large["slices"] == [1, 2] and small["slices"] == [0, 0]
    assert large["probability"] == pytest.approx(0.68) and small["probability"] == 0.6
    assert lesion_table(mask & False, np.eye(4)) == []


@pytest.mark.parametrize(
    ("meta", "absent"),
    [
        ({"spacing_used": True, "spacing_known": True}, set()),
        ({"spacing_used": True, "spacing_known": True, "thickness_known": False}, {"volume_ml", "centroid_mm"}),
        ({"spacing_known": False}, {"volume_ml", "centroid_mm", "area_mm2", "longest_mm", "perpendicular_mm"}),
    ],
)
def test_no_millimeters_without_a_spacing(meta: dict[str, bool], absent: set[str]) -> None:
    told = {"spatial_shape": np.array([6, 6, 3]), "original_affine": np.eye(4), **meta}
    mask = MetaTensor(torch.ones(1, 6, 6, 3), meta=told)
    data = {"pred": mask, "mask_probability": mask * 0.5, "result": {"model": {}}}
    found = DescribeLesionsd("pred")(data)
    (lesion,) = found["result"]["lesions"]
    assert {"volume_ml", "centroid_mm", "area_mm2", "longest_mm", "perpendicular_mm"} - lesion.keys() == absent
    assert lesion["probability"] == 0.5 and "mask_probability" not in found


def test_weights_that_did_not_learn_masks_have_no_lesions() -> None:
    mask = MetaTensor(torch.ones(1, 6, 6, 1))
    data = {"pred": mask, "mask_probability": mask, "result": {"model": {"learned": ["classification"]}}}
    assert "lesions" not in DescribeLesionsd("pred")(data)["result"]


@pytest.mark.parametrize("seed", range(8))
def test_the_widest_slice_is_the_first_with_the_longest_diameter_of_all(seed: int) -> None:
    draw = np.random.default_rng(seed)
    planes, axes_mm = draw.random((7, 9, 8)) > 0.9, draw.normal(size=(3, 2))
    planes[:, 4, 4] = True
    planes[5] = planes[2]
    measured = [diameters_mm(plane, axes_mm) for plane in planes]
    widest = max(range(7), key=lambda index: measured[index][0])
    assert _widest_slice(planes, axes_mm) == (widest, measured[widest])
