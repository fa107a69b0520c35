"""The bundle's MONAI workflows as functions: preprocess, train a stage, calibrate, evaluate, audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import filenames
from ..errors import UserError
from ..loading import parse, run_workflow

__all__ = [
    "OVERLAYS",
    "audit",
    "calibrate",
    "chain_of",
    "evaluate",
    "fit_ood_detector",
    "named",
    "preprocess",
    "source_folders",
    "taught_by",
    "train",
]

OVERLAYS = {"stage1": [], "stage2": ["stage2_classification.yaml"], "stage3": ["stage3_joint.yaml"]}
SCORING = ["train.yaml", "evaluate.yaml"]


def source_folders(volumes: str | Path | Sequence[str] | None, images: Sequence[str]) -> dict[str, Any]:
    """Absolute folders of the data, as settings of the preprocessing.

    Args:
        volumes: folder of volumes, several, each "DIR" or "NAME=DIR", or None.
        images: folders of images, each "DIR" or "NAME=DIR".

    Raises:
        UserError: when a folder does not exist, or none is named.
    """
    given = [volumes] if isinstance(volumes, (str, Path)) else volumes or []
    of_volumes, of_images = [named(str(folder)) for folder in given], [named(folder) for folder in images]
    for folders, kind in ((of_volumes, filenames.VOLUME_FOLDER), (of_images, filenames.IMAGE_FOLDER)):
        for folder in (folder for _, folder in folders if not folder.is_dir()):
            raise UserError(f"{folder}: no such folder; name one of {kind}")
    if not of_volumes and not of_images:
        raise UserError("no data: name a folder of volumes (--volumes), of images (--images), or both")
    return {"volumes": _as_config(of_volumes), "images": _as_config(of_images)}


def _as_config(folders: Sequence[tuple[str, Path]]) -> list[str] | None:
    return [f"{name}={folder}" if name else str(folder) for name, folder in folders] or None


def named(folder: str) -> tuple[str, Path]:
    """Name and absolute path of [NAME=]DIR; a link is not followed, since its name names the source."""
    name, separator, path = str(folder).partition("=")
    if not separator or Path(folder).is_dir():  # a path may contain `=` too
        return "", Path(folder).absolute()
    return name, Path(path).absolute()


def preprocess(store: Path, folders: Mapping[str, Any], **settings: Any) -> None:
    """Write the slice store and its split from folders of scans."""
    run_workflow("preprocessing", ["preprocess.yaml"], dataset_dir=str(store), **folders, **settings)


def taught_by(store: Path, fold: int | None, **settings: Any) -> dict[str, list[str]]:
    """What the training cases of a fold teach: labeled "kinds" of scans, and "tasks"; see `case_counts.taught_by`."""
    asked = {"dataset_dir": str(store), "fold": fold, **settings}
    return dict(parse("before_training.yaml", ["taught"], **asked)["taught"])


def chain_of(
    taught: Mapping[str, Sequence[str]], lengths: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The stages that make sense for what the data teach, by name with their settings.

    Both tasks take all three stages. Masks without slice classes take the first alone. Classes without masks take the
    second alone, which then trains the encoder too, for as long as the first.

    Args:
        taught: see `taught_by`.
        lengths: settings of each stage, of a preset.

    Raises:
        UserError: when the data teach nothing.
    """
    kinds, tasks = list(taught["kinds"]), taught["tasks"]
    if not tasks:
        raise UserError("nothing to train on: name masks with a tumor, or images both with a tumor and without")
    if "classification" not in tasks:
        return {"stage1": dict(lengths["stage1"])}
    if "segmentation" not in tasks:
        whole = {"frozen": ["decoder"], "empty_masks": True, "initial_weights": None}
        return {"stage2": {**lengths["stage1"], **whole, "kinds": kinds}}
    joint = {"kinds": kinds} if kinds != ["volume", "image"] else {}
    own = {"stage1": {}, "stage2": joint, "stage3": joint}
    return {stage: {**lengths[stage], **own[stage]} for stage in OVERLAYS}


def train(overlays: Sequence[str], output: Path, **settings: Any) -> None:
    """Train one stage; write its weights to `output`/model.pt."""
    run_workflow("training", ["train.yaml", *overlays], output_dir=str(output), **settings)


def calibrate(model: Path, output: Path, **settings: Any) -> None:
    """Fit temperature and operating point on the validation fold; write them to `report.json` beside the weights."""
    run_workflow("calibrating", SCORING, model_path=str(model), output_dir=str(output), subset="val", **settings)


def evaluate(model: Path, output: Path, explain: bool = True, **settings: Any) -> None:
    """Evaluate weights on the test fold; write `predictions.json`, `report.json` and figures to `output`."""
    run_id = "evaluating" if explain else "scoring"
    run_workflow(run_id, SCORING, model_path=str(model), output_dir=str(output), **settings)


def fit_ood_detector(model: Path, output: Path, **settings: Any) -> None:
    """Fit the OOD detector on training slices, score the test slices; write `distances.json` to `output`."""
    run_workflow("fitting_ood_detector", SCORING, model_path=str(model), output_dir=str(output), **settings)


def audit(model: Path, output: Path, **settings: Any) -> None:
    """Audit weights for shortcuts on the test fold; write `audit.json` to `output`."""
    configs = [*SCORING, "audit.yaml"]
    run_workflow("auditing", configs, model_path=str(model), output_dir=str(output), **settings)
