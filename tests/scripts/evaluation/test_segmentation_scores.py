from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from scripts.evaluation.segmentation_scores import (
    MISS_MM,
    boundary_f,
    hd95_mm,
    lesion_wise,
    overlap_scores,
    segmentation_scores,
    surface_dice,
)

Masks = tuple[np.ndarray, np.ndarray]
Voxel = tuple[int, ...]

NAMES = ["dice", "iou", "hd95_mm", "surface_dice_1mm", "surface_dice_2mm", "boundary_f_1mm", "boundary_f_2mm"]
NAMES += ["lesion_dice", "lesion_hd95_mm", "lesions", "lesions_found", "lesions_false"]
SPACINGS = st.lists(st.sampled_from([0.5, 1.0, 1.5, 3.0]), min_size=3, max_size=3)
TOLERANCES = st.sampled_from([0.0, 1.0, 2.0, 3.5])
some = settings(deadline=None, max_examples=25)


@st.composite
def pairs_of_masks(draw: Any) -> Masks:
    """Two masks of one shape, 2-D or 3-D, with any voxel on or off."""
    shapes = st.one_of(
        array_shapes(min_dims=2, max_dims=2, max_side=10), array_shapes(min_dims=3, max_dims=3, max_side=6)
    )
    shape = draw(shapes)
    return draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))


@st.composite
def pairs_of_boxes(draw: Any) -> Masks:
    """Two masks of up to four boxes each, 2-D or 3-D: lesions small and large, near and far from each other."""
    shape = draw(st.sampled_from([(50, 24), (28, 8, 7)]))

    def mask() -> np.ndarray:
        drawn = np.zeros(shape, bool)
        for _ in range(draw(st.integers(0, 4))):
            starts = [draw(st.integers(0, side - 1)) for side in shape]
            shortest = draw(st.sampled_from([1, 6]))
            drawn[tuple(slice(start, start + draw(st.integers(shortest, 9))) for start in starts)] = True
        return drawn

    return mask(), mask()


