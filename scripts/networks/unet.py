"""Encoder and decoder of the U-Net; in training the decoder predicts masks at several levels (deep supervision)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, List

import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from ..transforms.preprocessing import BACKGROUND

__all__ = ["UNetDecoder", "UNetEncoder"]

# TorchScript reads these annotations and needs typing's List
# ruff: noqa: UP006, UP035


class UNetEncoder(nn.Module):
    """Contracting path: one block of two convolutions per level, downsampling by 2 between levels.

    With several modalities, what an image whose second channel is NaN shows in its first one, a picture or a volume of
    unknown sequence, is shown in every channel: itself plus a learned multiple, at first none. Background stays so.

    Args:
        in_channels: modalities.
        channels: features of each level, finest first; their number is the depth.
        stem: downsampling before the first level (1: none, 2: space-to-depth).
        norm: MONAI's name of the normalization.
        act: MONAI's name of the activation.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], stem: int, norm: Any, act: Any) -> None:
        super().__init__()
        self.background = BACKGROUND
        self.stem = nn.PixelUnshuffle(stem)
        first = TwoConv(2, in_channels * stem**2, channels[0], act, norm, bias=True)
        rest = [Down(2, above, below, act, norm, bias=True) for above, below in pairwise(channels)]
        self.levels = nn.ModuleList([first, *rest])
        self.several = in_channels > 1
        self.projection = nn.Conv2d(1, in_channels, kernel_size=1, bias=False) if self.several else nn.Identity()
        for weight in self.projection.parameters():
            nn.init.zeros_(weight)

    def forward(self, image: Tensor) -> List[Tensor]:
        """(B, C, H, W) -> [x1, x2, x3, x4, bottleneck], level i of shape (B, channels[i], H/stem/2^i, W/stem/2^i)."""
        x = image - self.background  # so that the zero padding of convolutions is background
        if self.several:
            single = x[:, :1]
            x = torch.where(torch.isnan(x[:, 1:2]), single + self.projection(single), x)
        x = self.stem(x)
        features: List[Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class UNetDecoder(nn.Module):
    """Expanding path with skip connections; ends in mask logits at the image's resolution.

    Coarser levels can predict masks too, for deep supervision in training.

    Args:
        channels: features of each level, finest first.
        stem: downsampling before the first level.
        norm: MONAI's name of the normalization.
        act: MONAI's name of the activation.
        mask_channels: number of masks.
        coarser: number of further levels that can predict masks.

    Reference:
        Lee et al., Deeply-Supervised Nets, AISTATS 2015.
    """

    def __init__(
        self, channels: Sequence[int], stem: int, norm: Any, act: Any, mask_channels: int = 1, coarser: int = 2
    ) -> None:
        super().__init__()
        pairs = list(pairwise(channels))[::-1]
        self.levels = nn.ModuleList(
            [UpCat(2, below, above, above, act, norm, bias=True, is_pad=False) for above, below in pairs]
        )
        self.final = nn.Conv2d(channels[0], mask_channels * stem**2, kernel_size=1)
        self.to_image = nn.PixelShuffle(stem)
        self.coarser = nn.ModuleList([nn.Conv2d(n, mask_channels, kernel_size=1) for n in channels[1 : 1 + coarser]])

    def forward(self, features: List[Tensor]) -> Tensor:
        """[x1, ..., bottleneck] -> mask logits (B, mask_channels, H, W)."""
        return self.to_image(self.final(self.expand(features)[-1]))

    def at_several_levels(self, features: List[Tensor]) -> Tensor:
        """[x1, ..., bottleneck] -> mask logits (B, 1 + coarser, mask_channels, H, W), finest level first."""
        expanded = self.expand(features)
        finest = self.to_image(self.final(expanded[-1]))
        masks = [finest]
        for index, to_mask in enumerate(self.coarser):
            coarse = to_mask(expanded[len(expanded) - 2 - index])
            masks.append(nn.functional.interpolate(coarse, [finest.shape[2], finest.shape[3]], mode="bilinear"))
        return torch.stack(masks, dim=1)

    def expand(self, features: List[Tensor]) -> List[Tensor]:
        """[x1, ..., bottleneck] -> features of the decoder's levels, of the same shapes, coarsest first."""
        expanded = [features[-1]]
        for index, level in enumerate(self.levels):
            expanded.append(level(expanded[-1], features[len(features) - 2 - index]))
        return expanded
