"""The bundle alone, without application and tests, from another directory: what other tools receive."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundle import __version__

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def bare_bundle(tmp_path_factory: pytest.TempPathFactory, pipeline_run: Path) -> Path:
    folder = tmp_path_factory.mktemp("bare") / "brain_mri_tumor_segmentation_classification"
    for name in ("configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(pipeline_run / "models", folder / "models")
    return folder


def monai_bundle(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m monai.bundle ...`, as a process."""
    command = [sys.executable, "-m", "monai.bundle", *arguments]
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_inference_runs_from_another_directory(bare_bundle: Path, synthetic: Path, tmp_path: Path) -> None:
    scan = synthetic / "brats/PHANTOM_002/PHANTOM_002_flair.nii.gz"
    config = str(bare_bundle / "configs" / "inference.yaml")
    options = ["--dataset_dir", str(scan), "--output_dir", str(tmp_path / "out"), "--bundle_root", str(bare_bundle)]
    done = monai_bundle(["run", "--config_file", config, *options], tmp_path)
    assert done.returncode == 0, done.stderr
    prediction = json.loads((tmp_path / "out" / "PHANTOM_002_flair.json").read_text())
    assert prediction["model"]["report"]["code"] == "matching"


def test_a_stage_runs_in_two_processes(bare_bundle: Path, store: Path, tmp_path: Path) -> None:
    configs = [str(bare_bundle / "configs" / n) for n in ("train.yaml", "stage3_joint.yaml", "multi_gpu_train.yaml")]
    options = {"dataset_dir": store, "output_dir": tmp_path / "out", "bundle_root": bare_bundle, "max_epochs": 1}
    options |= {"samples_per_epoch": 32, "order": "alternating", "initial_weights": bare_bundle / "models" / "model.pt"}
    arguments = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*launcher, "-m", "monai.bundle", "run", "training", "--config_file", str(configs), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "model.pt").is_file()
    assert json.loads((tmp_path / "out" / "model.json").read_text())["epoch"] == 1


def test_all_stated_versions_are_the_same() -> None:
    application = yaml.safe_load((ROOT / "bundle" / "deploy" / "app.yaml").read_text())
    assert application["application"]["version"] == __version__
    page = (ROOT / "docs" / "how-to" / "other_tools.md").read_text()
    named = re.findall(r"(?:classification_v|brain-tumor:)(\d+\.\d+\.\d+)", page)
    assert len(named) == 2 and set(named) == {__version__}
