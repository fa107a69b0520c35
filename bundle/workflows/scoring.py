"""Score and audit weights on any folders of labeled cases; no training split is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..loading import torch_device
from ..manifest import read_json
from ..weights import find_weights, trained_as
from . import stages

__all__ = ["on_folders"]


def on_folders(
    job: Callable[..., None],
    output: str | Path,
    brats: str | None = None,
    kaggle: Sequence[str] = (),
    model: str | None = None,
    network: str | None = None,
    device: str | None = None,
    skip_unreadable: bool = False,
    **settings: Any,
) -> None:
    """Do a job of `stages` on every case of some folders.

    Args:
        job: `stages.evaluate`, which leaves report.json, or `stages.audit`, which leaves audit.json.
        output: gets the job's results, and data/, the slice store.
        brats: folder of volumes with masks.
        kaggle: folders with yes/ and no/, each "DIR" or "NAME=DIR".
        model: plain weights; the bundle's own by default.
        network: where no report beside the weights tells.
        device: torch device; the GPU if there is one.
        skip_unreadable: go on without the cases that cannot be read; they are named.
        settings: of the job's workflow: "allow_training_cases" scores what the weights were trained on as well;
            "predict", "package.module:function", audits another classifier, from images (N, C, H, W), float32 as the
            network is served, to probabilities (N,).

    Raises:
        UserError: when a folder or the weights are missing, or no case has a mask or a class.
        ValueError: when the weights were trained on any of the cases, or a case cannot be read.
    """
    weights, output = find_weights(model).resolve(), Path(output).resolve()
    known = trained_as(weights, network)
    modalities = {"modalities": known["modalities"]} if "modalities" in known else {}
    folders = stages.source_folders(brats, kaggle)
    stages.preprocess(output / "data", folders, folds=1, skip_unreadable=skip_unreadable, **modalities)
    require_references(output / "data")
    if device:
        settings["device"] = torch_device(device)
    job(weights, output, dataset_dir=str(output / "data"), **known, **settings)


def require_references(store: Path) -> None:
    """Refuse cases none of which can be compared with anything."""
    cases = [read_json(store / "cases" / id / "case.json") for id in read_json(store / "splits.json")["cases"]]
    if not any("label" in case or "cls" in case for case in cases):
        named = ", ".join(case["id"] for case in cases[:3])
        raise UserError(f"{named}: no mask and no class to compare with, nor in any other of {len(cases)} cases")
