"""Random transforms that MONAI does not have; all others are MONAI's own, listed in `configs/train.yaml`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

from ..transforms.image_edits import add_fake_skull, standardize
from ..transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST, TISSUE

__all__ = ["KeepBackgroundd", "RandFakeSkulld", "RandInvertContrastd", "RandOwnStatisticsd"]

SKULL_SHARES = (0.08, 0.25)  # thickness of skull and scalp, of the brain's radius: thin child to thick adult
SCALPS = (0.0, 4.0)  # brightness of the scalp in the brain's standard deviations above its mean


class RandOwnStatisticsd(RandomizableTransform, MapTransform):
    """Normalize a slice of a volume by its own statistics, nearly as it would be, came it alone.

    Volumes are served by the volume's statistics and pictures by their own; the network has to read both. Dark places
    within the head (fluid, necrosis) count here, while the statistics that a lone picture is served by leave them out,
    see `transforms.foreground_statistics`.

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


class RandFakeSkulld(RandomizableTransform, MapTransform):
    """Put a skull around the brain of a skull-stripped slice, then normalize the head that it makes.

    BraTS volumes have no skull, most pictures have one. A network that learned to draw from the volumes alone takes a
    bright scalp for a tumor.

    Args:
        keys: slices (C, H, W) in standard deviations, background at -4.
        prob: of doing so where there is none.
        skull_key: whether there is one; where the item does not tell there is.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1; grows by the skull.
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
        brain = KeepBackgroundd(list(self.keys), self.foreground_key)(d)  # warped edges are neither tissue nor air
        inside = np.asarray(d[self.foreground_key] > 0.5)
        for key in self.key_iterator(d):
            head = add_fake_skull(np.asarray(brain[key]), inside, share, scalp)
            d[key] = torch.from_numpy(standardize(head))
            d[self.foreground_key] = torch.from_numpy(head > TISSUE).any(dim=0, keepdim=True).float()
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
