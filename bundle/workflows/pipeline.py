"""The whole pipeline: preprocess, train, calibrate, evaluate, release; resumes an interrupted run.

OUTPUT/data/             slice store and split
OUTPUT/stage1..3/        model.pt (best), checkpoints, TensorBoard, config.json; only the stages that the data teach
OUTPUT/calibration/      predictions on the validation fold; temperature and operating point are beside the last weights
OUTPUT/evaluation_stage1/, OUTPUT/evaluation/   predictions.json, report.json and figures
OUTPUT/models/           model.pt and its report.json, ready for `predict --model`
OUTPUT/manifest.json     steps with versions, settings, seeds, hashes and times
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..core import files
from ..loading import torch_device
from ..manifest import Manifest, contents, lock_folder, read_json, removed_if_refused
from ..weights import OF_STORE, release, trained_as
from . import stages
from .initial_weights import require_fitting, require_held_out, require_told
from .presets import PRESETS

__all__ = ["run_pipeline", "settings_of", "time_in_words"]

STEPS = {  # what each one does
    "data": "read the scans, write their slices, split them into folds",
    "stage1": "train the segmentation",
    "stage2": "train the classification",
    "stage3": "train both",
    "calibration": "predict the validation fold, fit temperature and operating point",
    "evaluation_stage1": "score the segmentation of stage 1 on the test fold",
    "evaluation": "score the weights on the test fold, draw figures",
    "models": "release the weights with their report",
}
DEFAULT = {"modalities": ["flair"], "regions": ["wt"], "tumor_types": []}  # of configs/train.yaml
SLICES_PER_SECOND = 10  # of the training of `--network cpu`, on one core


def run_pipeline(
    output: str | Path,
    volumes: str | Path | Sequence[str] | None = None,
    images: Sequence[str] = (),
    preset: str = "quick",
    network: str = "cpu",
    precision: str = "float32",
    seed: int = 0,
    fold: int = 0,
    device: str | None = None,
    tracking: str | None = None,
    skip_unreadable: bool = False,
    reading: Mapping[str, Any] | None = None,
    times: Mapping[str, str] | None = None,
    modalities: Sequence[str] | None = None,
    initial_weights: str | Path | None = None,
    regions: Sequence[str] | None = None,
    tumor_types: Sequence[str] | None = None,
) -> Path:
    """Run all steps that are not finished yet.

    Args:
        output: folder for all results.
        volumes: folders of volumes with masks, each "DIR" or "NAME=DIR"; None: images alone.
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
        times: about how long steps take, by their names, to be printed before them (default: an estimate for training).
        modalities: sequences of volumes that are read as channels; None: those of the initial weights, or FLAIR.
        initial_weights: file that the first stage starts from, or None.
        regions: of the tumor that are segmented, wt, tc, et; None: those of the initial weights, or wt.
        tumor_types: that are told apart, from images in folders of types; None: those of the initial weights, or none.

    Returns:
        The folder with the released weights and their report.

    Raises:
        UserError: when a folder is missing, `output` holds other results, a run with other settings or an active one,
            the initial weights do not fit or know cases to test on, the data teach nothing, or no training case
            tells a type.
    """
    output = Path(output).resolve()
    folders = {**stages.source_folders(volumes, images), **(reading or {}), "require_masks": bool(volumes)}
    shared: dict[str, Any] = {"network_name": network, "fold": fold, "dataset_dir": str(output / "data")}
    if device:
        shared["device"] = torch_device(device)
    settings = settings_of(preset, network, precision, seed, fold)
    start: Path | None = None
    if initial_weights:
        start, modalities = require_fitting(initial_weights, network, modalities, regions, tumor_types)
        regions, tumor_types = (trained_as(start).get(name) for name in ("regions", "tumor_types"))
        settings |= {"initial_weights": files.sha256_of(start)}
    for name, chosen in {"modalities": modalities, "regions": regions, "tumor_types": tumor_types}.items():
        if chosen and list(chosen) != DEFAULT[name]:
            settings[name] = shared[name] = list(chosen)
            folders |= {name: list(chosen)} if name in OF_STORE else {"four_classes": True}
    kept = contents(output)
    with lock_folder(output):
        with removed_if_refused(output, kept):
            run = Manifest(output, settings)

        def preprocess() -> None:
            stages.preprocess(output / "data", folders, seed=seed, skip_unreadable=skip_unreadable)

        def train(stage: str) -> None:
            own = {"seed": seed, "precision": precision, "tracking": tracking}
            first = {"initial_weights": str(start)} if start and stage == order[0] else {}
            stages.train(stages.OVERLAYS[stage], output / stage, **shared, **own, **{**chain[stage], **first})

        def evaluate(stage: str, folder: str) -> None:
            stages.evaluate(weights[stage], output / folder, explain=stage == order[-1] != "stage1", **shared)

        def step(name: str, work: Callable[[], None], **made_of: Any) -> None:
            told = (times or {}).get(name) or (network == "cpu" and not device and training_time(chain, name))
            run.step(name, work, says=f"{STEPS[name]}, about {told}" if told else STEPS[name], **made_of)

        chain: dict[str, dict[str, Any]] = {}
        weights = {stage: output / stage / "model.pt" for stage in stages.OVERLAYS}
        store = [output / "data" / "store.json", output / "data" / "splits.json"]
        with removed_if_refused(output, kept):
            step("data", preprocess, always=True)
            chain |= stages.chain_of(stages.taught_by(output / "data", fold), PRESETS[preset])
            if not start:
                require_told(output / "data", tumor_types or (), fold)
            else:
                require_held_out(output / "data", start, fold)
        order = list(chain)
        print(f"stages: {', '.join(f'{stage} ({STEPS[stage]})' for stage in order)}", flush=True)
        for before, stage in zip([None, *order], order, strict=False):
            needs = [*store, weights[before]] if before else store
            step(stage, partial(train, stage), needs=needs, makes=["model.pt"])
        last = order[-1]
        decision = output / last / "report.json"  # beside the weights, where inference reads it
        calibrate = partial(stages.calibrate, weights[last], output / "calibration", **shared)
        fitted = ["predictions.json", f"../{last}/report.json"]
        step("calibration", calibrate, needs=[*store, weights[last]], makes=fitted)
        scored = ["predictions.json", "report.json"]
        if len(order) > 1:
            first = partial(evaluate, "stage1", "evaluation_stage1")
            step("evaluation_stage1", first, needs=[*store, weights["stage1"]], makes=scored)
        needs = [*store, weights[last], decision]
        step("evaluation", partial(evaluate, last, "evaluation"), needs=needs, makes=scored)
        report = output / "evaluation" / "report.json"
        made = ["model.pt", "report.json"]

        def finish() -> None:
            release(output / last, read_json(report), output / "models")

        step("models", finish, needs=[report, weights[last]], makes=made)
        return output / "models"


def settings_of(
    preset: str, network: str = "cpu", precision: str = "float32", seed: int = 0, fold: int = 0
) -> dict[str, Any]:
    """What the results depend on beside the data, see `run_pipeline`; the manifest compares it."""
    return {"preset": preset, "network": network, "precision": precision, "seed": seed, "fold": fold}


def training_time(stages_of_preset: Mapping[str, Mapping[str, Any]], stage: str) -> str:
    """About how long a stage trains on this machine's cores; empty for other steps, and where there is a GPU."""
    import torch

    if stage not in stages_of_preset:
        return ""
    settings = stages_of_preset[stage]
    return time_in_words(settings["max_epochs"] * settings["samples_per_epoch"], torch.get_num_threads())


def time_in_words(slices: int, cores: int) -> str:
    """About how long a training on so many slices takes; empty where there is a GPU."""
    import torch

    if torch.cuda.is_available():
        return ""
    seconds = slices / SLICES_PER_SECOND / cores
    told = f"{round(seconds / 60)} min" if seconds >= 90 else f"{10 * math.ceil(seconds / 10)} s"
    return f"{told} on {cores} core{'s' if cores > 1 else ''}"
