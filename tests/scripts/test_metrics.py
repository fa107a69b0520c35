from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scripts.metrics import PatientDice, SourceAUC, boundary_f, classification_scores, overlap_scores

SPACINGS = st.lists(st.sampled_from([0.5, 1.0, 1.5, 3.0]), min_size=3, max_size=3)


@st.composite
def pairs_of_masks(draw: Any, longest: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Two masks of one shape, 2-D or 3-D."""
    shape = draw(
        st.one_of(array_shapes(min_dims=2, max_dims=2, max_side=longest), array_shapes(min_dims=3, max_side=6))
    )
    shape = shape[:3]
    first, second = draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))
    return first, second


def surface_of(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of the mask with a face on the outside, one by one."""

    def outside(index: tuple[int, ...]) -> bool:
        return any(not 0 <= i < n for i, n in zip(index, mask.shape, strict=True)) or not mask[index]

    steps = [tuple(sign * (axis == a) for a in range(mask.ndim)) for axis in range(mask.ndim) for sign in (-1, 1)]
    voxels = [tuple(int(i) for i in voxel) for voxel in np.argwhere(mask)]
    return [v for v in voxels if any(outside(tuple(a + b for a, b in zip(v, step, strict=True))) for step in steps)]


def boundary_f_by_brute_force(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float], tolerance: float
) -> float:
    def share(own: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
        distances = [min(math.dist(np.multiply(a, spacing), np.multiply(b, spacing)) for b in other) for a in own]
        return float(np.mean([distance <= tolerance + 1e-9 for distance in distances]))

    surfaces = surface_of(first), surface_of(second)
    precision, recall = share(*surfaces), share(*surfaces[::-1])
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_overlap_of_a_worked_example() -> None:
    prediction, reference = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    prediction[:2, :3], reference[:2, 1:] = True, True  # 6 and 6 pixels, 4 of them shared
    assert overlap_scores(prediction, reference) == {"dice": pytest.approx(8 / 12), "iou": pytest.approx(4 / 8)}


@pytest.mark.parametrize(
    ("prediction", "reference", "dice", "surface"),
    [([0, 0], [0, 0], math.nan, math.nan), ([1, 0], [0, 0], math.nan, math.nan), ([0, 0], [1, 0], 0.0, 0.0)],
)
def test_empty_masks_have_defined_answers(
    prediction: list[int], reference: list[int], dice: float, surface: float
) -> None:
    masks = np.array(prediction), np.array(reference)
    scores = overlap_scores(*masks)
    np.testing.assert_equal([scores["dice"], scores["iou"]], [dice, dice])
    np.testing.assert_equal(boundary_f(*masks, spacing_mm=[1.0], tolerance_mm=1.0), surface)


@given(masks=pairs_of_masks())
def test_dice_is_never_below_iou_and_both_are_symmetric(masks: tuple[np.ndarray, np.ndarray]) -> None:
    assume(masks[0].any() and masks[1].any())
    scores = overlap_scores(*masks)
    assert 0 <= scores["iou"] <= scores["dice"] <= 1
    assert scores["dice"] == pytest.approx(2 * scores["iou"] / (1 + scores["iou"]))
    assert overlap_scores(masks[1], masks[0]) == scores


@given(masks=pairs_of_masks())
def test_a_mask_agrees_wholly_with_itself(masks: tuple[np.ndarray, np.ndarray]) -> None:
    assume(masks[0].any())
    assert overlap_scores(masks[0], masks[0]) == {"dice": 1.0, "iou": 1.0}
    assert boundary_f(masks[0], masks[0], [1.0] * masks[0].ndim, 0.0) == 1.0


def test_boundary_f_of_a_shifted_square() -> None:
    prediction, reference = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    reference[3:7, 3:7], prediction[3:7, 5:9] = True, True  # two pixels to the side
    assert boundary_f(prediction, reference, [1.0, 1.0], 2.0) == 1.0
    assert boundary_f(prediction, reference, [1.0, 3.0], 2.0) < 1.0  # where a pixel is 3 mm wide that is too far
    assert boundary_f(np.roll(reference, 5, axis=0), reference, [1.0, 1.0], 1.0) == 0.0


@settings(deadline=None, max_examples=150)
@given(masks=pairs_of_masks(), spacing=SPACINGS, tolerance=st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_boundary_f_is_what_brute_force_finds(
    masks: tuple[np.ndarray, np.ndarray], spacing: list[float], tolerance: float
) -> None:
    assume(masks[0].any() and masks[1].any())
    spacing = spacing[: masks[0].ndim]
    expected = boundary_f_by_brute_force(*masks, spacing, tolerance)
    assert boundary_f(*masks, spacing, tolerance) == pytest.approx(expected)
    assert boundary_f(masks[1], masks[0], spacing, tolerance) == pytest.approx(expected)


@given(masks=pairs_of_masks(), spacing=SPACINGS)
def test_boundary_f_grows_with_the_tolerance(masks: tuple[np.ndarray, np.ndarray], spacing: list[float]) -> None:
    assume(masks[0].any() and masks[1].any())
    values = [boundary_f(*masks, spacing[: masks[0].ndim], tolerance) for tolerance in (0.0, 1.0, 2.0, 100.0)]
    assert values == sorted(values) and values[-1] == 1.0


def test_classification_scores_of_a_worked_example() -> None:
    classes, probabilities = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), np.array([0.9, 0.4, 0.5, 0.2, 0.1])
    assert classification_scores(classes, probabilities, threshold=0.5) == {
        "n": 5,
        "positives": 2,
        "prevalence": 0.4,
        "roc_auc": pytest.approx(5 / 6),  # of 6 pairs one is in the wrong order
        "pr_auc": pytest.approx(0.5 * 1 + 0.5 * 2 / 3),
        "threshold": 0.5,
        "sensitivity": 0.5,
        "specificity": pytest.approx(2 / 3),  # the negative at the threshold is called
    }


@pytest.mark.parametrize(
    ("classes", "undefined"),
    [
        ([1.0, 1.0], {"roc_auc", "pr_auc", "specificity"}),
        ([0.0, 0.0], {"roc_auc", "pr_auc", "sensitivity"}),
        ([], {"roc_auc", "pr_auc", "sensitivity", "specificity", "prevalence"}),
    ],
)
def test_scores_that_one_class_cannot_have_are_none(classes: list[float], undefined: set[str]) -> None:
    scores = classification_scores(np.array(classes), np.array([0.3, 0.7][: len(classes)]), 0.5)
    assert {name for name, value in scores.items() if value is None} == undefined
    assert scores["n"] == len(classes)


@given(values=st.lists(st.tuples(st.booleans(), st.integers(-20, 20)), min_size=2, max_size=30))
def test_auc_sees_the_order_of_probabilities_alone(values: list[tuple[bool, int]]) -> None:
    classes, logits = np.array([c for c, _ in values], float), np.array([v for _, v in values], float)
    assume(0 < classes.sum() < len(classes))
    scores = [classification_scores(classes, p, 0.0) for p in (logits, 1 / (1 + np.exp(-logits / 7)), logits**3 + 2)]
    for name in ("roc_auc", "pr_auc"):
        assert scores[0][name] == pytest.approx(scores[1][name]) == pytest.approx(scores[2][name])
    opposite = classification_scores(1 - classes, -logits, 0.0)["roc_auc"]
    assert opposite == pytest.approx(scores[0]["roc_auc"])


def made_slices() -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Case, logits and mask of 33 slices: three cases with tumour in some slices, one without any."""
    generator = torch.Generator().manual_seed(5)
    slices = []
    for case, level in (("a", 0.2), ("b", 0.5), ("c", 0.02), ("none", 0.0)):
        for index in range({"a": 3, "b": 10, "c": 16, "none": 4}[case]):
            mask = (torch.rand(1, 6, 6, generator=generator) < level * (index % 3 > 0)).float()
            slices.append((case, 2 * mask - 1 + torch.randn(1, 6, 6, generator=generator), mask))
    return slices


def run(metric: Any, outputs: Sequence[dict[str, Any]]) -> float:
    metric.reset()
    for output in outputs:
        metric.update((output["pred"], output["label"]))
    return float(metric.compute())


def patient_dice(slices: list[tuple[str, torch.Tensor, torch.Tensor]], batch_size: int) -> float:
    batches = [slices[i : i + batch_size] for i in range(0, len(slices), batch_size)]
    outputs = [
        {
            "pred": {"seg": torch.stack([logits for _, logits, _ in batch])},
            "label": {"mask": torch.stack([mask for *_, mask in batch]), "case": [case for case, *_ in batch]},
        }
        for batch in batches
    ]
    return run(PatientDice(), outputs)


def volumetric_dice() -> float:
    """Dice of each case's slices put together, by `overlap_scores`; the case without tumour is left out."""
    values = []
    for case in "abc":
        masks = [(logits > 0, mask) for name, logits, mask in made_slices() if name == case]
        values.append(overlap_scores(*(torch.stack(m).numpy() for m in zip(*masks, strict=True)))["dice"])
    return float(np.mean(values))


@pytest.mark.parametrize("batch_size", [1, 3, 16, 100])
def test_patient_dice_is_volumetric_whatever_the_batch_size(batch_size: int) -> None:
    assert patient_dice(made_slices(), batch_size) == pytest.approx(volumetric_dice())


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(33)), batch_size=st.integers(1, 33))
def test_patient_dice_does_not_depend_on_the_order_of_slices(order: list[int], batch_size: int) -> None:
    slices = made_slices()
    assert patient_dice([slices[i] for i in order], batch_size) == pytest.approx(volumetric_dice())


