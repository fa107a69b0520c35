"""Channels of missing sequences: which one is shown first, and those of a scan of unknown sequence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from .preprocessing import TISSUE

__all__ = ["FillChannelsd", "filled", "known_channels", "missing_channels", "shown_channel"]


class FillChannelsd(MapTransform):
    """Fill a scan of one channel up to the network's channels with NaN: its sequence is unknown, see `UNetEncoder`.

    Args:
        keys: images (C, H, W, D) as `NormalizeForegroundd` leaves them.
        channels: of the network.
    """

    def __init__(self, keys: KeysCollection, channels: int) -> None:
        super().__init__(keys)
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, object]) -> dict[Hashable, object]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            if isinstance(image, MetaTensor) and len(image) < self.channels:
                unknown = torch.full((self.channels - len(image), *image.shape[1:]), torch.nan)
                d[key] = MetaTensor(torch.cat([image.as_tensor(), unknown])).copy_meta_from(image)
        return d


def filled(item: dict[str, Any], channels: int, regions: int = 1) -> dict[str, Any]:
    """A training item with as many channels as the network's: of one of unknown sequence all but the first are NaN.

    Of the mask all regions but the first, the whole tumor, are NaN where they are not known, and where a sequence is
    missing: then the network is not asked for them.

    Args:
        item: "image" (C, H, W), "statistics" mean and standard deviation (2, C), "mask" (R, H, W), if there is one.
        channels: of the network.
        regions: number of its masks.
    """
    if regions > 1 and "mask" in item:
        mask = torch.as_tensor(item["mask"])
        known = len(mask) == regions and len(item["image"]) == channels and not missing_channels(item["image"]).any()
        item["mask"] = mask if known else torch.cat([mask[:1], torch.full((regions - 1, *mask.shape[1:]), torch.nan)])
    if (absent := channels - len(item["image"])) > 0:
        unknown = torch.full((absent, *item["image"].shape[1:]), torch.nan)
        neutral = np.repeat(np.array([[0.0], [1.0]], np.float32), absent, axis=1)
        item["image"] = torch.cat([torch.as_tensor(item["image"]), unknown])
        item["statistics"] = np.concatenate([item["statistics"], neutral], axis=1)
    return item


def missing_channels(image: torch.Tensor) -> torch.Tensor:
    """Channels of a network's input (C, H, W) without tissue: boolean (C,)."""
    return ~(image > TISSUE).flatten(1).any(dim=1)


def known_channels(image: torch.Tensor) -> torch.Tensor:
    """A network's input (C, ...) without the channels that `FillChannelsd` added."""
    return image[: sum(not bool(torch.isnan(channel).all()) for channel in image)] if len(image) > 1 else image


def shown_channel(image: torch.Tensor) -> torch.Tensor:
    """The first channel of a network's input (C, ...) that shows tissue, or else the first."""
    return image[next((n for n, channel in enumerate(image) if len(image) > 1 and bool((channel > TISSUE).any())), 0)]
