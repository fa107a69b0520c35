"""Score weights of several sequences on every combination of them, predicted as `predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..loading import parse
from ..predictor import Predictor
from ..weights import find_weights, trained_as

__all__ = ["score_subsets", "weights_to_compare"]


def score_subsets(
    model: Path,
    output: Path,
    dataset_dir: str,
    network_name: str | None = None,
    on_device: str | None = None,
    strip: bool = False,
    modalities: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    tumor_types: Sequence[str] | None = None,
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
        modalities: sequences of the weights; they are read from beside the weights.
        regions: of the weights' masks, of which the whole tumor is scored.
        tumor_types: that the weights tell apart; they are not scored.
        others: further weights of the same sequences, such as those of other folds.
        baselines: weights that read one of these sequences, to compare with.

    Raises:
        UserError: see `weights_to_compare`.
    """
    read, files, compared, alone = weights_to_compare(model, others, baselines)
    told: dict[str, Any] = {"dataset_dir": dataset_dir, "output_dir": str(output), "modalities": read}
    told |= {"model_paths": [str(file) for file in files], "baseline_paths": [str(file) for file in compared]}
    told |= {"baseline": alone} if alone else {}
    told |= {"regions": list(regions)} if regions else {}
    scorer = parse("subsets.yaml", ["subsets"], **told)["subsets"]
    predictors = [Predictor(file, network_name, on_device, strip=strip) for file in files]
    others_of = [Predictor(file, None, on_device, strip=strip) for file in compared]
    names = {"weights": predictors, "baselines": others_of}
    cards = {name: [dict(one.parts["model_card"]) for one in found] for name, found in names.items()}
    scorer.run(predictors, cards, others_of)


def weights_to_compare(
    model: str | Path | None, others: Sequence[str | Path], baselines: Sequence[str | Path]
) -> tuple[list[str], list[Path], list[Path], str | None]:
    """Find weights of several sequences, and those of one to compare with.

    Args:
        model: weights of several sequences; None: the bundle's.
        others: further weights of the same sequences.
        baselines: weights that read one of them.

    Returns:
        The sequences; the files of both kinds of weights; and the sequence that the baselines read, None without any.

    Raises:
        UserError: when a file is missing, weights read one sequence only or others than the first, or a baseline reads
            several, or another than the first baseline.
    """
    files, compared = [find_weights(file) for file in (model, *others)], [find_weights(file) for file in baselines]
    read, *also = (trained_as(file).get("modalities", ["flair"]) for file in files)
    if len(read) < 2:
        raise UserError(
            f"{files[0]}: reads {read[0]} alone, nothing can be left out; name weights of several sequences"
        )
    for file, names in zip(files[1:], also, strict=True):
        if names != read:
            raise UserError(f"{file}: reads {','.join(names)}, not {','.join(read)}")
    alone = [trained_as(file).get("modalities", ["flair"]) for file in compared]
    if any(len(names) > 1 or names != alone[0] or names[0] not in read for names in alone):
        raise UserError(f"{compared[0]}: as a baseline name weights that read one of {','.join(read)}")
    return list(read), files, compared, alone[0][0] if alone else None