def test_patient_dice_is_not_the_mean_over_slices() -> None:
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    slices = [("a", 2 * full - 1, full), ("a", 2 * full - 1, empty)]  # all is drawn, half of it is tumour
    assert patient_dice(slices, 2) == pytest.approx(2 / 3)


def test_patient_dice_passes_over_images_and_without_any_case_is_zero() -> None:
    images = {"pred": {"cls": torch.zeros(2, 1)}, "label": {"cls": torch.ones(2), "case": ["k/1", "k/2"]}}
    assert run(PatientDice(), [images]) == 0.0
    assert patient_dice([s for s in made_slices() if s[0] == "none"], 4) == 0.0


def test_patient_dice_starts_afresh_after_a_reset() -> None:
    metric, (case, logits, mask) = PatientDice(), made_slices()[1]
    output = {"pred": {"seg": logits[None]}, "label": {"mask": mask[None], "case": [case]}}
    first = run(metric, [output])
    metric.update(({"seg": -logits[None]}, {"mask": mask[None], "case": [case]}))
    assert run(metric, [output]) == first


def answers(*rows: tuple[str, float, float]) -> list[dict[str, Any]]:
    """Engine outputs of one row each: source, class, logit."""
    return [
        {"pred": {"cls": torch.tensor([[logit]])}, "label": {"cls": torch.tensor([cls]), "source": [source]}}
        for source, cls, logit in rows
    ]


