"""Random transforms that MONAI does not have; all others are MONAI's, see `configs/train.yaml`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from ..transforms.image_edits import add_fake_skull, standardize
from ..transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST, TISSUE

__all__ = ["KeepBackgroundd", "RandExtractBraind", "RandFakeSkulld", "RandInvertContrastd", "RandOwnStatisticsd"]

SKULL_SHARES = (0.08, 0.25)  # thickness of skull and scalp, as a share of the brain's radius
SCALPS = (0.0, 4.0)  # brightness of the scalp in the brain's standard deviations above its mean


class RandOwnStatisticsd(RandomizableTransform, MapTransform):
    """Normalize a slice of a volume by its own statistics, nearly as a single image.

    In inference volumes are normalized by the volume's statistics and images by their own, so that training needs both.
    Dark tissue (fluid, necrosis) is included here, but not in the statistics of a single image, see
    `preprocessing.foreground_statistics`.

    Args:
        keys: slices (C, H, W).
        prob: probability of the transform.
        statistics_key: mean and standard deviation (2, C) of each slice.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, statistics_key: str = "statistics") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.statistics_key = statistics_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            mean, std = torch.as_tensor(d[self.statistics_key]).unsqueeze(-1).unsqueeze(-1)  # each (C, 1, 1)
            for key in self.key_iterator(d):
                d[key] = (d[key] - mean) / std
        return d


class RandExtractBraind(RandomizableTransform, MapTransform):
    """Cut the brain out of a slice of a volume with a skull, as `ExtractBraind` does before a prediction.

    Comes before all transforms that move or resize the slice. What it needs is removed from the item.

    Args:
        keys: slices (C, H, W) in standard deviations, background at -4.
        prob: probability for slices whose brain is known.
        brain_key: the brain, (1, H, W) of 0 and 1, with `brain_key`_statistics: mean and standard deviation (2, C) of
            the volume's brain.
        foreground_key: foreground (1, H, W) of 0 and 1; becomes the brain's.
        statistics_key: mean and standard deviation (2, C) of the slice; become those of its brain.
        skull_key: whether the slice has a skull; becomes False.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.25,
        brain_key: str = "brain",
        foreground_key: str = "foreground",
        statistics_key: str = "statistics",
        skull_key: str = "skull",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.brain_key, self.foreground_key = brain_key, foreground_key
        self.statistics_key, self.skull_key = statistics_key, skull_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        brain, statistics = d.pop(self.brain_key, None), d.pop(f"{self.brain_key}_statistics", None)
        if not self._do_transform or brain is None:
            return d
        inside = (brain > 0.5) & (d[self.foreground_key] > 0.5)
        if not inside.any():
            return d  # a slice of skull and neck alone
        mean, std = torch.as_tensor(statistics).unsqueeze(-1).unsqueeze(-1)  # each (C, 1, 1)
        for key in self.key_iterator(d):
            d[key] = torch.where(inside, ((d[key] - mean) / std).clamp(DARKEST, BRIGHTEST), BACKGROUND)
            values = d[key][:, inside[0]]
            of_brain = torch.stack([values.mean(dim=1), values.std(dim=1).nan_to_num(1.0).clamp_min(1e-3)])
            d[self.statistics_key] = of_brain.numpy()  # as in other items of a batch
        return d | {self.foreground_key: inside.float(), self.skull_key: False}


class RandFakeSkulld(RandomizableTransform, MapTransform):
    """Add a synthetic skull to a skull-stripped slice, then normalize the head.

    BraTS volumes have no skull, most images have one. Without this transform the network segments bright scalp.

    Args:
        keys: slices (C, H, W) in standard deviations, background at -4.
        prob: probability for skull-stripped slices.
        skull_key: whether the slice has a skull (default: True).
        foreground_key: foreground (1, H, W) of 0 and 1; the skull is added to it.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.25, skull_key: str = "skull", foreground_key: str = "foreground"
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.skull_key, self.foreground_key = skull_key, foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if not self._do_transform or d.get(self.skull_key, True):
            return d
        share, scalp = self.R.uniform(*SKULL_SHARES), self.R.uniform(*SCALPS)
        brain = KeepBackgroundd(list(self.keys), self.foreground_key)(d)  # sets interpolated edge pixels to background
        inside = np.asarray(d[self.foreground_key] > 0.5)
        for key in self.key_iterator(d):
            head = add_fake_skull(np.asarray(brain[key]), inside, share, scalp)
            d[key] = torch.from_numpy(standardize(head))
            d[self.foreground_key] = torch.from_numpy(head > TISSUE).any(dim=0, keepdim=True).float()
        return d


class RandInvertContrastd(RandomizableTransform, MapTransform):
    """Invert the contrast of tissue: T1 and T2 show the same head with opposite contrast.

    Args:
        keys: slices (C, H, W) in standard deviations.
        prob: probability of the transform.
        unless_key: items with this key are not changed: the contrast of a volume's modality is known.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.25, unless_key: str = "mask") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.unless_key = unless_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if self._do_transform and self.unless_key not in d:
            for key in self.key_iterator(d):
                d[key] = -d[key]
        return d


class KeepBackgroundd(MapTransform):
    """Last step of the augmentation: set the background to `BACKGROUND` and clamp tissue to its range.

    Args:
        keys: slices (C, H, W).
        foreground_key: foreground (1, H, W) of 0 and 1, transformed with the slice; removed from the item.
        missing_key: channels without a sequence, boolean (C,), which become background; removed from the item.
    """

    def __init__(self, keys: KeysCollection, foreground_key: str = "foreground", missing_key: str = "missing") -> None:
        super().__init__(keys)
        self.foreground_key, self.missing_key = foreground_key, missing_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        tissue = d.pop(self.foreground_key) > 0.5
        if (missing := d.pop(self.missing_key, None)) is not None:
            tissue = tissue & ~missing[:, None, None]
        for key in self.key_iterator(d):
            d[key] = torch.where(tissue, d[key].clamp(DARKEST, BRIGHTEST), BACKGROUND)
        return d
