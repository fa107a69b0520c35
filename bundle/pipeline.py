"""The whole main job: preprocess, three stages, evaluation, release; continues where it stopped.

OUTPUT/data/             slice store and split
OUTPUT/stage1..3/        model.pt (best), checkpoints, TensorBoard, config.json
OUTPUT/evaluation_stage1/, OUTPUT/evaluation/   report.json and pictures
OUTPUT/models/           model.pt and its report.json, ready for `predict --model`
OUTPUT/manifest.json     what was run with which versions, settings, seeds, hashes, and how long it took
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .errors import UserError
from .loading import BUNDLE_ROOT, parse, run_workflow
from .presets import PRESETS

__all__ = ["run_pipeline"]

OVERLAYS = {"stage1": [], "stage2": ["stage2_classification.yaml"], "stage3": ["stage3_joint.yaml"]}
PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "nibabel", "scikit-learn", "pillow", "imagehash")


def run_pipeline(
    output: str | Path,
    brats: str | Path | None,
    kaggle: Sequence[str],
    preset: str = "quick",
    network: str = "cpu",
    seed: int = 0,
    fold: int = 0,
    device: str | None = None,
    tracking: str | None = None,
) -> Path:
    """Run everything that is not done yet.

    Args:
        output: folder for all results.
        brats: folder of BraTS volumes.
        kaggle: folders of images, each "DIR" or "NAME=DIR".
        preset: how long to train, a name in `presets.yaml`.
        network: cpu, base or large.
        seed: of the split, the order and the augmentation.
        fold: which fold is the test set.
        device: torch device; the GPU if there is one.
        tracking: "mlflow", or None.

    Returns:
        The folder with the released weights and their report.

    Raises:
        UserError: when `output` holds a run with other settings.
    """
    output = Path(output).resolve()
    shared: dict[str, Any] = {"network_name": network, "seed": seed, "fold": fold, "dataset_dir": str(output / "data")}
    if device:
        shared["device"] = f"$torch.device('{device}')"
    folders = {"brats_dir": str(brats) if brats else None, "kaggle_dir": [str(k) for k in kaggle]}
    run = Manifest(output, {"preset": preset, "network": network, "seed": seed, "fold": fold, **folders})

    def preprocess() -> None:
        settings = {"dataset_dir": str(output / "data"), "seed": seed, **folders}
        run_workflow("preprocessing", ["preprocess.yaml"], **settings)

    def train(stage: str) -> None:
        settings = {**shared, **PRESETS[preset][stage], "output_dir": str(output / stage), "tracking": tracking}
        run_workflow("training", ["train.yaml", *OVERLAYS[stage]], **settings)

    def evaluate(stage: str, folder: str) -> None:
        weights = str(output / stage / "model.pt")
        settings = {**shared, "model_path": weights, "output_dir": str(output / folder)}
        run_workflow("evaluating", ["train.yaml", "evaluate.yaml"], **settings)

    run.step("preprocessing", preprocess, always=True)
    for stage in OVERLAYS:
        run.step(stage, lambda stage=stage: train(stage), [output / stage / "model.pt"])
    run.step(
        "evaluation of stage 1",
        lambda: evaluate("stage1", "evaluation_stage1"),
        [output / "evaluation_stage1/report.json"],
    )
    run.step("evaluation", lambda: evaluate("stage3", "evaluation"), [output / "evaluation/report.json"])
    run.step("release", lambda: release(output, shared), [output / "models/model.pt", output / "models/report.json"])
    return output / "models"


def release(output: Path, shared: Mapping[str, Any]) -> None:
    """Put the final weights and their report side by side, with what they were trained on."""
    weights, models = output / "stage3" / "model.pt", output / "models"
    models.mkdir(exist_ok=True)
    shutil.copyfile(weights, models / "model.pt")
    config = json.loads((output / "stage3" / "config.json").read_text())
    split = parse("train.yaml", ["split"], dataset_dir=shared["dataset_dir"], fold=shared["fold"])["split"]
    seen = [case for subset in ("train", "val") for case in split[subset]]
    report = json.loads((output / "evaluation" / "report.json").read_text())
    report["model"] = {
        "version": __version__,
        "sha256": sha256(models / "model.pt"),
        "network_name": shared["network_name"],
        "modalities": config["modalities"],
        "trained_on": {case["id"]: case["sha256"]["image"] for case in seen},
    }
    (models / "report.json").write_text(json.dumps(report, indent=1) + "\n")


class Manifest:
    """What was run, kept on disk after every step; a finished step is not repeated.

    Args:
        output: folder of the run.
        settings: what decides the results; another run's settings in the same folder are refused.

    Raises:
        UserError: when they differ.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.path = output / "manifest.json"
        self.content: dict[str, Any] = {"settings": dict(settings), "steps": {}}
        if self.path.is_file():
            self.content = json.loads(self.path.read_text())
            changed = [key for key, value in settings.items() if self.content["settings"].get(key) != value]
            if changed:
                raise UserError(
                    f"{output}: holds a run with other settings ({', '.join(changed)}); choose another folder"
                )
        self.content["versions"] = versions()

    def step(self, name: str, run: Callable[[], None], products: Sequence[Path] = (), always: bool = False) -> None:
        """Run a step unless its products are there as it left them."""
        done = self.content["steps"].get(name)
        if done and not always and all(p.is_file() and sha256(p) == done["sha256"].get(p.name) for p in products):
            print(f"{name}: done before", flush=True)
            return
        print(f"{name} ...", flush=True)
        start = time.monotonic()
        run()
        self.content["steps"][name] = {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - start, 1),
            "sha256": {p.name: sha256(p) for p in products},
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(self.path)


def versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    found = {"bundle": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    configs = sorted((BUNDLE_ROOT / "configs").glob("*.yaml")) + sorted((BUNDLE_ROOT / "scripts").glob("*.py"))
    found["code"] = hashlib.sha256("".join(sha256(path) for path in configs).encode()).hexdigest()
    return found


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
