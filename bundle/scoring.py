"""Score and audit weights on any folders of labelled cases; no training split is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import stages
from .loading import torch_device
from .weights import find_weights, trained_as

__all__ = ["audit_folders", "evaluate_folders"]


def evaluate_folders(
    output: str | Path,
    brats: str | None = None,
    kaggle: Sequence[str] = (),
    model: str | None = None,
    network: str | None = None,
    device: str | None = None,
    allow_training_cases: bool = False,
    skip_unreadable: bool = False,
) -> Path:
    """Score weights on every case of some folders.

    Args:
        output: gets data/ (the slice store), answers.json, report.json, explanation.json and pictures.
        brats: folder of volumes with masks.
        kaggle: folders with yes/ and no/, each "DIR" or "NAME=DIR".
        model: plain weights; the bundle's own by default.
        network: where no report beside the weights tells.
        device: torch device; the GPU if there is one.
        allow_training_cases: score what the weights were trained on as well; the report says so.
        skip_unreadable: go on without the cases that cannot be read; they are named.

    Returns:
        The report.

    Raises:
        UserError: when a folder or the weights are missing.
        ValueError: when the weights were trained on any of the cases, or a case cannot be read.
    """
    weights, output, settings = _prepare(output, brats, kaggle, model, network, device, skip_unreadable)
    stages.evaluate(weights, output, allow_training_cases=allow_training_cases, **settings)
    return output / "report.json"


def audit_folders(
    output: str | Path,
    brats: str | None = None,
    kaggle: Sequence[str] = (),
    model: str | None = None,
    network: str | None = None,
    device: str | None = None,
    predict: str | None = None,
    skip_unreadable: bool = False,
) -> Path:
    """Look for shortcuts: does a classifier answer by the source, the frame or the style instead of the tumour?

    Args:
        output: gets data/ (the slice store) and audit.json.
        brats: see `evaluate_folders`.
        kaggle: see `evaluate_folders`.
        model: see `evaluate_folders`.
        network: see `evaluate_folders`.
        device: see `evaluate_folders`.
        predict: another classifier to audit, "package.module:function": from images (N, C, H, W), float32 as the
            network is served, to probabilities (N,).
        skip_unreadable: see `evaluate_folders`.

    Returns:
        The audit's findings.
    """
    weights, output, settings = _prepare(output, brats, kaggle, model, network, device, skip_unreadable)
    stages.audit(weights, output, predict=predict, **settings)
    return output / "audit.json"


def _prepare(
    output: str | Path,
    brats: str | None,
    kaggle: Sequence[str],
    model: str | None,
    network: str | None,
    device: str | None,
    skip_unreadable: bool,
) -> tuple[Path, Path, dict[str, Any]]:
    """Make the slice store of the folders; return weights, output and settings of the workflows."""
    weights, output = find_weights(model).resolve(), Path(output).resolve()
    settings = {"dataset_dir": str(output / "data"), **trained_as(weights, network)}
    folders = stages.source_folders(brats, kaggle)
    modalities = {"modalities": settings["modalities"]} if "modalities" in settings else {}
    stages.preprocess(output / "data", folders, folds=1, skip_unreadable=skip_unreadable, **modalities)
    if device:
        settings["device"] = torch_device(device)
    return weights, output, settings
