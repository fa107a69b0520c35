from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from scripts.networks.multitask_unet import MultiTaskUNet, multi_task_unet
from scripts.training.losses import DeepSupervision, MultiTaskLoss
from scripts.training.prepare_batch import PrepareMultiTaskBatch

SIDE = 64


def volumes(count: int = 2) -> dict[str, Any]:
    """A batch of volumes' slices, the first without a class."""
    torch.manual_seed(1)
    cls = torch.tensor([math.nan, 1.0, 0.0][:count])
    names = {"case": [f"brats/p{n}" for n in range(count)], "source": ["brats"] * count, "kind": ["volume"] * count}
    mask = (torch.rand(count, 1, SIDE, SIDE) > 0.7).float()
    return {"image": torch.randn(count, 1, SIDE, SIDE), "mask": mask, "cls": cls, **names}


def images(count: int = 3) -> dict[str, Any]:
    """A batch of images."""
    torch.manual_seed(2)
    names = {"case": [f"kaggle/{n}" for n in range(count)], "source": ["kaggle"] * count, "kind": ["image"] * count}
    return {"image": torch.randn(count, 1, SIDE, SIDE), "cls": torch.tensor([1.0, 0.0, 1.0][:count]), **names}


@pytest.fixture
def network() -> MultiTaskUNet:
    """The real small network."""
    torch.manual_seed(0)
    return multi_task_unet("cpu")


def learn(network: MultiTaskUNet, batch: Any, empty_masks: bool = False) -> dict[str, bool]:
    """One backward pass; whether each part of the network got any gradient but zero."""
    levels = DeepSupervision(DiceCELoss(sigmoid=True, batch=True), [1.0, 0.5, 0.25])
    loss = MultiTaskLoss(levels, nn.BCEWithLogitsLoss())
    inputs, targets, arguments, flags = PrepareMultiTaskBatch(empty_masks=empty_masks)(batch)
    network.train()
    loss(network(inputs, *arguments, **flags), targets).backward()
    return {
        name: any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())
        for name, part in network.named_children()
    }


def test_images_are_not_segmented() -> None:
    inputs, targets, arguments, flags = PrepareMultiTaskBatch()(images())
    assert inputs.shape == (3, 1, SIDE, SIDE) and arguments == ()
    assert flags == {"do_seg": False, "do_cls": True, "seg_rows": None}
    assert "mask" not in targets and targets["cls"].tolist() == [1.0, 0.0, 1.0]


def test_some_images_of_a_batch_may_have_a_mask() -> None:
    """A slice of a T2 volume is an image whose mask is known."""
    batch = {**images(), "mask": torch.full((3, 1, SIDE, SIDE), torch.nan)}
    batch["mask"][2] = 1.0
    for empty, rows in ((False, [False, False, True]), (True, [False, True, True])):
        _, targets, _, flags = PrepareMultiTaskBatch(empty_masks=empty)(batch)
        assert flags["do_seg"] and flags["seg_rows"].tolist() == targets["mask_rows"].tolist() == rows
        assert targets["mask"].flatten(1).mean(dim=1).tolist() == [float(n == 2) for n in range(3) if rows[n]]


def test_volumes_are_segmented_row_by_row() -> None:
    batch = volumes()
    inputs, targets, _, flags = PrepareMultiTaskBatch()(batch)
    assert flags == {"do_seg": True, "do_cls": True, "seg_rows": None}
    assert torch.equal(inputs, batch["image"]) and torch.equal(targets["mask"], batch["mask"])


