"""From a loader's batch to the inputs of network and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor

__all__ = ["PrepareMultiTaskBatch"]

Batch = Mapping[str, Any]


class PrepareMultiTaskBatch:
    """`prepare_batch` of MONAI's engines for slices with and without masks.

    Args:
        do_seg: segment the slices of the batch that have a mask.
        do_cls: classify all slices.
        empty_masks: use an empty mask for slices of class 0 without a mask.
    """

    def __init__(self, do_seg: bool = True, do_cls: bool = True, empty_masks: bool = False) -> None:
        self.do_seg, self.do_cls, self.empty_masks = do_seg, do_cls, empty_masks

    def __call__(
        self, batch: Batch | Sequence[Batch], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, dict[str, Any], tuple[()], dict[str, Any]]:
        """Concatenate the parts of a batch.

        Args:
            batch: dict with "image" (B, C, H, W), "cls" (B,) and, if any of its slices has a mask, "mask" (B, R, H, W),
                NaN for slices without one, and for the regions of a slice that are not known, and with types of tumors
                "tumor_type" (B,), -1 for unknown; or a list of such dicts.
            device: of the returned tensors.
            non_blocking: see `torch.Tensor.to`.
            kwargs: further arguments of `torch.Tensor.to`.

        Returns:
            images (B, C, H, W); targets {"mask" (rows with one, R, H, W) or absent, "mask_rows" (B,), "cls" (B,),
            "tumor_type" (B,) or absent, "case", "source", "kind"}; no positional arguments; keyword arguments of
            `MultiTaskUNet.forward`.
        """
        parts = [batch] if isinstance(batch, Mapping) else list(batch)

        def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
            plain = [tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor for tensor in tensors]
            return torch.cat(plain).to(device=device, non_blocking=non_blocking, **kwargs)

        known = [self._masks(part) for part in parts]
        targets: dict[str, Any] = {"cls": joined([part["cls"] for part in parts])}
        if all("tumor_type" in part for part in parts):
            targets["tumor_type"] = joined([part["tumor_type"] for part in parts])
        targets |= {key: [name for part in parts for name in part[key]] for key in ("case", "source", "kind")}
        rows = torch.cat([rows for rows, _ in known]).to(device=device)
        if rows.any():
            targets["mask"] = joined([masks for _, masks in known])
        targets["mask_rows"] = rows
        flags: dict[str, Any] = {"do_seg": self.do_seg and bool(rows.any()), "do_cls": self.do_cls}
        flags["seg_rows"] = rows if rows.any() and not rows.all() else None
        return joined([part["image"] for part in parts]), targets, (), flags

    def _masks(self, part: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of a part with a mask, of the first region at least, boolean (B,), and these masks (B', R, H, W)."""
        masks = part["mask"] if "mask" in part else torch.full_like(part["image"][:, :1], torch.nan)
        known = torch.isfinite(torch.as_tensor(masks)[:, 0]).flatten(1).all(dim=1)
        empty = ~known & (torch.as_tensor(part["cls"]) == 0) & self.empty_masks
        masks = torch.where(empty.view(-1, 1, 1, 1), 0.0, torch.as_tensor(masks))
        return known | empty, masks[known | empty]
