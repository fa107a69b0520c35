"""Is a scan of the sequence that the weights read? By its name or header, or else by its look."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..core.documents import Kind, TakenFor
from ..core.messages import Message, flag
from .decision import kind_of
from .sequence_by_look import LOOKS, SequenceClassifier, sequence_classifier_of

__all__ = ["CheckSequenced", "assess_sequence"]


def assess_sequence(
    told: str, looks: Mapping[str, float] | None, kind: Kind, read: Sequence[str], classifier: SequenceClassifier | None
) -> tuple[TakenFor, list[Message], bool]:
    """What a scan is taken for, what to flag, and whether there is no prediction.

    A volume whose name or header says another sequence gets no prediction: what the network says of it is no better
    than chance. Where the look alone says so, which errs at times, the prediction is kept and flagged, and "no tumor"
    is not said (`SummarizePredictiond`). Where the look cannot be checked, that is
    flagged. A picture keeps its prediction, for pictures of unknown sequences are what the weights learned to classify.

    Args:
        told: sequence by name or header, "" where nothing tells.
        looks: probability of each look, None where it was not looked at.
        kind: of scan.
        read: sequences that the weights read.
        classifier: of looks.
    """
    like = max(looks, key=lambda name: looks[name]) if looks else None
    found = TakenFor(sequence=told or like, by="name" if told else "look" if like else None)
    if looks and like:
        found["looks_like"], found["probability"] = like, looks[like]
    if kind == "image":
        return found, [flag("other_sequence")] if told and told not in read and told not in LOOKS else [], False
    if told and told not in read:
        return found, [flag("other_sequence")], True
    if classifier is None or not set(read) <= classifier.least.keys() or (looks is None and not told):
        return found, [flag("sequence_unchecked")], False
    another = looks is not None and classifier.is_another(looks, read)
    if another:
        return found, [flag("sequence_contradicted" if told else "other_sequence_by_look")], False
    doubtful = not told and looks is not None and classifier.is_doubtful(looks, read)
    return found, [flag("sequence_doubtful")] if doubtful else [], False


class CheckSequenced(MapTransform):
    """Assess the sequence of what was predicted; take the prediction back where it is another than the weights read.

    The item gets "sequence" (what it is taken for, by what), "sequence_flags", and "withheld". Where it is withheld the
    mask is empty and `slice_logits` are NaN. Of several sequences the item gets the names of the missing ones,
    "missing_sequences", and flags of what the weights were trained for ("sequence_notes"), or were not.

    Args:
        keys: the mask on the scan's own grid, and the probability.
        read: sequences that the weights read.
        classifier_path: JSON file of the classifier of looks; without one the names alone tell.
        model: description of the weights, see `ModelCard`: whether they were trained with sequences left out.
        image_key: the network's input, whose metadata hold `sequence_told` where a name or header tells.
    """

    def __init__(
        self,
        keys: KeysCollection,
        read: Sequence[str],
        classifier_path: str | Path,
        image_key: str = "image",
        allow_missing_keys: bool = False,
        model: Any = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read, self.image_key, self.model = list(read), image_key, model
        self.classifier = sequence_classifier_of(classifier_path)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        if len(self.read) != 1:
            return self._of_several(d, getattr(image, "meta", {}))
        looks = self.classifier.look(image) if self.classifier else None
        told = str(getattr(image, "meta", {}).get("sequence_told", ""))
        kind = kind_of(d["slice_logits"])
        d["sequence"], d["sequence_flags"], d["withheld"] = assess_sequence(
            told, looks, kind, self.read, self.classifier
        )
        if not np.isfinite(d["slice_logits"]).any():  # there is no prediction that it could make doubtful
            d["sequence_flags"] = [found for found in d["sequence_flags"] if found["code"] != "sequence_unchecked"]
        return self._withheld(d) if d["withheld"] else d

    def _of_several(self, d: dict[Hashable, Any], meta: Mapping[str, Any]) -> dict[Hashable, Any]:
        """A scan with sequences that are missing or unknown, for weights of several."""
        missing, unknown = str(meta.get("missing_sequences", "")).split(), bool(meta.get("sequence_unknown", False))
        told, kind = str(meta.get("sequence_told", "")), kind_of(d["slice_logits"])
        if unknown and told and told not in self.read and (kind == "volume" or told not in LOOKS):
            d["sequence_flags"], d["withheld"] = [flag("other_sequence")], kind == "volume"
            return self._withheld(d) if d["withheld"] else d
        trained = getattr(self.model, "trained_with", {})
        for found, code, named in ((missing, "sequences_missing", "missing"), (unknown, "sequence_unknown", "unknown")):
            if found and trained.get(f"{named}_sequences"):
                d["sequence_notes"] = [flag(code)]
            elif found:
                d["sequence_flags"] = [flag(f"{code}_untrained")]
        return {**d, **({"missing_sequences": missing} if missing else {})}

    def _withheld(self, d: dict[Hashable, Any]) -> dict[Hashable, Any]:
        d["slice_logits"] = np.full_like(d["slice_logits"], np.nan)
        for key in self.key_iterator(d):
            d[key] = d[key] * 0
        return d
