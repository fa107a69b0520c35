"""The type of a detected tumor: its probabilities, from the logits of the slices that show it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from scipy.special import softmax

from ..core.tumor_types import require_types
from .decision import Decision, kind_of

__all__ = ["DescribeTumorTyped", "type_probabilities"]


class DescribeTumorTyped(MapTransform):
    """Add "tumor_type" to `result`: the probability of each type, given a tumor; see `type_probabilities`.

    Only a prediction whose state is "tumor" gets it. Without types nothing is changed.

    Args:
        keys: logits of the types (T, D); absent in the items of weights without types.
        types: that the network tells apart, from `tumor_types.TUMOR_TYPES`.
        decision: temperature and operating point of the slices.

    Raises:
        ValueError: for an unknown type.
    """

    def __init__(self, keys: KeysCollection, types: Sequence[str], decision: Decision) -> None:
        super().__init__(keys, allow_missing_keys=True)
        require_types(types)
        self.types, self.decision = tuple(types), decision

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            if d["result"]["state"] == "tumor":
                probabilities = self.decision.probability(d["slice_logits"], kind_of(d["slice_logits"]))
                found = type_probabilities(d[key], probabilities, d["result"]["threshold"])
                told = {name: round(float(p), 6) for name, p in zip(self.types, found, strict=True)}
                d["result"] = {**d["result"], "tumor_type": told}
        return d


def type_probabilities(logits: np.ndarray, tumor_probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Probability of each type (T,), given a tumor: the mean over a scan's slices with a tumor.

    They are those whose tumor probability is at least the threshold, or else those with the highest.

    Args:
        logits: (T, D) of each slice.
        tumor_probabilities: (D,) of the same slices, NaN for those without a prediction; one has a prediction.
        threshold: the scan's operating point.
    """
    known = np.nan_to_num(tumor_probabilities, nan=-1.0)
    of_slices: np.ndarray = softmax(logits[:, known >= min(threshold, known.max())], axis=0)
    return np.asarray(of_slices.mean(axis=1))
