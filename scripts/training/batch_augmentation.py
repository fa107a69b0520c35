"""Augmentation of whole batches on the device that holds them, where a transform of each slice could not feed a GPU."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample

from ..transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST

__all__ = ["BatchAugmentation"]

KERNEL = 9  # pixels, of the smoothing


class BatchAugmentation:
    """The augmentation of `configs/train.yaml` that works on batches: geometry and style, each slice with its own draw.

    What needs the anatomy of one slice is left out: pasted lesions and their cores, brains cut out, synthetic skulls
    and the contrast of tissues. A batch depends on its seed and on nothing else.

    Args:
        size: side of the result, pixels.
        style: whether contrast, bias field, smoothing and noise are changed.
        turned: share of slices that are turned upside down.
        inverted: share of slices without a mask whose contrast is inverted.
    """

    def __init__(self, size: int = 192, style: bool = True, turned: float = 0.1, inverted: float = 0.1) -> None:
        self.size, self.style, self.turned, self.inverted = size, style, turned, inverted

    def __call__(self, batch: dict[str, Any], seed: int) -> dict[str, Any]:
        """Augment a batch.

        Args:
            batch: "image" float32 (B, C, H, W); "mask" float32 (B, R, H, W), NaN for unknown; "foreground" float32
                (B, 1, H, W) of 0 and 1; "statistics" (B, 2, C), mean and standard deviation of each slice.
            seed: of all draws.

        Returns:
            The batch with "image" and "mask" (B, _, size, size), without "foreground" and "statistics".
        """
        image, generator = batch["image"], torch.Generator().manual_seed(seed)
        own = self._chosen(image, 0.5, generator)
        mean, std = batch["statistics"][..., None, None].unbind(dim=1)  # each (B, C, 1, 1)
        image = torch.where(own, (image - mean) / std, image)
        grid = self._grid(image, generator)
        image = grid_sample(image, grid, "bilinear", padding_mode="border", align_corners=False)
        mask, foreground = (
            grid_sample(batch[name], grid, "nearest", padding_mode="border", align_corners=False)
            for name in ("mask", "foreground")
        )
        unknown = mask.isnan().all(dim=(1, 2, 3), keepdim=True)
        image = torch.where(self._chosen(image, self.inverted, generator) & unknown, -image, image)
        if self.style:
            image = self._styled(image, generator)
        image = torch.where(foreground > 0.5, image.clamp(DARKEST, BRIGHTEST), BACKGROUND)
        kept = {name: value for name, value in batch.items() if name not in ("foreground", "statistics")}
        return {**kept, "image": image, "mask": mask}

    def _grid(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Where each pixel of the result comes from (B, size, size, 2), of a cut from the middle."""
        count, _, height, width = image.shape
        angle, first, second, up, down, right, lower = self._uniform(count, 7, generator).unbind(dim=1)  # in [-1, 1]
        moved = (torch.rand(count, generator=generator) < 0.9).float()
        angle, shears = 0.35 * angle * moved, (0.1 * up * moved, 0.1 * down * moved)
        scales = (1 + 0.25 * first * moved, 1 + 0.25 * second * moved)
        rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)
        shear = torch.stack([torch.ones(count), shears[0], shears[1], torch.ones(count)], dim=1).view(-1, 2, 2)
        columns = 1 - 2 * (torch.rand(count, generator=generator) < 0.5).float()
        rows = 1 - 2 * (torch.rand(count, generator=generator) < self.turned).float()
        flips = torch.stack([columns * scales[0] * self.size / width, rows * scales[1] * self.size / height], dim=1)
        matrix = rotation @ shear @ torch.diag_embed(flips)
        shift = torch.stack([40 / width * right * moved, 40 / height * lower * moved], dim=1)  # 20 pixels
        theta = torch.cat([matrix, shift[:, :, None]], dim=2).to(image)
        return affine_grid(theta, [count, 1, self.size, self.size], align_corners=False)

    def _styled(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Gamma, scale, shift, bias field, smoothing and noise, each for its share of the slices."""
        count = len(image)
        draw = self._uniform(count, 12, generator).to(image)[:, :, None, None, None]  # (B, 12, 1, 1, 1)
        gamma = torch.where(self._chosen(image, 0.5, generator), 1.1 + 0.45 * draw[:, 0], 1.0)
        lowest = image.amin(dim=(1, 2, 3), keepdim=True)
        span = (image.amax(dim=(1, 2, 3), keepdim=True) - lowest).clamp_min(1e-6)
        image = ((image - lowest) / span) ** gamma * span + lowest
        image = image * torch.where(self._chosen(image, 0.5, generator), 1 + 0.3 * draw[:, 1], 1.0)
        image = image + torch.where(self._chosen(image, 0.5, generator), 0.3 * draw[:, 2], 0.0)
        line = torch.linspace(-1, 1, self.size, device=image.device, dtype=image.dtype)
        x, y = line[None, :], line[:, None]
        terms = (torch.ones_like(x * y), x + 0 * y, y + 0 * x, x * y, x * x + 0 * y, y * y + 0 * x)
        field = sum(0.075 * (1 + draw[:, 3 + n]) * term for n, term in enumerate(terms))
        image = image * torch.where(self._chosen(image, 0.3, generator), torch.as_tensor(field).exp(), 1.0)
        image = torch.where(
            self._chosen(image, 0.3, generator), _smoothed(image, 0.8 + 0.4 * draw[:, 9, 0, 0, 0]), image
        )
        noise = torch.randn(image.shape, generator=generator).to(image) * 0.1 * (1 + draw[:, 10])
        return image + torch.where(self._chosen(image, 0.4, generator), noise, 0.0)

    @staticmethod
    def _uniform(count: int, number: int, generator: torch.Generator) -> Tensor:
        """Draws in [-1, 1], (count, number)."""
        return 2 * torch.rand(count, number, generator=generator) - 1

    @staticmethod
    def _chosen(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """A share of the slices, boolean (B, 1, 1, 1)."""
        return (torch.rand(len(image), generator=generator) < share).to(image.device)[:, None, None, None]


def _smoothed(image: Tensor, sigma: Tensor) -> Tensor:
    """Smooth (B, C, H, W) with a Gaussian of its own for each slice, sigma (B,) pixels."""
    count, channels, height, width = image.shape
    places = torch.arange(KERNEL, device=image.device, dtype=image.dtype) - KERNEL // 2
    weights = (-0.5 * (places / sigma[:, None]) ** 2).exp() / (sigma[:, None] * math.sqrt(2 * math.pi))
    weights = (weights / weights.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None]  # (B * C, 1, K)
    flat = image.reshape(1, count * channels, height, width)
    rows = conv2d(flat, weights[..., None], padding=(KERNEL // 2, 0), groups=count * channels)
    columns = conv2d(rows, weights[:, :, None], padding=(0, KERNEL // 2), groups=count * channels)
    return columns.view(count, channels, height, width)
