from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scripts.core.configs import components_of
from scripts.training.losses import DeepSupervision, MultiTaskLoss

ROOT = Path(__file__).resolve().parents[3]
LOG3 = math.log(3.0)  # the logit of probability 3/4
CROSS_ENTROPY = -math.log(0.75)


def configured(**overrides: Any) -> MultiTaskLoss:
    """The loss of train.yaml."""
    made: MultiTaskLoss = components_of(ROOT, "train.yaml", ["loss"], device=torch.device("cpu"), **overrides)["loss"]
    return made


def seg_case() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and masks of two images of two pixels: probabilities 3/4, 1/4 and 1/4, 1/4; only the first is tumor."""
    logits = torch.tensor([[LOG3, -LOG3], [-LOG3, -LOG3]]).reshape(2, 1, 1, 2)
    return logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)


def seg_loss() -> float:
    """By hand: soft Dice over the whole batch is 2 * 0.75 / (1.5 + 1), and every pixel has probability 3/4."""
    return (1 - 1.5 / 2.5) + CROSS_ENTROPY


@pytest.fixture(scope="module")
def loss() -> MultiTaskLoss:
    return configured()


def test_segmentation_loss_is_dice_of_the_batch_plus_cross_entropy() -> None:
    logits, mask = seg_case()
    assert float(configured()({"seg": logits}, {"mask": mask})) == pytest.approx(seg_loss(), abs=1e-4)


def test_classification_loss_is_cross_entropy_of_the_known_rows() -> None:
    prediction = {"cls": torch.tensor([[LOG3], [100.0], [-LOG3], [0.0]])}
    target = {"cls": torch.tensor([1.0, math.nan, 0.0, 0.0])}
    expected = (2 * CROSS_ENTROPY + math.log(2.0)) / 3
    assert float(configured()(prediction, target)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_lambda_scales_only_the_classification_loss(weight: float) -> None:
    logits, mask = seg_case()
    prediction = {"seg": logits, "cls": torch.tensor([[LOG3], [-LOG3]])}
    loss = configured(cls_weight=weight)(prediction, {"mask": mask, "cls": torch.tensor([1.0, 0.0])})
    assert float(loss) == pytest.approx(seg_loss() + weight * CROSS_ENTROPY, abs=1e-4)


def test_positive_weight_scales_the_tumor_class() -> None:
    prediction, loss = {"cls": torch.tensor([[LOG3]])}, configured(positive_weight=3.0)
    assert float(loss(prediction, {"cls": torch.tensor([1.0])})) == pytest.approx(3 * CROSS_ENTROPY, abs=1e-5)
    assert float(loss(prediction, {"cls": torch.tensor([0.0])})) == pytest.approx(-math.log(0.25), abs=1e-5)


def test_only_known_classes_have_a_gradient() -> None:
    logits = torch.tensor([[1.0], [2.0], [-1.0]], requires_grad=True)
    configured()({"cls": logits}, {"cls": torch.tensor([1.0, math.nan, 0.0])}).backward()
    assert logits.grad is not None
    assert [bool(row != 0) for row in logits.grad] == [True, False, True]


def test_without_labels_loss_and_gradient_are_zero() -> None:
    logits = torch.tensor([[1.0], [2.0]], requires_grad=True)
    value = configured()({"cls": logits}, {"cls": torch.tensor([math.nan, math.nan])})
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None and torch.equal(logits.grad, torch.zeros(2, 1))


def test_a_task_without_output_has_no_loss() -> None:
    logits, mask = seg_case()
    target = {"mask": mask, "cls": torch.tensor([1.0, 0.0])}
    assert float(configured()({"seg": logits}, target)) == pytest.approx(seg_loss(), abs=1e-4)
    assert float(configured()({}, target)) == 0.0


@settings(deadline=None, max_examples=60)
@given(
    mask=arrays(np.bool_, (2, 1, 4, 4)),
    logits=arrays(np.float32, (2, 1, 4, 4), elements=st.floats(-60, 60, width=32)),
    classes=st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=2, max_size=2),
)
def test_loss_and_gradient_are_finite_on_any_mask(
    loss: MultiTaskLoss, mask: np.ndarray, logits: np.ndarray, classes: list[float]
) -> None:
    seg, cls = torch.tensor(logits, requires_grad=True), torch.tensor(logits[:, 0, 0, :1], requires_grad=True)
    target = {"mask": torch.tensor(mask, dtype=torch.float32), "cls": torch.tensor(classes)}
    value = loss({"seg": seg, "cls": cls}, target)
    value.backward()
    assert 0 <= value.item() < math.inf
    for tensor in (seg, cls):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("mask", [torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)])
def test_loss_falls_towards_the_mask(loss: MultiTaskLoss, mask: torch.Tensor) -> None:
    good, bad = (float(loss({"seg": sign * (2 * mask - 1)}, {"mask": mask})) for sign in (4.0, -4.0))
    assert good < bad


def test_the_patch_loss_uses_rows_with_masks() -> None:
    """Row 0 is an image, row 1 a slice whose upper left quarter holds one tumor pixel."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0, 0] = 1.0
    patches = torch.full((2, 1, 2, 2), -LOG3)
    patches[1, 0, 0, 0] = LOG3
    target = {"mask": mask, "mask_rows": torch.tensor([False, True]), "cls": torch.tensor([math.nan, math.nan])}
    prediction = {"cls": torch.zeros(2, 1), "patches": patches}
    assert float(configured(patch_weight=2.0)(prediction, target)) == pytest.approx(2 * CROSS_ENTROPY, abs=1e-5)
    assert float(configured(patch_weight=0.0)(prediction, target)) == 0.0


def test_coarser_levels_weigh_less() -> None:
    """By hand: the finest level's loss counts 4/7, the next 2/7, the coarsest 1/7."""
    logits, mask = seg_case()
    wrong = float(configured()({"seg": -logits}, {"mask": mask}))
    every_level = torch.stack([logits, -logits, logits], dim=1)
    found = float(configured()({"seg": every_level}, {"mask": mask}))
    assert found == pytest.approx((5 * seg_loss() + 2 * wrong) / 7, rel=1e-5)
    finest = configured(**{"loss#segmentation#weights": [1.0, 0.0, 0.0]})
    assert float(finest({"seg": every_level}, {"mask": mask})) == pytest.approx(seg_loss(), rel=1e-4)


def test_levels_without_a_weight_are_refused() -> None:
    logits, mask = seg_case()
    with pytest.raises(ValueError, match="2 levels of masks, but weights for 1"):
        DeepSupervision(torch.nn.BCEWithLogitsLoss(), [1.0])(torch.stack([logits, logits], dim=1), mask)
