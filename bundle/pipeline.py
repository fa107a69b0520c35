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
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .errors import UserError
from .loading import BUNDLE_ROOT, run_workflow, torch_device
from .presets import PRESETS

__all__ = ["run_pipeline"]

OVERLAYS = {"stage1": [], "stage2": ["stage2_classification.yaml"], "stage3": ["stage3_joint.yaml"]}
PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "nibabel", "scikit-learn", "pillow", "imagehash")


def run_pipeline(
    output: str | Path,
    brats: str | Path,
    kaggle: Sequence[str],
    preset: str = "quick",
    network: str = "cpu",
    seed: int = 0,
    fold: int = 0,
    device: str | None = None,
    tracking: str | None = None,
    skip_unreadable: bool = False,
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
        skip_unreadable: go on without the cases that cannot be read; they are named.

    Returns:
        The folder with the released weights and their report.

    Raises:
        UserError: when a folder is missing, or `output` holds a run with other settings.
    """
    output = Path(output).resolve()
    data: dict[str, Any] = {
        "brats_dir": str(Path(brats).resolve()),
        "kaggle_dir": [_resolved(folder) for folder in kaggle],
    }
    shared: dict[str, Any] = {"network_name": network, "seed": seed, "fold": fold, "dataset_dir": str(output / "data")}
    if device:
        shared["device"] = torch_device(device)
    for folder in (data["brats_dir"], *(folder.partition("=")[2] or folder for folder in data["kaggle_dir"])):
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder")
    run = Manifest(output, {"preset": preset, "network": network, "seed": seed, "fold": fold})

    def preprocess() -> None:
        settings = {"dataset_dir": shared["dataset_dir"], "seed": seed, "skip_unreadable": skip_unreadable, **data}
        run_workflow("preprocessing", ["preprocess.yaml"], **settings)

    def train(stage: str) -> None:
        settings = {**shared, **PRESETS[preset][stage], "output_dir": str(output / stage), "tracking": tracking}
        run_workflow("training", ["train.yaml", *OVERLAYS[stage]], **settings)

    def evaluate(stage: str, folder: str) -> None:
        settings = {**shared, "model_path": str(output / stage / "model.pt"), "output_dir": str(output / folder)}
        run_workflow("evaluating", ["train.yaml", "evaluate.yaml"], **settings)

    weights = {stage: output / stage / "model.pt" for stage in OVERLAYS}
    store = [output / "data" / "store.json", output / "data" / "splits.json"]
    run.step("data", preprocess, always=True)
    run.step("stage1", lambda: train("stage1"), needs=store, makes=["model.pt"])
    run.step("stage2", lambda: train("stage2"), needs=[*store, weights["stage1"]], makes=["model.pt"])
    run.step("stage3", lambda: train("stage3"), needs=[*store, weights["stage2"]], makes=["model.pt"])
    for stage, folder in (("stage1", "evaluation_stage1"), ("stage3", "evaluation")):
        evaluation = partial(evaluate, stage, folder)
        run.step(folder, evaluation, needs=[*store, weights[stage]], makes=["report.json"])
    report = output / "evaluation" / "report.json"
    made = ["model.pt", "report.json"]
    run.step("models", lambda: release(output, shared), needs=[report, weights["stage3"]], makes=made)
    return output / "models"


def _resolved(folder: str) -> str:
    """[NAME=]DIR with an absolute path."""
    name, separator, path = str(folder).partition("=")
    if not separator or Path(folder).is_dir():
        return str(Path(folder).resolve())
    return f"{name}={Path(path).resolve()}"


def release(output: Path, shared: Mapping[str, Any]) -> None:
    """Put the final weights and their report side by side, with what they were trained on."""
    weights, models = output / "stage3" / "model.pt", output / "models"
    models.mkdir(exist_ok=True)
    shutil.copyfile(weights, models / ".model.pt.tmp")
    (models / ".model.pt.tmp").replace(models / "model.pt")
    config = json.loads((output / "stage3" / "config.json").read_text())
    notes = json.loads((output / "stage3" / "model.json").read_text())
    report = json.loads((output / "evaluation" / "report.json").read_text())
    if report["decision"]["fitted_on"].startswith("nothing"):
        del report["decision"]  # the config's defaults stay in force
    report["model"] = {
        "version": __version__,
        "sha256": sha256(models / "model.pt"),
        "network_name": shared["network_name"],
        "modalities": config["modalities"],
        "trained_on": notes["trained_on"],
    }
    write_json(models / "report.json", report)


class Manifest:
    """What was run, kept on disk; a step is repeated only when what it needs, or what it made, has changed.

    Args:
        output: folder of the run; each step has a folder of its own in it.
        settings: what decides the results; another run's settings in the same folder are refused.

    Raises:
        UserError: when they differ.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any]) -> None:
        self.output, self.path = output, output / "manifest.json"
        self.content: dict[str, Any] = {"settings": dict(settings), "steps": {}}
        if self.path.is_file():
            self.content = read_json(self.path)
            changed = [key for key, value in settings.items() if self.content["settings"].get(key) != value]
            if changed:
                raise UserError(
                    f"{output}: holds a run with other settings ({', '.join(changed)}), choose another folder"
                )

    def step(
        self,
        name: str,
        run: Callable[[], None],
        needs: Sequence[Path] = (),
        makes: Sequence[str] = (),
        always: bool = False,
    ) -> None:
        """Run a step, unless it was finished before on the same inputs; an interrupted one continues.

        Args:
            name: of the step and of its folder.
            run: does it.
            needs: files it depends on; when one has changed, what the step left behind is removed first.
            makes: names of the files it leaves in its folder.
            always: run it in any case, it knows itself what is done.
        """
        folder, before = self.output / name, self.content["steps"].get(name, {})
        inputs = {path.relative_to(self.output).as_posix(): sha256(path) for path in needs}
        made = {file: sha256(folder / file) for file in makes if (folder / file).is_file()}
        if not always and before.get("needs") == inputs and before.get("made") == made and len(made) == len(makes):
            print(f"{name}: done before", flush=True)
            return
        if before and not always and (before["needs"] != inputs or before.get("made", made) != made):
            shutil.rmtree(folder, ignore_errors=True)
        print(f"{name} ...", flush=True)
        self._note(name, {"needs": inputs})
        start = time.monotonic()
        run()
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        made = {file: sha256(folder / file) for file in makes}
        seconds = round(time.monotonic() - start, 1)
        done = {"needs": inputs, "made": made, "finished": finished, "seconds": seconds, "versions": versions()}
        self._note(name, done)

    def _note(self, name: str, entry: Mapping[str, Any]) -> None:
        self.content["steps"][name] = dict(entry)
        write_json(self.path, self.content)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: when the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise UserError(f"{path}: damaged, remove it") from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


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
