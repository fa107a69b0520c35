"""Shared by all tests: the bundle's folder on the path, synthetic twins, and one small run of the whole pipeline."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SHORT = {stage: {"max_epochs": 1, "samples_per_epoch": 32} for stage in ("stage1", "stage2", "stage3")}


@pytest.fixture(scope="session")
def root() -> Path:
    """The bundle's folder."""
    return ROOT


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic data: brats/ with six small volumes, kaggle/ with 24 images."""
    from bundle.phantoms import write_images, write_volumes

    folder = tmp_path_factory.mktemp("twins")
    write_volumes(folder / "brats", 6, slices=10, side=128)
    write_images(folder / "kaggle", 24)
    return folder


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Further twins, that no weights have seen."""
    from bundle.phantoms import write_images, write_volumes

    folder = tmp_path_factory.mktemp("unseen")
    write_volumes(folder / "brats", 2, slices=8, side=128, seed=77)
    for path in sorted((folder / "brats").rglob("PHANTOM*"), reverse=True):  # files before their folders
        path.rename(path.with_name(path.name.replace("PHANTOM", "UNSEEN")))
    write_images(folder / "kaggle", 8, seed=77)
    return folder


@pytest.fixture(scope="session")
def pipeline_run(twins: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of one short run of the whole pipeline on the twins."""
    from bundle.pipeline import run_pipeline
    from bundle.presets import PRESETS

    PRESETS["test"] = SHORT
    output = tmp_path_factory.mktemp("run")
    run_pipeline(output, twins / "brats", [str(twins / "kaggle")], preset="test")
    return output


@pytest.fixture(scope="session")
def store(pipeline_run: Path) -> Path:
    """The slice store of that run."""
    return pipeline_run / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Service and page come last: their threads live on, and a process that is forked beside them may hang."""
    threaded = [ROOT / "tests" / "bundle" / name for name in ("service", "ui")]
    items.sort(key=lambda item: any(item.path.is_relative_to(folder) for folder in threaded))