def grids(*boxes: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """A mask of boxes."""
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def surface_of(mask: np.ndarray) -> list[Voxel]:
    """Voxels of the mask with a face on the outside, one by one."""

    def outside(index: Voxel) -> bool:
        return any(not 0 <= i < n for i, n in zip(index, mask.shape, strict=True)) or not mask[index]

    steps = [tuple(sign * (axis == a) for a in range(mask.ndim)) for axis in range(mask.ndim) for sign in (-1, 1)]
    voxels = [tuple(int(i) for i in voxel) for voxel in np.argwhere(mask)]
    return [v for v in voxels if any(outside(tuple(a + b for a, b in zip(v, step, strict=True))) for step in steps)]


def distances_by_brute_force(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> Masks:
    """From each surface voxel of one mask to the nearest of the other, both ways, by all pairs."""
    a, b = (np.array(surface_of(mask)) * np.array(spacing) for mask in (first, second))
    every = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return every.min(axis=1), every.min(axis=0)


def hd95_by_brute_force(first: np.ndarray, second: np.ndarray, spacing: Sequence[float]) -> float:
    return max(float(np.percentile(d, 95)) for d in distances_by_brute_force(first, second, spacing))


def dice_by_brute_force(first: np.ndarray, second: np.ndarray) -> float:
    a, b = ({tuple(voxel) for voxel in np.argwhere(mask)} for mask in (first, second))
    return 2 * len(a & b) / (len(a) + len(b))


def regions_of(voxels: Iterable[Voxel]) -> list[set[Voxel]]:
    """Voxels that touch, by a face, an edge or a corner, one region after the other."""
    left, regions = set(voxels), []
    while left:
        region, front = set(), [left.pop()]
        while front:
            voxel = front.pop()
            region.add(voxel)
            near = {n for n in itertools.product(*((i - 1, i, i + 1) for i in voxel)) if n in left}
            left -= near
            front += near
        regions.append(region)
    return regions


def grown(voxels: set[Voxel]) -> set[Voxel]:
    """Each voxel within three steps along one or two axes at a time: 3 along each axis, 6 in all."""
    dimensions = len(next(iter(voxels)))
    reach = [s for s in itertools.product(range(-3, 4), repeat=dimensions) if sum(map(abs, s)) <= 6]
    reached = np.array(list(voxels))[:, None] + np.array(reach)[None]
    return {tuple(voxel) for voxel in np.unique(reached.reshape(-1, dimensions), axis=0).tolist()}


def lesion_wise_by_brute_force(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float]
) -> dict[str, float]:
    """The rules in words, over sets of voxels, on a grid without an edge."""
    predicted, true = ({tuple(int(i) for i in v) for v in np.argwhere(mask)} for mask in (prediction, reference))
    components = regions_of(predicted)
    touched: list[int] = []
    dice, distances, found = [], [], 0
    for extent in regions_of(grown(true)) if true else []:
        own = [index for index, component in enumerate(components) if component & extent]
        touched += own
        lesion = extent & true
        if len(lesion) <= 50:
            continue
        masks = np.zeros_like(reference), np.zeros_like(reference)
        for mask, voxels in zip(masks, (set().union(*(components[i] for i in own)), lesion), strict=True):
            for voxel in voxels:
                mask[voxel] = True
        found += bool(own)
        dice.append(dice_by_brute_force(*masks) if own else 0.0)
        distances.append(hd95_by_brute_force(*masks, spacing) if own else 374.0)
    false = len(components) - len(set(touched))
    return {
        "lesion_dice": float(np.mean(dice + [0.0] * false)) if dice else math.nan,
        "lesion_hd95_mm": float(np.mean(distances + [374.0] * false)) if dice else math.nan,
        "lesions": len(dice),
        "lesions_found": found,
        "lesions_false": false,
    }


def padded(masks: Masks, before: int, after: int) -> Masks:
    first, second = (np.pad(mask, (before, after)) for mask in masks)
    return first, second


def test_overlap_of_a_worked_example() -> None:
    prediction, reference = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    prediction[:2, :3], reference[:2, 1:] = True, True  # 6 and 6 pixels, 4 of them shared
    assert overlap_scores(prediction, reference) == {"dice": pytest.approx(8 / 12), "iou": pytest.approx(4 / 8)}


@pytest.mark.parametrize(
    ("prediction", "reference", "overlap", "distance", "lesion_distance", "false"),
    [
        ("empty", "empty", math.nan, math.nan, math.nan, 0),
        ("full", "empty", math.nan, math.nan, math.nan, 1),
        ("empty", "full", 0.0, 374.0, 374.0, 0),
        ("full", "full", 1.0, 0.0, 0.0, 0),
    ],
)
@pytest.mark.parametrize("shape", [(8, 8), (4, 5, 6)])
def test_empty_masks_have_defined_scores(
    prediction: str,
    reference: str,
    overlap: float,
    distance: float,
    lesion_distance: float,
    false: int,
    shape: tuple[int, ...],
) -> None:
    masks = {"empty": np.zeros(shape), "full": np.ones(shape)}
    scores = segmentation_scores(masks[prediction], masks[reference], [1.0] * len(shape))
    expected = dict.fromkeys(NAMES, overlap) | {"hd95_mm": distance, "lesion_hd95_mm": lesion_distance}
    expected |= {"lesions": int(reference == "full"), "lesions_false": false}
    expected |= {"lesions_found": int(prediction == reference == "full")}
    np.testing.assert_equal(scores, expected)


@some
@given(masks=pairs_of_masks())
def test_dice_is_never_below_iou_and_both_are_symmetric(masks: Masks) -> None:
    assume(masks[0].any() and masks[1].any())
    scores = overlap_scores(*masks)
    assert 0 <= scores["iou"] <= scores["dice"] <= 1
    assert scores["dice"] == pytest.approx(dice_by_brute_force(*masks))
    assert scores["dice"] == pytest.approx(2 * scores["iou"] / (1 + scores["iou"]))
    assert overlap_scores(masks[1], masks[0]) == scores


@some
@given(masks=pairs_of_masks())
def test_a_mask_has_perfect_scores_with_itself(masks: Masks) -> None:
    mask, spacing = masks[0], [1.0] * masks[0].ndim
    assume(mask.any())
    assert overlap_scores(mask, mask) == {"dice": 1.0, "iou": 1.0}
    assert boundary_f(mask, mask, spacing, 0.0) == surface_dice(mask, mask, spacing, 0.0) == 1.0
    assert hd95_mm(mask, mask, spacing) == 0.0


def test_surfaces_of_a_worked_example() -> None:
    """A line of 20 pixels, of which the first 10 are predicted; all pixels are surface.

    From the prediction all distances are 0. From the reference ten are 0 and the others 1, 2, ... 10 pixels. The 95th
    percentile of 20 values lies at place 0.95 * 19 = 18.05, counted from 0: 9 + 0.05 * (10 - 9). Within one pixel are
    all 10 and 11 of 20, within two 10 and 12 of 20.
    """
    prediction, reference = np.zeros((3, 22), bool), np.zeros((3, 22), bool)
    prediction[1, 1:11], reference[1, 1:21] = True, True
    assert hd95_mm(prediction, reference, [1.0, 1.0]) == pytest.approx(9.05)
    assert hd95_mm(prediction, reference, [9.0, 0.5]) == pytest.approx(4.525)
    assert surface_dice(prediction, reference, [1.0, 1.0], 1.0) == pytest.approx(21 / 30)
    assert surface_dice(prediction, reference, [1.0, 1.0], 2.0) == pytest.approx(22 / 30)
    assert boundary_f(prediction, reference, [1.0, 1.0], 1.0) == pytest.approx(2 * 1 * 0.55 / 1.55)
    assert boundary_f(prediction, reference, [1.0, 1.0], 2.0) == pytest.approx(2 * 1 * 0.6 / 1.6)
    scores = segmentation_scores(prediction, reference, [1.0, 2.0])
    assert [scores["surface_dice_1mm"], scores["surface_dice_2mm"]] == pytest.approx([20 / 30, 21 / 30])


def test_boundary_f_of_a_shifted_square() -> None:
    prediction, reference = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    reference[3:7, 3:7], prediction[3:7, 5:9] = True, True  # two pixels to the side
    assert boundary_f(prediction, reference, [1.0, 1.0], 2.0) == 1.0
    assert boundary_f(prediction, reference, [1.0, 3.0], 2.0) < 1.0  # where a pixel is 3 mm wide that is too far
    assert boundary_f(np.roll(reference, 5, axis=0), reference, [1.0, 1.0], 1.0) == 0.0


@pytest.mark.parametrize(("axis", "distance"), [(0, 2.0), (1, 4.0), (2, 12.0)])
def test_a_step_counts_as_many_mm_as_its_axis_has(axis: int, distance: float) -> None:
    reference = np.zeros((9, 9, 9), bool)
    reference[3, 4, 2] = True
    moved, spacing = np.roll(reference, 4, axis), [0.5, 1.0, 3.0]
    assert hd95_mm(moved, reference, spacing) == distance
    for measure in (surface_dice, boundary_f):
        assert measure(moved, reference, spacing, distance) == 1.0
        assert measure(moved, reference, spacing, distance - 0.01) == 0.0


@settings(deadline=None, max_examples=50)
@given(masks=pairs_of_masks(), spacing=SPACINGS, tolerance=TOLERANCES)
def test_surface_measures_equal_brute_force(masks: Masks, spacing: list[float], tolerance: float) -> None:
    assume(masks[0].any() and masks[1].any())
    spacing = spacing[: masks[0].ndim]
    distances = distances_by_brute_force(*masks, spacing)
    within = [d <= tolerance + 1e-9 for d in distances]
    precision, recall = (float(w.mean()) for w in within)
    expected_f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    for first, second in (masks, masks[::-1]):
        expected_mm = hd95_by_brute_force(*masks, spacing)
        assert hd95_mm(first, second, spacing) == pytest.approx(expected_mm, rel=1e-5, abs=1e-5)  # float32 percentile
        assert surface_dice(first, second, spacing, tolerance) == pytest.approx(np.concatenate(within).mean(), rel=1e-5)
        assert boundary_f(first, second, spacing, tolerance) == pytest.approx(expected_f)


@some
@given(masks=pairs_of_masks(), spacing=SPACINGS)
def test_surface_measures_grow_with_the_tolerance(masks: Masks, spacing: list[float]) -> None:
    assume(masks[0].any() and masks[1].any())
    for measure in (surface_dice, boundary_f):
        values = [measure(*masks, spacing[: masks[0].ndim], tolerance) for tolerance in (0.0, 1.0, 2.0, 100.0)]
        assert values == sorted(values) and values[-1] == 1.0


@some
@given(masks=pairs_of_masks(), spacing=SPACINGS, factor=st.sampled_from([0.25, 2.0, 8.0]))
def test_distances_scale_with_the_grid(masks: Masks, spacing: list[float], factor: float) -> None:
    assume(masks[0].any() and masks[1].any())
    spacing = spacing[: masks[0].ndim]
    larger = [factor * size for size in spacing]
    assert hd95_mm(*masks, larger) == pytest.approx(factor * hd95_mm(*masks, spacing), rel=1e-5)
    assert surface_dice(*masks, larger, 2 * factor) == surface_dice(*masks, spacing, 2.0)


@some
@given(masks=pairs_of_masks(), spacing=SPACINGS, tolerance=TOLERANCES)
def test_cropping_does_not_change_monais_scores(masks: Masks, spacing: list[float], tolerance: float) -> None:
    assume(masks[0].any() and masks[1].any())
    spacing = spacing[: masks[0].ndim]
    whole = [torch.from_numpy(mask)[None, None] for mask in padded(masks, 3, 2)]
    distance = compute_hausdorff_distance(*whole, include_background=True, percentile=95, spacing=spacing)
    assert hd95_mm(*masks, spacing) == hd95_mm(*padded(masks, 0, 4), spacing) == float(distance)
    share = compute_surface_dice(*whole, [tolerance], include_background=True, spacing=spacing)
    assert surface_dice(*masks, spacing, tolerance) == float(share)


@some
@given(masks=pairs_of_boxes(), spacing=SPACINGS, before=st.integers(0, 5), after=st.integers(0, 5))
def test_empty_margins_change_no_score(masks: Masks, spacing: list[float], before: int, after: int) -> None:
    spacing = spacing[: masks[0].ndim]
    scores = segmentation_scores(*masks, spacing)
    np.testing.assert_equal(segmentation_scores(*padded(masks, before, after), spacing), scores)


@settings(deadline=None, max_examples=50)
@given(masks=pairs_of_boxes(), spacing=SPACINGS)
def test_lesion_wise_scores_equal_brute_force(masks: Masks, spacing: list[float]) -> None:
    spacing = spacing[: masks[0].ndim]
    expected = lesion_wise_by_brute_force(*masks, spacing)
    assert lesion_wise(*masks, spacing) == pytest.approx(expected, rel=1e-5, nan_ok=True)


@some
@given(masks=pairs_of_boxes(), data=st.data())
def test_lesion_wise_scores_do_not_depend_on_orientation(masks: Masks, data: st.DataObject) -> None:
    axes = data.draw(st.permutations(range(masks[0].ndim)))
    spacing = [1.0, 1.5, 2.0][: masks[0].ndim]
    turned, mirrored = (mask.transpose(axes) for mask in masks), (np.flip(mask, axes[0]) for mask in masks)
    expected = lesion_wise(*masks, spacing)
    assert lesion_wise(*turned, [spacing[axis] for axis in axes]) == pytest.approx(expected, nan_ok=True)
    assert lesion_wise(*mirrored, spacing) == pytest.approx(expected, nan_ok=True)


def test_lesions_of_a_worked_example() -> None:
    """Four lesions far from each other: A found, B missed, C (27 voxels) and D (50 voxels) too small to be scored.

    A is 4 x 4 x 4 and predicted one voxel to the side: Dice 2 * 48 / 128, and its 56 surface voxels lie at 0 or 1 mm,
    more than 5 % of them at 1 mm. C is predicted and no false positive; one voxel far from all lesions is one. So the
    means are over A, B and the false positive.
    """
    shape = (40, 40, 40)
    a = (slice(2, 6), slice(2, 6), slice(2, 6))
    a_moved = (slice(3, 7), slice(2, 6), slice(2, 6))
    b = (slice(30, 34), slice(30, 34), slice(30, 34))
    c = (slice(2, 5), slice(30, 33), slice(2, 5))
    d = (slice(20, 22), slice(2, 7), slice(30, 35))
    nothing_near = (slice(20, 21), slice(20, 21), slice(0, 1))
    prediction, reference = grids(a_moved, c, nothing_near, shape=shape), grids(a, b, c, d, shape=shape)
    assert lesion_wise(prediction, reference, [1.0, 1.0, 1.0]) == {
        "lesion_dice": pytest.approx((0.75 + 0 + 0) / 3),
        "lesion_hd95_mm": pytest.approx((1 + MISS_MM + MISS_MM) / 3),
        "lesions": 2,
        "lesions_found": 1,
        "lesions_false": 1,
    }


@pytest.mark.parametrize(("voxels", "lesions"), [(50, 0), (51, 1)])
def test_a_lesion_of_50_voxels_is_dropped_and_one_of_51_is_not(voxels: int, lesions: int) -> None:
    reference = np.zeros((5, 30), bool)
    reference.T.flat[:voxels] = True
    missed = lesion_wise(np.zeros_like(reference), reference, [1.0, 1.0])
    assert missed["lesions"] == lesions
    np.testing.assert_equal(missed["lesion_dice"], 0.0 if lesions else math.nan)
    np.testing.assert_equal(missed["lesion_hd95_mm"], MISS_MM if lesions else math.nan)


def test_with_only_small_lesions_just_false_positives_are_counted() -> None:
    reference = grids((slice(0, 3), slice(0, 3)), shape=(20, 20))
    scores = lesion_wise(grids((slice(15, 16), slice(15, 16)), shape=(20, 20)), reference, [1.0, 1.0])
    np.testing.assert_equal([scores["lesion_dice"], scores["lesion_hd95_mm"]], [math.nan, math.nan])
    assert [scores[name] for name in NAMES[-3:]] == [0, 0, 1]


@pytest.mark.parametrize(("gap", "lesions"), [(1, 1), (6, 1), (7, 2), (12, 2)])
def test_fragments_with_up_to_six_voxels_between_them_are_one_lesion(gap: int, lesions: int) -> None:
    first, second = (slice(0, 8), slice(0, 8)), (slice(0, 8), slice(8 + gap, 16 + gap))
    reference = grids(first, second, shape=(8, 40))
    scores = lesion_wise(grids(first, shape=(8, 40)), reference, [1.0, 1.0])
    assert (scores["lesions"], scores["lesions_found"], scores["lesions_false"]) == (lesions, 1, 0)
    # half of one lesion of 128 pixels, or all of the first of two
    assert scores["lesion_dice"] == pytest.approx(2 * 64 / (64 + 128) if lesions == 1 else (1 + 0) / 2)


@pytest.mark.parametrize(
    ("offset", "touches"),
    [((3, 0, 0), True), ((4, 0, 0), False), ((3, 3, 0), True), ((2, 2, 2), True), ((3, 2, 2), False)],
)
def test_a_component_belongs_to_a_lesion_within_three_steps_of_the_18_neighborhood(
    offset: Voxel, touches: bool
) -> None:
    reference = grids((slice(0, 4), slice(0, 4), slice(0, 4)), shape=(12, 12, 12))
    prediction = np.zeros_like(reference)
    prediction[tuple(3 + step for step in offset)] = True
    scores = lesion_wise(prediction, reference, [1.0, 1.0, 1.0])
    assert (scores["lesions_found"], scores["lesions_false"]) == ((1, 0) if touches else (0, 1))
    assert scores["lesion_dice"] == 0.0  # found, but without a voxel in common
    assert (scores["lesion_hd95_mm"] < MISS_MM) == touches


def test_a_component_that_touches_two_lesions_belongs_to_both() -> None:
    first, second = (slice(0, 8), slice(0, 8)), (slice(0, 8), slice(20, 28))
    reference, prediction = grids(first, second, shape=(8, 28)), np.ones((8, 28), bool)
    scores = lesion_wise(prediction, reference, [1.0, 1.0])
    assert (scores["lesions"], scores["lesions_found"], scores["lesions_false"]) == (2, 2, 0)
    assert scores["lesion_dice"] == pytest.approx(2 * 64 / (64 + 8 * 28))


def test_voxels_that_touch_by_a_corner_are_one_false_positive() -> None:
    prediction, reference = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    prediction[1, 1, 1] = prediction[2, 2, 2] = prediction[5, 5, 5] = True
    assert lesion_wise(prediction, reference, [1.0, 1.0, 1.0])["lesions_false"] == 2


@some
@given(masks=pairs_of_boxes(), spacing=SPACINGS, kind=st.sampled_from([np.uint8, np.float32, np.int64]))
def test_combined_scores_equal_those_of_each_function(masks: Masks, spacing: list[float], kind: type) -> None:
    spacing = spacing[: masks[0].ndim]
    scores = segmentation_scores(masks[0].astype(kind) * 2, masks[1].astype(kind), np.array(spacing).tolist())
    single = {**overlap_scores(*masks), "hd95_mm": hd95_mm(*masks, spacing), **lesion_wise(*masks, spacing)}
    for tolerance in (1.0, 2.0):
        single[f"surface_dice_{tolerance:g}mm"] = surface_dice(*masks, spacing, tolerance)
        single[f"boundary_f_{tolerance:g}mm"] = boundary_f(*masks, spacing, tolerance)
    assert list(scores) == NAMES
    np.testing.assert_equal(scores, single)
    json.dumps(scores)


def test_masks_are_not_modified() -> None:
    prediction, reference = np.eye(12) * 3, np.ones((12, 12))
    copies = prediction.copy(), reference.copy()
    segmentation_scores(prediction, reference, (1.0, 1.0))
    np.testing.assert_array_equal(prediction, copies[0])
    np.testing.assert_array_equal(reference, copies[1])


def test_a_rotated_grid_s_rounding_does_not_put_a_voxel_beyond_the_tolerance() -> None:
    reference = grids((slice(2, 9), slice(2, 9)), shape=(12, 12))
    moved = np.roll(reference, 1, axis=0)
    scores = segmentation_scores(moved, reference, [1.0000001, 0.9999999])
    assert scores["surface_dice_1mm"] == scores["boundary_f_1mm"] == 1.0


@pytest.mark.parametrize("shapes", [((4, 4), (4, 5)), ((4, 4), (4, 4, 1)), ((1, 4), (4, 4))])
def test_masks_of_different_shapes_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    masks, spacing = [np.ones(shape) for shape in shapes], [1.0] * len(shapes[1])
    for refused in (
        lambda: segmentation_scores(*masks, spacing),
        lambda: overlap_scores(*masks),
        lambda: hd95_mm(*masks, spacing),
        lambda: surface_dice(*masks, spacing, 1.0),
        lambda: boundary_f(*masks, spacing, 1.0),
        lambda: lesion_wise(*masks, spacing),
    ):
        with pytest.raises(ValueError, match=r"^prediction \(.*\) and reference \(.*\) differ in shape$"):
            refused()


@pytest.mark.parametrize("spacing", [[1.0], [1.0, 1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_a_spacing_that_does_not_fit_is_refused(spacing: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^spacing_mm must be 2 sizes above 0, not \[.*\]$"):
        segmentation_scores(np.ones((3, 3)), np.ones((3, 3)), spacing)


def test_two_spheres_on_the_grid_of_brats() -> None:
    """Radii 30 and 27 around one center: Dice 2 * 27^3 / (30^3 + 27^3), 3 mm from one surface to the other."""
    steps = np.ogrid[:240, :240, :155]
    squared = sum((axis - center) ** 2 for axis, center in zip(steps, (100, 120, 70), strict=True))
    prediction, reference = squared <= 27**2, squared <= 30**2
    prediction[230, 10, 150] = True  # one distant voxel
    scores = segmentation_scores(prediction, reference, (1.0, 1.0, 1.0))
    assert scores["dice"] == pytest.approx(2 * 27**3 / (30**3 + 27**3), abs=0.002)
    assert scores["hd95_mm"] == pytest.approx(3.0, abs=0.5)
    assert scores["surface_dice_1mm"] < 0.01 and scores["surface_dice_2mm"] < 0.1
    assert (scores["lesions"], scores["lesions_found"], scores["lesions_false"]) == (1, 1, 1)
    assert scores["lesion_dice"] == pytest.approx(scores["dice"] / 2, abs=1e-4)
    assert scores["lesion_hd95_mm"] == pytest.approx((scores["hd95_mm"] + MISS_MM) / 2, abs=0.1)
