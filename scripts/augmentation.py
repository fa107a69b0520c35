"""Random transforms that MONAI does not have; all others are MONAI's own, listed in `configs/train.yaml`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from .transforms import BACKGROUND, BRIGHTEST, DARKEST

__all__ = ["KeepBackgroundd", "RandInvertContrastd", "RandOwnStatisticsd"]


class RandOwnStatisticsd(RandomizableTransform, MapTransform):
    """Normalise a slice of a volume by its own statistics, as it would be, came it alone.

    Volumes are served by the volume's statistics and pictures by their own; the network has to read both.

    Args:
        keys: slices (C, H, W).
        prob: of doing so.
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


class RandInvertContrastd(RandomizableTransform, MapTransform):
    """Turn bright tissue dark and dark tissue bright: T1 and T2 show the same head with opposite contrast.

    Args:
        keys: slices (C, H, W) in standard deviations.
        prob: of doing so.
        unless_key: items with this key keep their contrast: in a volume of known modality it is known too.
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
    """Last step of augmentation: background is `BACKGROUND` again and tissue is within its range.

    Args:
        keys: slices (C, H, W).
        foreground_key: where there is tissue, (1, H, W) of 0 and 1, moved with the slice; removed from the item.
    """

    def __init__(self, keys: KeysCollection, foreground_key: str = "foreground") -> None:
        super().__init__(keys)
        self.foreground_key = foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        tissue = d.pop(self.foreground_key) > 0.5
        for key in self.key_iterator(d):
            d[key] = torch.where(tissue, d[key].clamp(DARKEST, BRIGHTEST), BACKGROUND)
        return d
