"""The multi-task loss L = L_seg + lambda * L_cls + mu * L_patch, each over slices with a known mask or class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

__all__ = ["DeepSupervision", "MultiTaskLoss"]


class MultiTaskLoss(nn.Module):
    """Sum of the losses of the predicted tasks.

    Args:
        segmentation: loss of mask logits and masks, both (B, 1, H, W); MONAI's DiceCELoss(sigmoid=True, batch=True) is
            Dice + BCE with the Dice over the whole batch, which is stable for small and empty masks.
        classification: loss of class logits and classes, both (B,).
        cls_weight: lambda.
        patch_weight: mu, weight of the binary cross-entropy of the patches (MIL instances) of slices with a mask, which
            may be empty: a patch is tumor if the mask has a tumor pixel in it. Lambda does not scale it.
    """

    def __init__(
        self, segmentation: nn.Module, classification: nn.Module, cls_weight: float = 1.0, patch_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.segmentation, self.classification = segmentation, classification
        self.cls_weight, self.patch_weight = cls_weight, patch_weight

    def forward(self, prediction: Mapping[str, Tensor], target: Mapping[str, Any]) -> Tensor:
        """Compute the loss of one batch.

        Args:
            prediction: "seg" (B', 1, H, W), or of several levels (B', levels, 1, H, W), "cls" (B, 1) and "patches"
                (B, 1, h, w) logits, any may be absent.
            target: "mask" (B', 1, H, W) in {0, 1}; "mask_rows" boolean (B,), which B' rows have one; "cls" (B,) in
                {0, 1, NaN}; NaN rows are not classified.

        Returns:
            A scalar; zero, with zero gradient, if no mask or class is known.
        """
        total = sum((logits.sum() * 0.0 for logits in prediction.values()), torch.zeros(()))
        if "seg" in prediction:
            total = total + self.segmentation(prediction["seg"], target["mask"])
        if "cls" in prediction:
            known = torch.isfinite(target["cls"])
            if known.any():
                logits = prediction["cls"][known].flatten()
                total = total + self.cls_weight * self.classification(logits, target["cls"][known])
        if self.patch_weight and "patches" in prediction and "mask" in target:
            patches = prediction["patches"][target["mask_rows"]]
            tumor = nn.functional.adaptive_max_pool2d(target["mask"], patches.shape[-2:])
            total = total + self.patch_weight * nn.functional.binary_cross_entropy_with_logits(patches, tumor)
        return total


class DeepSupervision(nn.Module):
    """A segmentation loss over masks of several decoder levels, with a weight for each level.

    Args:
        loss: of mask logits and masks, both (B, 1, H, W).
        weights: of the levels, finest first; divided by their sum.

    Raises:
        ValueError: when the numbers of levels and weights differ.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float]) -> None:
        super().__init__()
        self.finest = loss
        self.levels = DeepSupervisionLoss(loss, weights=[weight / sum(weights) for weight in weights])

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Logits (B, levels, 1, H, W), or (B, 1, H, W) of the finest level only, and masks (B, 1, H, W) -> a scalar."""
        if logits.ndim == mask.ndim:
            finest: Tensor = self.finest(logits, mask)
            return finest
        if logits.shape[1] != len(self.levels.weights):
            raise ValueError(f"{logits.shape[1]} levels of masks, but weights for {len(self.levels.weights)}")
        loss: Tensor = self.levels(list(logits.unbind(dim=1)), mask)
        return loss