def test_auc_is_taken_within_each_source() -> None:
    """A detector of the source alone: pooled it would score well, within each source it is worth nothing."""
    rows = [("k", float(cls), 5.0) for cls in (1, 1, 1, 0)] + [("b", float(cls), -5.0) for cls in (0, 0, 0, 1)]
    assert run(SourceAUC(), answers(*rows)) == 0.5


def test_auc_is_the_mean_over_sources_or_that_of_one() -> None:
    rows = answers(("k", 1.0, 2.0), ("k", 0.0, 1.0), ("b", 1.0, 11.0), ("b", 0.0, 12.0))
    assert [run(SourceAUC(source), rows) for source in (None, "k", "b")] == [0.5, 1.0, 0.0]


def test_unknown_classes_and_sources_of_one_class_leave_the_auc() -> None:
    rows = [("k", 1.0, 2.0), ("k", 0.0, 1.0), ("k", math.nan, 9.0), ("b", 1.0, 0.0), ("b", 1.0, 0.0)]
    assert run(SourceAUC(), answers(*rows)) == 1.0
    assert run(SourceAUC("b"), answers(*rows)) == 0.5


def test_auc_does_not_depend_on_batches() -> None:
    rows = [("k", float(n % 2), float(n * n % 7)) for n in range(12)]
    whole = {
        "pred": {"cls": torch.tensor([[logit] for *_, logit in rows])},
        "label": {"cls": torch.tensor([cls for _, cls, _ in rows]), "source": [source for source, *_ in rows]},
    }
    orders = itertools.islice(itertools.permutations(answers(*rows)), 0, 1000, 250)
    values = {run(SourceAUC(), order) for order in orders}
    assert values == {run(SourceAUC(), [whole])}
