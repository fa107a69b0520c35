"""Which sequence a scan looks like, where no name tells: FLAIR, T1, T1 after contrast, T2, a mask, CT, or no head.

A few small networks on the features of some slices, fitted by patients (`evaluation.fit_sequences`) and independent of
the weights, whose blind spots they must not share.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.files import resolve_in_bundle
from ..transforms.preprocessing import tissue_pixels
from .look_features import FEATURES, features_of, slices_to_look_at

__all__ = ["LOOKS", "SequenceClassifier", "sequence_classifier_of"]

LOOKS = {
    "flair": "FLAIR",
    "t1": "T1",
    "t1ce": "T1 after contrast",
    "t2": "T2",
    "seg": "a mask",
    "ct": "CT",
    "none": "no head",
}
logger = logging.getLogger(__name__)

LARGEST = 5.0  # standard deviations that a feature may be away from the training slices' mean


@dataclass(frozen=True)
class SequenceClassifier:
    """Networks of one hidden layer in plain numbers, whose probabilities are averaged.

    Args:
        classes: keys of `LOOKS`, in the order of the outputs.
        mean: of the features (F,).
        scale: their standard deviations (F,).
        layers: of each network, weights and biases: (F, K), (K,), (K, N), (N,).
        least: by sequence, the probability below which a volume is not taken for it.
        doubt: by sequence, the probability below which a volume is taken for it only with doubt.
        fitted_on: on which patients, in words.
        evidence: confusion matrices by left-out patient.
    """

    classes: Sequence[str]
    mean: Sequence[float]
    scale: Sequence[float]
    layers: Sequence[Sequence[Any]]
    least: Mapping[str, float] = field(default_factory=dict)
    doubt: Mapping[str, float] = field(default_factory=dict)
    fitted_on: str = "nothing"
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of the classes (M, N) for features (M, F)."""
        scaled = np.clip((features - np.asarray(self.mean)) / np.asarray(self.scale), -LARGEST, LARGEST)
        found = []
        for hidden, hidden_bias, output, output_bias in (map(np.asarray, layer) for layer in self.layers):
            logits = np.maximum(scaled @ hidden + hidden_bias, 0) @ output + output_bias
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            found.append(odds / odds.sum(axis=1, keepdims=True))
        return np.asarray(np.mean(found, axis=0))

    def look(self, image: torch.Tensor) -> dict[str, float] | None:
        """What a scan looks like.

        Args:
            image: network input (C, H, W, D), of which the first channel is looked at.

        Returns:
            Probability of each class, the mean over some slices; None where there is too little tissue in all of them.
        """
        planes = torch.as_tensor(image)[0].movedim(-1, 0).cpu().contiguous()  # (D, H, W)
        brain = tissue_pixels(planes[:, None]).numpy()
        found = [row for z in slices_to_look_at(brain) if (row := features_of(planes[z])) is not None]
        if not found:
            return None
        means = self.probabilities(np.stack(found)).mean(axis=0)
        return {name: round(float(share), 4) for name, share in zip(self.classes, means, strict=True)}

    def is_another(self, looks: Mapping[str, float], sequences: Sequence[str]) -> bool:
        """Whether a volume that looks so is hardly one of some sequences."""
        return all(looks.get(name, 0.0) < self.least.get(name, 0.0) for name in sequences)

    def is_doubtful(self, looks: Mapping[str, float], sequences: Sequence[str]) -> bool:
        """Whether a volume that looks so may well be none of some sequences."""
        return all(looks.get(name, 0.0) < self.doubt.get(name, 0.0) for name in sequences)


def sequence_classifier_of(path: str | Path) -> SequenceClassifier | None:
    """The classifier in a JSON file, a path of the bundle; None where there is none or it is damaged."""
    file = resolve_in_bundle(path)
    if not file.is_file():
        return None
    try:
        found = SequenceClassifier(**json.loads(file.read_text()))
        _require_sound(found)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s: not used, the look of scans is not checked: %s", file, str(error).splitlines()[0])
        return None
    return found


def _require_sound(found: SequenceClassifier) -> None:
    """Refuse shapes that do not fit and numbers that are none.

    Raises:
        ValueError: with the reason.
    """
    classes = len(found.classes)
    if not set(found.classes) <= LOOKS.keys() or not found.layers:
        raise ValueError("its classes are unknown, or it has no networks")
    arrays: dict[str, Any] = {"mean": (found.mean, (FEATURES,)), "scale": (found.scale, (FEATURES,))}
    for number, layer in enumerate(found.layers):
        hidden = len(layer[1])
        shapes = ((FEATURES, hidden), (hidden,), (hidden, classes), (classes,))
        arrays |= {f"layer {number}.{i}": pair for i, pair in enumerate(zip(layer, shapes, strict=True))}
    for name, (values, shape) in arrays.items():
        array = np.asarray(values, dtype=np.float64)
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(f"{name} has the shape {array.shape} instead of {shape}, or numbers that are not finite")
    if min(found.scale) <= 0:
        raise ValueError("scale is not above 0")
    for name, limits in {"least": found.least, "doubt": found.doubt}.items():
        if not all(key in found.classes and 0 < value < 1 for key, value in limits.items()):
            raise ValueError(f"{name} has a limit outside 0 to 1")
