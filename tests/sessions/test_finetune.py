"""A short fine-tuning of four patients: another contrast gains, the same contrast shows no gain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_volumes
from bundle.weights import release
from bundle.workflows import stages

pytestmark = [pytest.mark.session, pytest.mark.timeout(10800)]


def write_phantoms(root: Path, patients: int, seed: int) -> None:
    """Write heads of full height: the masks are smoothed along z in mm."""
    write_volumes(root, patients, seed=seed, spacing_mm=6.0)


def train_well(root: Path) -> Path:
    """Train on phantoms until more of the same phantoms do not help; return the weights."""
    write_phantoms(root / "phantoms", 16, seed=1)
    stages.preprocess(root / "data", stages.source_folders(str(root / "phantoms"), []), folds=1)
    settings: dict[str, Any] = {
        "kinds": ["volume"],
        "initial_weights": None,
        "fold": None,
        "validation": False,
        "num_workers": 0,
    }
    schedule = {"max_epochs": 10, "samples_per_epoch": 600, "encoder_lr": 2e-3, "other_lr": 2e-3}
    stages.train(
        stages.OVERLAYS["stage3"],
        root / "run",
        dataset_dir=str(root / "data"),
        network_name="cpu",
        **settings,
        **schedule,
    )
    release(root / "run", {}, root / "models")
    return root / "models" / "model.pt"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that know phantoms well."""
    return train_well(tmp_path_factory.mktemp("trained"))


def with_tumors_dark(folder: Path) -> None:
    """Turn the gray levels of every brain around: the tumor is darker than the brain."""
    for file in folder.rglob("*_flair.nii.gz"):
        image = nib.load(file)
        values = np.asarray(image.dataobj).astype(np.int32)
        brain = values > 0
        turned = np.where(brain, values[brain].max() + values[brain].min() - values, 0)
        nib.save(nib.Nifti1Image(turned.astype(np.int16), image.affine), file)


@pytest.mark.parametrize(("is_shifted", "code"), [(True, "gain"), (False, "no_gain_shown")])
def test_another_contrast_gains_and_the_same_shows_no_gain(
    trained: Path, tmp_path: Path, is_shifted: bool, code: str
) -> None:
    write_phantoms(tmp_path / "own", 4, seed=2)
    if is_shifted:
        with_tumors_dark(tmp_path / "own")
    command = ["finetune", str(tmp_path / "own"), "--model", str(trained), "--output", str(tmp_path / "run")]
    assert main([*command, "--epochs", "3"]) == 0
    found = json.loads((tmp_path / "run" / "finetuning.json").read_text())
    assert found["recommendation"]["code"] == code, found
