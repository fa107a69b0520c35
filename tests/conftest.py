"""Shared by all tests: the bundle's folder on the path, synthetic data, one small run of the whole pipeline."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# logits of mask and tumor, temperature, operating point; with the defaults both states would be "uncertain"
CONSTANT_OUTPUTS = {
    "no_tumor": (9.0, -0.4, 0.1, 0.95),  # probability 0.02, and the whole head is segmented
    "tumor": (-9.0, -0.4, 1.0, 0.1),  # probability 0.40, and an empty mask
}
SHORT = {stage: {"max_epochs": 1, "samples_per_epoch": 32} for stage in ("stage1", "stage2", "stage3")}


@pytest.fixture(scope="session")
def root() -> Path:
    """The bundle's folder."""
    return ROOT


MakeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MakeOnce:
    """Fill a folder once for all processes of a test run: the first that asks fills it, the others wait and share it.

    Tests only read what is shared; one that changes it works on a copy.
    """
    own = tmp_path_factory.getbasetemp()
    common = own if worker_id == "master" else own.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = common / name, common / f"{name}.done"
        with FileLock(common / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Undo what a test configured of the log, such as the service's filter of messages."""
    root, bundle, shown = logging.getLogger(), logging.getLogger("bundle"), logging.raiseExceptions
    handlers, levels = list(root.handlers), (root.level, bundle.level)
    yield
    if logging.raiseExceptions != shown:
        logging.captureWarnings(False)
    root.handlers, logging.raiseExceptions = handlers, shown
    root.setLevel(levels[0])
    bundle.setLevel(levels[1])


@pytest.fixture(scope="session")
def synthetic(make_once: MakeOnce) -> Path:
    """Synthetic data: brats/ with six small volumes, kaggle/ with 24 images."""
    from bundle.datasets.phantoms import write_images, write_volumes

    def fill(folder: Path) -> None:
        write_volumes(folder / "brats", 6, slices=10, side=128)
        write_images(folder / "kaggle", 24)

    return make_once("synthetic", fill)


@pytest.fixture(scope="session")
def unseen(make_once: MakeOnce) -> Path:
    """More synthetic data, which no weights were trained on."""
    from bundle.datasets.phantoms import write_images, write_volumes

    def fill(folder: Path) -> None:
        write_volumes(folder / "brats", 2, slices=8, side=128, seed=77)
        for path in sorted((folder / "brats").rglob("PHANTOM*"), reverse=True):  # files before their folders
            path.rename(path.with_name(path.name.replace("PHANTOM", "UNSEEN")))
        write_images(folder / "kaggle", 8, seed=77)

    return make_once("unseen", fill)


@pytest.fixture(scope="session")
def pipeline_run(synthetic: Path, make_once: MakeOnce) -> Path:
    """Output of one short run of the whole pipeline on synthetic data."""
    from bundle.workflows.pipeline import run_pipeline
    from bundle.workflows.presets import PRESETS

    PRESETS["test"] = SHORT
    brats, kaggle = synthetic / "brats", [str(synthetic / "kaggle")]
    return make_once("run", lambda folder: run_pipeline(folder, brats, kaggle, preset="test"))


@pytest.fixture(scope="session")
def store(pipeline_run: Path) -> Path:
    """The slice store of that run."""
    return pipeline_run / "data"


@pytest.fixture(scope="session")
def constant_weights(pipeline_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights with a constant output for every slice, by the state to which the thresholds of their report lead."""
    import torch

    from scripts.core.files import sha256_of

    made = {}
    for state, (mask, tumor, temperature, point) in CONSTANT_OUTPUTS.items():
        model = tmp_path_factory.mktemp(state) / "model.pt"
        weights = torch.load(pipeline_run / "models" / "model.pt", weights_only=True)
        for layer, logit in {"decoder.final": mask, "head.mlp.4": tumor}.items():
            weights[f"{layer}.weight"].zero_()
            weights[f"{layer}.bias"].fill_(logit)
        torch.save(weights, model)
        found = {"n": 123, "sensitivity": 0.87, "specificity": 0.65}
        evidence = {**found, "at_display_threshold": {"sensitivity": 0.91, "specificity": 0.43}}
        fitted = {
            "temperature": temperature,
            "operating_point": point,
            "fitted_on": "validation: 123 scans",
            "evidence": evidence,
        }
        report = json.loads((pipeline_run / "models" / "report.json").read_text())
        report["model"]["sha256"] = sha256_of(model)
        report["decision"] = {"image": fitted, "volume": fitted, "display_threshold": 0.3}
        model.with_name("report.json").write_text(json.dumps(report))
        made[state] = model
    return made


@pytest.fixture(scope="session")
def weights_with_cam(pipeline_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without a report whose head sums all features: their CAM is positive inside and outside the brain."""
    import torch

    model = tmp_path_factory.mktemp("weights_with_cam") / "model.pt"
    weights = torch.load(pipeline_run / "models" / "model.pt", weights_only=True)
    weights["head.mlp.1.weight"].fill_(1 / 256)
    weights["head.mlp.4.weight"].fill_(1 / 8)
    torch.save(weights, model)
    return model


@pytest.fixture
def each_slice_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predict without the mirrored slices, whatever the configuration says."""
    from scripts.inference.inferers import BrainSliceInferer

    never = property(lambda inferer: False, lambda inferer, mirrored: None)
    monkeypatch.setattr(BrainSliceInferer, "mirrored", never, raising=False)


@pytest.fixture
def passes(each_slice_once: None) -> Iterator[list[int]]:
    """Number of slices in each pass through an encoder, of any network and in any thread."""
    from torch.nn.modules.module import register_module_forward_hook

    slices: list[int] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        if type(module).__name__ == "UNetEncoder":
            slices.append(len(inputs[0]))

    handle = register_module_forward_hook(note)
    yield slices
    handle.remove()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what leaves threads behind last: a process that is forked beside them, as a data loader's, may hang."""
    names = ("scripts/dataset/test_label_studies.py", "bundle/service", "bundle/ui")
    threaded = [ROOT / "tests" / name for name in names]
    items.sort(key=lambda item: any(item.path.is_relative_to(folder) for folder in threaded))
