"""Grids of scans: axes, sizes, and one way to display whatever a file stores."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.core.geometry import as_displayed, box_around, pixel_mm2, slice_axis, voxel_mm3

AXCODES = ["PLS", "RAS", "LPS", "LAI", "RPI", "SPR", "IRA", "ASL", "PIR"]
VOLUME = np.arange(7 * 6 * 5, dtype=np.int16).reshape(7, 6, 5)  # rows to posterior, columns to the left, upwards
DISPLAY = np.array([[0.0, -1.0, 0.0, 70.0], [-1.0, 0.0, 0.0, 80.0], [0.0, 0.0, 1.0, -20.0], [0.0, 0.0, 0.0, 1.0]])


def stored(axcodes: str, affine: np.ndarray = DISPLAY) -> nib.Nifti1Image:
    """The volume as a NIfTI along other axes."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(axcodes)))
    return nib.Nifti1Image(VOLUME, affine).as_reoriented(turn)


@pytest.mark.parametrize(
    ("axcodes", "expected"),
    [("RAS", (2, True)), ("LPI", (2, False)), ("SPR", (0, True)), ("AIR", (1, False)), ("PSL", (1, True))],
)
def test_the_axis_of_slices_follows_the_affine(axcodes: str, expected: tuple[int, bool]) -> None:
    assert slice_axis(stored(axcodes).affine) == expected


def test_a_tilted_scan_has_the_nearest_axis() -> None:
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]]
    assert slice_axis(tilt @ np.diag([1.0, 1.0, -5.0, 1.0])) == (2, False)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_any_orientation_is_displayed_the_same_way(axcodes: str) -> None:
    image = stored(axcodes)
    assert np.array_equal(as_displayed(np.asarray(image.dataobj), image.affine), VOLUME)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_voxel_volume_does_not_depend_on_the_order_of_axes(axcodes: str) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    oblique = stored(axcodes, turn @ DISPLAY @ np.diag([0.5, 0.75, 3.0, 1.0])).affine
    assert voxel_mm3(oblique) == pytest.approx(1.125) and pixel_mm2(oblique) == pytest.approx(0.375)


def test_the_box_holds_all_true_values_and_no_more() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    assert box_around(mask) is None
    mask[2, 3, 7] = mask[4, 1, 5] = True
    assert box_around(mask) == (slice(2, 5), slice(1, 4), slice(5, 8))
    assert box_around(mask.transpose(2, 0, 1)) == (slice(5, 8), slice(2, 5), slice(1, 4)), "in any order in memory"