def test_mixed_batch_keeps_the_order_of_its_parts_and_marks_the_rows_with_masks() -> None:
    for parts, rows in (
        ([volumes(), images()], [True, True, False, False, False]),
        ([images(), volumes()], [False, False, False, True, True]),
    ):
        inputs, targets, _, flags = PrepareMultiTaskBatch()(parts)
        assert flags["do_seg"] and flags["seg_rows"].tolist() == rows
        assert torch.equal(inputs, torch.cat([part["image"] for part in parts]))
        assert torch.equal(targets["mask"], volumes()["mask"])
        torch.testing.assert_close(targets["cls"], torch.cat([part["cls"] for part in parts]), equal_nan=True)
        assert targets["case"] == parts[0]["case"] + parts[1]["case"]
        assert targets["source"] == parts[0]["source"] + parts[1]["source"]


def test_a_mixed_batch_of_one_kind_equals_that_kind() -> None:
    assert PrepareMultiTaskBatch()([volumes()])[3] == {"do_seg": True, "do_cls": True, "seg_rows": None}
    assert PrepareMultiTaskBatch()([images()])[3] == {"do_seg": False, "do_cls": True, "seg_rows": None}


def test_with_empty_masks_an_image_without_a_tumor_has_one(network: MultiTaskUNet) -> None:
    """One of unknown class has none, and one with a tumor neither: what it shows is not known."""
    pictures = images() | {"cls": torch.tensor([1.0, 0.0, math.nan])}
    inputs, targets, _, flags = PrepareMultiTaskBatch(empty_masks=True)([volumes(), pictures])
    assert flags["seg_rows"].tolist() == targets["mask_rows"].tolist() == [True, True, False, True, False]
    assert torch.equal(targets["mask"][:2], volumes()["mask"]) and not targets["mask"][2].any()
    assert network.eval()(inputs, **flags)["seg"].shape == targets["mask"].shape == (3, 1, SIDE, SIDE)
    alone = PrepareMultiTaskBatch(empty_masks=True)(pictures)
    assert alone[3]["do_seg"] and alone[3]["seg_rows"].tolist() == [False, True, False]
    assert alone[1]["mask"].shape == (1, 1, SIDE, SIDE)
    assert learn(network, pictures, empty_masks=True) == {"encoder": True, "decoder": True, "head": True}


@pytest.mark.parametrize("do_seg", [True, False])
@pytest.mark.parametrize("do_cls", [True, False])
def test_task_that_is_switched_off_is_not_predicted(network: MultiTaskUNet, do_seg: bool, do_cls: bool) -> None:
    inputs, _, _, flags = PrepareMultiTaskBatch(do_seg, do_cls)([volumes(), images()])
    prediction = network.eval()(inputs, **flags)
    asked = (("seg", do_seg), ("cls", do_cls), ("patches", do_cls))
    assert set(prediction) == {name for name, on in asked if on}


def test_mixed_batch_draws_the_same_masks_as_the_volumes_alone(network: MultiTaskUNet) -> None:
    network.eval()
    prepare = PrepareMultiTaskBatch()
    alone, mixed = (network(x, **flags) for x, _, _, flags in (prepare(volumes()), prepare([images(), volumes()])))
    assert mixed["cls"].shape == (5, 1)
    torch.testing.assert_close(mixed["seg"], alone["seg"])
    torch.testing.assert_close(mixed["cls"][3:], alone["cls"])


def test_images_give_the_decoder_exactly_zero_gradient(network: MultiTaskUNet) -> None:
    assert learn(network, images()) == {"encoder": True, "decoder": False, "head": True}


def test_volumes_give_gradients_to_all_parts_with_labels(network: MultiTaskUNet) -> None:
    assert learn(network, volumes()) == {"encoder": True, "decoder": True, "head": True}


def test_volumes_without_known_classes_give_the_head_exactly_zero_gradient(network: MultiTaskUNet) -> None:
    batch = volumes() | {"cls": torch.tensor([math.nan, math.nan])}
    assert learn(network, batch) == {"encoder": True, "decoder": True, "head": False}


def test_a_mixed_batch_gives_gradients_to_all_parts(network: MultiTaskUNet) -> None:
    assert learn(network, [volumes(), images()]) == {"encoder": True, "decoder": True, "head": True}
