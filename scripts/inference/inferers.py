"""Inferers: run the network over the slices of a scan, and in training with a chosen precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

from ..core.regions import WHOLE_TUMOR
from ..transforms.preprocessing import tissue_pixels

__all__ = ["BrainSliceInferer", "PrecisionInferer"]

PRECISIONS = ("float32", "bfloat16")
NO_TUMOR = -20.0  # mask logit of a skipped slice


class BrainSliceInferer(Inferer):
    """Pass all slices with enough brain through a packed network, in batches; each slice exactly once.

    Args:
        batch_size: slices per batch.
        min_brain_pixels: slices with less tissue are skipped: their mask is empty, their class logit NaN.
        mirrored: give the mean of each slice's logits and those of the slice with left and right exchanged.
        regions: of the network's masks, the first channels; then come the tumor and the types.
        tumor_types: that the network tells apart.
    """

    def __init__(
        self,
        batch_size: int = 8,
        min_brain_pixels: int = 0,
        mirrored: bool = False,
        regions: Sequence[str] = WHOLE_TUMOR,
        tumor_types: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.batch_size, self.min_brain_pixels, self.mirrored = batch_size, min_brain_pixels, mirrored
        self.masks, self.types = len(regions), len(tumor_types)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Infer.

        Args:
            inputs: (B, C, H, W, D), or (B, C, H, W) for single slices.
            network: (b, C, H, W) -> packed logits (b, K, H, W); masks, tumor, types and further channels.
            args: further arguments of the network.
            kwargs: further keyword arguments of the network.

        Returns:
            Packed logits (B, K, H, W, D), or (B, K, H, W).
        """
        image = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        if image.ndim == 4:
            return self(image[..., None], network, *args, **kwargs)[..., 0]
        batch, _, height, width, depth = image.shape
        slices = image.permute(0, 4, 1, 2, 3).flatten(0, 1).contiguous()  # (B * D, C, H, W)
        seen = tissue_pixels(slices) >= max(1, self.min_brain_pixels)
        packed: torch.Tensor | None = None
        for rows in torch.nonzero(seen).flatten().split(self.batch_size) if seen.any() else ():
            logits = network(slices[rows], *args, **kwargs)
            if self.mirrored:
                logits = (logits + network(slices[rows].flip(-1), *args, **kwargs).flip(-1)) / 2
            if packed is None:
                packed = logits.new_empty((len(slices), logits.shape[1], height, width))
            packed[rows] = logits
        if packed is None:  # all slices are skipped
            channels = len(getattr(network, "planes", ())) or self.masks + 1 + self.types
            packed = image.new_empty((len(slices), channels, height, width))
        packed[~seen] = float("nan")
        packed[~seen, : self.masks] = NO_TUMOR
        return packed.unflatten(0, (batch, depth)).permute(0, 2, 3, 4, 1)  # (B, K, H, W, D)


class PrecisionInferer(SimpleInferer):
    """Pass a batch through the network with convolutions in the given precision; weights and outputs stay float32.

    MONAI's engines do so on CUDA only. Bfloat16 has the range of float32, so gradients need no scaling. It halves the
    time of a training step on processors with AVX512-BF16 or AMX, and is several times slower on others.

    Args:
        precision: float32 or bfloat16.

    Raises:
        ValueError: for another precision.
    """

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision is '{precision}', choose one of {', '.join(PRECISIONS)}")
        self.precision = precision

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """Images (B, C, H, W) -> the network's outputs by name, float32."""
        if self.precision == "float32":
            predictions: dict[str, torch.Tensor] = network(inputs, *args, **kwargs)
            return predictions
        with torch.autocast(inputs.device.type, dtype=getattr(torch, self.precision)):
            predictions = network(inputs.contiguous(memory_format=torch.channels_last), *args, **kwargs)
        return {name: prediction.float() for name, prediction in predictions.items()}
