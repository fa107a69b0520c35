"""Evaluate and audit weights on any folders of labeled cases, without a training split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..loading import torch_device
from ..manifest import contents, lock_folder, read_json, removed_if_refused, require_no_other_results
from ..weights import OF_STORE, find_weights, trained_as
from . import stages

__all__ = ["on_folders"]


def on_folders(
    job: Callable[..., None],
    output: str | Path,
    volumes: str | Sequence[str] | None = None,
    images: Sequence[str] = (),
    model: str | None = None,
    network: str | None = None,
    device: str | None = None,
    skip_unreadable: bool = False,
    reading: Mapping[str, Any] | None = None,
    strip: bool = False,
    **settings: Any,
) -> None:
    """Run a job of `stages` on every case of some folders.

    Args:
        job: `stages.evaluate`, which writes report.json, or `stages.audit`, which writes audit.json.
        output: folder of the results, and of data/, the slice store.
        volumes: folders of volumes with masks, each "DIR" or "NAME=DIR".
        images: folders with yes/ and no/, each "DIR" or "NAME=DIR".
        model: weights (default: the bundle's).
        network: the network's name, if no report beside the weights names it.
        device: torch device (default: the GPU if there is one).
        skip_unreadable: leave out the cases that cannot be read; they are named.
        reading: how preprocessing reads the folders: groups_file, tumor_codes, masks, four_classes.
        strip: cut the brain out of volumes with a skull first (needs deepbet).
        settings: of the job's workflow: "allow_training_cases" also scores training cases; "predict",
            "package.module:function", audits another classifier, from preprocessed images (N, C, H, W), float32, to
            probabilities (N,).

    Raises:
        UserError: when a folder or the weights are missing, `output` holds other results, or no case has a mask or a
            class.
        ValueError: when the weights were trained on any of the cases, or a case cannot be read.
    """
    weights, output = find_weights(model).resolve(), Path(output).resolve()
    known = trained_as(weights, network)
    channels: dict[str, Any] = {name: known[name] for name in OF_STORE if name in known}
    channels |= {"four_classes": True} if "tumor_types" in known else {}  # where the folders tell them
    folders = {**stages.source_folders(volumes, images), **(reading or {}), "require_masks": not images, **channels}
    if device:
        settings["device"] = torch_device(device)
    kept = contents(output)
    with lock_folder(output), removed_if_refused(output, kept):
        if output / "data" not in kept:
            require_no_other_results(output)
        stages.preprocess(output / "data", folders, folds=1, skip_unreadable=skip_unreadable, strip=strip)
        require_references(output / "data")
        job(weights, output, dataset_dir=str(output / "data"), strip=strip, **known, **settings)


def require_references(store: Path) -> None:
    """Require at least one case with a mask or a class."""
    cases = [read_json(store / "cases" / id / "case.json") for id in read_json(store / "splits.json")["cases"]]
    if not any("label" in case or "cls" in case for case in cases):
        named = ", ".join(case["id"] for case in cases[:3])
        raise UserError(f"{named}, ...: none of {len(cases)} cases has a mask or a class to compare with")
