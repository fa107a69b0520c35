"""Random contrast: the same head as another sequence or scanner might show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

__all__ = ["RandTissueContrastd"]

QUANTILES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0)  # of the tissue: fluid, gray and white matter, and fat differ
STEPS = (0.25, 1.5)  # least and largest step between two of them, before the spread is made one again


class RandTissueContrastd(RandomizableTransform, MapTransform):
    """Give each tissue of a slice a random brightness: a tone curve through the quantiles of its tissue.

    The curve rises throughout, or falls throughout (T1 against T2), or turns once (fluid is dark in FLAIR and bright in
    T2), and is nowhere constant, so that lesions mostly still differ from their surroundings. The result has mean 0 and
    standard deviation 1 over the tissue, as in inference.

    Args:
        keys: slices (C, H, W) in standard deviations, background below all tissue.
        prob: probability of the transform.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.

    Reference:
        Billot et al., SynthSeg, Medical Image Analysis 86, 2023, randomizes contrast per tissue class.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.2, foreground_key: str = "foreground") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.foreground_key = foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        tissue = torch.as_tensor(d[self.foreground_key])[0] > 0.5
        if not self._do_transform or int(tissue.sum()) < len(QUANTILES):
            return d
        levels = self._levels()
        for key in self.key_iterator(d):
            d[key] = torch.stack([_recolored(plane, tissue, levels) for plane in torch.as_tensor(d[key])])
        return d

    def _levels(self) -> np.ndarray:
        """Brightness at the quantiles: rising, falling, or turning once in the darker or the brighter half."""
        steps = self.R.uniform(*STEPS, size=len(QUANTILES) - 1)
        turn = self.R.randint(1, len(steps) - 1)
        sign = 1.0 if self.R.rand() < 0.5 else -1.0
        if self.R.rand() < 0.5:
            steps[:turn] *= -1.0
        return np.concatenate([[0.0], np.cumsum(sign * steps)])


def _recolored(plane: torch.Tensor, tissue: torch.Tensor, levels: np.ndarray) -> torch.Tensor:
    """A plane (H, W) after the tone curve, its tissue of mean 0 and standard deviation 1."""
    values = plane[tissue].numpy()
    knots = np.maximum.accumulate(np.quantile(values, QUANTILES) + 1e-4 * np.arange(len(QUANTILES)))
    curved = np.interp(values, knots, levels)
    changed = plane.clone()
    changed[tissue] = torch.from_numpy((curved - curved.mean()) / max(float(curved.std()), 1e-3)).to(plane.dtype)
    return changed
