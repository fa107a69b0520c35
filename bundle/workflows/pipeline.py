"""The whole pipeline: preprocess, train three stages, calibrate, evaluate, release; resumes an interrupted run.

OUTPUT/data/             slice store and split
OUTPUT/stage1..3/        model.pt (best), checkpoints, TensorBoard, config.json
OUTPUT/calibration/      predictions on the validation fold; temperature and operating point are in stage3/report.json
OUTPUT/evaluation_stage1/, OUTPUT/evaluation/   predictions.json, report.json and figures
OUTPUT/models/           model.pt and its report.json, ready for `predict --model`
OUTPUT/manifest.json     steps with versions, settings, seeds, hashes and times
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..loading import torch_device
from ..manifest import Manifest, lock_folder, read_json
from ..weights import release
from . import stages
from .presets import PRESETS

__all__ = ["run_pipeline"]


def run_pipeline(
    output: str | Path,
    volumes: str | Path | Sequence[str],
    images: Sequence[str],
    preset: str = "quick",
    network: str = "cpu",
    precision: str = "float32",
    seed: int = 0,
    fold: int = 0,
    device: str | None = None,
    tracking: str | None = None,
    skip_unreadable: bool = False,
    reading: Mapping[str, Any] | None = None,
) -> Path:
    """Run all steps that are not finished yet.

    Args:
        output: folder for all results.
        volumes: folders of volumes, each "DIR" or "NAME=DIR".
        images: folders of images, each "DIR" or "NAME=DIR".
        preset: how long to train, a name in `presets.yaml`.
        network: cpu, base or large.
        precision: of the training's convolutions, float32 or bfloat16.
        seed: of the split, the order and the augmentation.
        fold: the fold that is the test set.
        device: torch device (default: the GPU if there is one).
        tracking: "mlflow", or None.
        skip_unreadable: leave out the cases that cannot be read; they are named.
        reading: how preprocessing reads the folders: groups_file, tumor_codes, masks, four_classes.

    Returns:
        The folder with the released weights and their report.

    Raises:
        UserError: when a folder is missing, or `output` holds a run with other settings or an active one.
    """
    output = Path(output).resolve()
    folders = {**stages.source_folders(volumes, images), **(reading or {}), "require_masks": True}
    shared: dict[str, Any] = {"network_name": network, "fold": fold, "dataset_dir": str(output / "data")}
    if device:
        shared["device"] = torch_device(device)
    settings = {"preset": preset, "network": network, "precision": precision, "seed": seed, "fold": fold}
    with lock_folder(output):
        run = Manifest(output, settings)

        def preprocess() -> None:
            stages.preprocess(output / "data", folders, seed=seed, skip_unreadable=skip_unreadable)

        def train(stage: str) -> None:
            own = {"seed": seed, "precision": precision, "tracking": tracking}
            stages.train(stages.OVERLAYS[stage], output / stage, **shared, **own, **PRESETS[preset][stage])

        def calibrate() -> None:
            stages.calibrate(weights["stage3"], output / "calibration", **shared)

        def evaluate(stage: str, folder: str) -> None:
            stages.evaluate(weights[stage], output / folder, explain=stage == "stage3", **shared)

        weights = {stage: output / stage / "model.pt" for stage in stages.OVERLAYS}
        store = [output / "data" / "store.json", output / "data" / "splits.json"]
        run.step("data", preprocess, always=True)
        run.step("stage1", lambda: train("stage1"), needs=store, makes=["model.pt"])
        run.step("stage2", lambda: train("stage2"), needs=[*store, weights["stage1"]], makes=["model.pt"])
        run.step("stage3", lambda: train("stage3"), needs=[*store, weights["stage2"]], makes=["model.pt"])
        decision = output / "stage3" / "report.json"  # beside the weights, where inference reads it
        fitted = ["predictions.json", "../stage3/report.json"]
        run.step("calibration", calibrate, needs=[*store, weights["stage3"]], makes=fitted)
        scored = ["predictions.json", "report.json"]
        before, after = partial(evaluate, "stage1", "evaluation_stage1"), partial(evaluate, "stage3", "evaluation")
        run.step("evaluation_stage1", before, needs=[*store, weights["stage1"]], makes=scored)
        run.step("evaluation", after, needs=[*store, weights["stage3"], decision], makes=scored)
        report = output / "evaluation" / "report.json"
        made = ["model.pt", "report.json"]

        def finish() -> None:
            release(output / "stage3", read_json(report), output / "models")

        run.step("models", finish, needs=[report, weights["stage3"]], makes=made)
        return output / "models"
