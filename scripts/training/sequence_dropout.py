"""Leave sequences out in training, so that the weights read whichever of them a case has."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform

__all__ = ["RandDropSequencesd"]


class RandDropSequencesd(RandomizableTransform, MapTransform):
    """Mark some channels of a slice as missing, never all of those that it has.

    How many stay is drawn first, each number being as likely, then which ones. `KeepBackgroundd` makes the marked
    channels background, as the reader leaves those of missing sequences. A slice of one sequence is not changed.

    Args:
        keys: slices (C, H, W).
        prob: probability of the transform, in [0, 1].
        missing_key: channels without a sequence, boolean (C,).

    Reference:
        Havaei et al., HeMIS: Hetero-Modal Image Segmentation, MICCAI 2016, train on random subsets of sequences too.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, missing_key: str = "missing") -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.missing_key = missing_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        there = [] if d.get(self.missing_key) is None else torch.nonzero(~d[self.missing_key]).flatten().tolist()
        if len(there) < 2:
            return d
        self.randomize(None)
        if self._do_transform:
            dropped = self.R.permutation(there)[int(self.R.randint(1, len(there))) :]
            d[self.missing_key] = d[self.missing_key].clone()
            d[self.missing_key][torch.as_tensor(dropped, dtype=torch.long)] = True
        return d

    def noted(self, modalities: Sequence[str], kinds: Sequence[str]) -> dict[str, bool]:
        """What is noted beside the weights, see `ModelCard`; nothing of a network of one sequence."""
        if len(modalities) == 1:
            return {}
        return {"missing_sequences": self.prob > 0, "unknown_sequences": "image" in kinds}
