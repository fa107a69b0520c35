"""Score weights of several sequences on every combination of them, predicted as `predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..loading import parse
from ..predictor import Predictor
from ..weights import find_weights, trained_as

__all__ = ["score_subsets"]


def score_subsets(
    model: Path,
    output: Path,
    dataset_dir: str,
    network_name: str | None = None,
    on_device: str | None = None,
    strip: bool = False,
    modalities: Sequence[str] | None = None,
    others: Sequence[str | Path] = (),
    baselines: Sequence[str | Path] = (),
) -> None:
    """Write `subsets.json` to `output`; a job of `scoring.on_folders`.

    Args:
        model: the weights.
        output: folder of the results.
        dataset_dir: the slice store of the cases.
        network_name: the network's name, if no report beside the weights names it.
        on_device: torch device (default: the GPU if there is one).
        strip: cut the brain out of volumes with a skull first.
        modalities: sequences of the weights.
        others: further weights of the same sequences, such as those of other folds.
        baselines: weights that read one of these sequences, to compare with.

    Raises:
        UserError: when weights read one sequence only, others than the first, or a baseline several.
    """
    read, files = list(modalities or ["flair"]), [model, *(find_weights(other) for other in others)]
    if len(read) < 2:
        raise UserError(
            f"{model}: reads {read[0]} alone, there is nothing to leave out; name weights of several sequences"
        )
    for file in files[1:]:
        if (also := trained_as(file).get("modalities", ["flair"])) != read:
            raise UserError(f"{file}: reads {','.join(also)}, not {','.join(read)}")
    compared = [find_weights(file) for file in baselines]
    alone = [trained_as(file).get("modalities", ["flair"]) for file in compared]
    if any(len(of) > 1 or of != alone[0] or of[0] not in read for of in alone):
        raise UserError(f"{compared[0]}: as a baseline name weights that read one of {','.join(read)}")
    told: dict[str, Any] = {"dataset_dir": dataset_dir, "output_dir": str(output), "modalities": read}
    told |= {"model_paths": [str(file) for file in files], "baseline_paths": [str(file) for file in compared]}
    told |= {"baseline": alone[0][0]} if alone else {}
    scorer = parse("subsets.yaml", ["subsets"], **told)["subsets"]
    predictors = [Predictor(file, network_name, on_device, strip=strip) for file in files]
    others_of = [Predictor(file, None, on_device, strip=strip) for file in compared]
    names = {"weights": predictors, "baselines": others_of}
    cards = {name: [dict(one.parts["model_card"]) for one in found] for name, found in names.items()}
    scorer.run(predictors, cards, others_of)
