"""The multi-task loss L = L_seg + lambda * L_cls + mu * L_patch, each over slices with a known mask or class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

__all__ = ["DeepSupervision", "GlobalBatchLoss", "MultiTaskLoss"]


class MultiTaskLoss(nn.Module):
    """Sum of the losses of the predicted tasks.

    Args:
        segmentation: loss of mask logits and masks, both (B, 1, H, W); MONAI's DiceCELoss(sigmoid=True, batch=True) is
            Dice + BCE with the Dice over the whole batch, which is stable for small and empty masks. Of several regions
            the mean over those that any slice knows, each over the slices that know it.
        classification: loss of class logits and classes, both (B,).
        cls_weight: lambda, also of the types of tumors, whose loss is the cross-entropy over slices with a known type.
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
            prediction: "seg" (B', R, H, W), or of several levels (B', levels, R, H, W), "cls" (B, 1), "types" (B, T)
                and "patches" (B, 1, h, w) logits, any may be absent.
            target: "mask" (B', R, H, W) in {0, 1, NaN}, NaN for regions that are not known, but never for the first;
                "mask_rows" boolean (B,), which B' rows have one; "cls" (B,) in {0, 1, NaN}, NaN rows are not
                classified; "tumor_type" (B,) numbers from 0 to T - 1, negative for unknown; absent: all are unknown.

        Returns:
            A scalar; zero, with zero gradient, if no mask, class or type is known.
        """
        total = sum((logits.sum() * 0.0 for logits in prediction.values()), torch.zeros(()))
        if "seg" in prediction:
            total = total + self._of_regions(prediction["seg"], target["mask"])
        if "cls" in prediction:
            known = torch.isfinite(target["cls"])
            if known.any():
                logits = prediction["cls"][known].flatten()
                total = total + self.cls_weight * self.classification(logits, target["cls"][known])
        if "types" in prediction and "tumor_type" in target:
            known = target["tumor_type"] >= 0
            if known.any():
                types = nn.functional.cross_entropy(prediction["types"][known], target["tumor_type"][known])
                total = total + self.cls_weight * types
        if self.patch_weight and "patches" in prediction and "mask" in target:
            patches = prediction["patches"][target["mask_rows"]]
            tumor = nn.functional.adaptive_max_pool2d(target["mask"][:, :1], patches.shape[-2:])
            total = total + self.patch_weight * nn.functional.binary_cross_entropy_with_logits(patches, tumor)
        return total

    def _of_regions(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The segmentation loss of logits (B, [levels,] R, H, W) and masks (B, R, H, W), see the class."""
        if mask.shape[1] == 1:
            alone: Tensor = self.segmentation(logits, mask)
            return alone
        known = torch.isfinite(mask).flatten(2).all(dim=2)  # (B, R)
        losses = [
            self.segmentation(logits[rows].narrow(-3, region, 1), mask[rows, region : region + 1])
            for region, rows in enumerate(known.T)
            if rows.any()
        ]
        return torch.stack(losses).mean()


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


class GlobalBatchLoss(nn.Module):
    """The loss of a batch that several processes share, not the mean of the losses of their parts.

    Each process gathers what all predict and computes the same loss, so Dice and the means of the other terms are over
    the whole batch. Its gradient is multiplied, as DistributedDataParallel takes the mean of the processes.

    Args:
        loss: of a batch, as `MultiTaskLoss`.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, prediction: Mapping[str, Tensor], target: Mapping[str, Any]) -> Tensor:
        """See `MultiTaskLoss.forward`."""
        world, rows = idist.get_world_size(), target["mask_rows"]
        if world == 1:
            alone: Tensor = self.loss(prediction, target)
            return alone
        logits = {name: _gathered(prediction[name]) for name in ("cls", "types", "patches") if name in prediction}
        targets = {name: _gathered(target[name]) for name in ("cls", "tumor_type", "mask_rows") if name in target}
        shape = _shape_in_any_process(prediction.get("seg"), rows.device)
        if shape:  # a process without masks takes part with none of its rows
            seg = prediction.get("seg", torch.zeros((0, *shape), device=rows.device))
            mask = target.get("mask", torch.zeros((0, *shape[-3:]), device=rows.device))
            logits["seg"] = _gathered(_spread(seg.float(), rows))[targets["mask_rows"]]
            targets["mask"] = _gathered(_spread(mask, rows))[targets["mask_rows"]]
        whole: Tensor = self.loss(logits, targets)
        return whole + (world - 1) * (whole - whole.detach())


def _gathered(tensor: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks; differentiable in the own ones."""
    parts = [torch.empty_like(tensor) for _ in range(idist.get_world_size())]
    torch.distributed.all_gather(parts, tensor.detach().contiguous())
    parts[idist.get_rank()] = tensor
    return torch.cat(parts)


def _spread(tensor: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a batch (B', ...) at their places in the whole batch (B, ...), zeros elsewhere."""
    whole = tensor.new_zeros((len(rows), *tensor.shape[1:]))
    whole[rows] = tensor
    return whole


def _shape_in_any_process(logits: Tensor | None, device: torch.device) -> tuple[int, ...]:
    """Shape of the rows of mask logits, also where this process has none; empty if no process has any."""
    sides = torch.zeros(4, dtype=torch.long, device=device)
    if logits is not None:
        sides[5 - logits.ndim :] = torch.tensor(logits.shape[1:])
    torch.distributed.all_reduce(sides, torch.distributed.ReduceOp.MAX)
    return tuple(side for side in sides.tolist() if side)
