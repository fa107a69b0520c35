"""Weights to start a training from: whether they fit, and which of the data they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.regions import WHOLE_TUMOR
from ..errors import UserError, reason_of
from ..loading import parse
from ..weights import find_weights, trained_as

__all__ = ["cases_in_words", "require_fitting", "require_held_out", "require_told"]


def require_fitting(
    model: str | Path,
    network: str,
    modalities: Sequence[str] | None,
    regions: Sequence[str] | None = None,
    tumor_types: Sequence[str] | None = None,
) -> tuple[Path, list[str]]:
    """Load weights strictly into the network that is to be trained.

    Args:
        model: the weights.
        network: cpu, base or large.
        modalities: channels of the network; None: those that the weights read.
        regions: masks of the network; None: those of the weights.
        tumor_types: that the network tells apart; None: those of the weights.

    Returns:
        The absolute path of the weights, and the channels.

    Raises:
        UserError: when there is no such file, it is no state dict, or of another network, other channels, masks or
            types.
    """
    weights = find_weights(model)
    known = trained_as(weights)
    read = known.get("modalities", ["flair"])
    if modalities is not None and list(modalities) != read:
        raise UserError(f"{weights}: reads {','.join(read)}, not {','.join(modalities)}; leave --modalities out")
    segmented = known.get("regions", list(WHOLE_TUMOR))
    if regions is not None and list(regions) != segmented:
        raise UserError(f"{weights}: segments {','.join(segmented)}, not {','.join(regions)}; leave --regions out")
    told = known.get("tumor_types", [])
    if tumor_types is not None and list(tumor_types) != told:
        wanted = ",".join(tumor_types)
        raise UserError(f"{weights}: tells {','.join(told) or 'no types'} apart, not {wanted}; leave --tumor-types out")
    if (name := known.get("network_name", network)) != network:
        raise UserError(f"{weights}: of the network {name}; add --network {name}")
    settings = {"network_name": network, "modalities": read, "regions": segmented, "tumor_types": told}
    try:
        parse("inference.yaml", ["loaded"], model_path=str(weights), **settings)
    except Exception as error:
        reason = reason_of(error)
        raise (UserError(reason) if reason else error) from None
    return weights, list(read)


def require_told(store: Path, types: Sequence[str], fold: int | None, **settings: Any) -> None:
    """Refuse types of tumors that no training case of a fold tells.

    Args:
        store: the slice store.
        types: that the network is to tell apart.
        fold: the test fold.
        settings: of the split, see `configs/train.yaml`.

    Raises:
        UserError: naming the type.
    """
    asked: dict[str, Any] = {"dataset_dir": str(store), "fold": fold, "tumor_types": list(types), **settings}
    if types and (untold := parse("before_training.yaml", ["untold_types"], **asked)["untold_types"]):
        where = "name folders of images that have one for it"
        raise UserError(f"--tumor-types: no training case tells the type {untold[0]}; {where}, or leave it out")


def require_held_out(store: Path, weights: Path, fold: int) -> None:
    """Refuse weights that were trained on cases of the validation or test fold; name those that they train on again.

    Args:
        store: the slice store.
        weights: to start from.
        fold: the test fold.

    Raises:
        UserError: naming the weights and the cases.
    """
    asked: dict[str, Any] = {"dataset_dir": str(store), "model_path": str(weights), "fold": fold}
    found = parse("before_training.yaml", ["known", "known_held_out"], **asked)
    if held_out := found["known_held_out"]:
        same = "; if these are others of the same name, give NAME=DIR" if "name" in held_out.values() else ""
        raise UserError(
            f"{weights}: trained on {len(held_out)} of the cases to validate and test on, such as "
            f"{cases_in_words(held_out)}; leave them out, or choose another --fold or --seed{same}"
        )
    if again := found["known"]:
        print(f"{weights}: trained on {len(again)} of the training cases already, such as {cases_in_words(again)}")


def cases_in_words(known: Mapping[str, str]) -> str:
    """The first cases of `known_cases`, with how they were recognized.

    >>> cases_in_words({"clinic/2": "patient", "clinic/1": "name"})
    'clinic/1 (same name), clinic/2 (same patient)'
    """
    return ", ".join(f"{case} (same {how})" for case, how in sorted(known.items())[:3])
