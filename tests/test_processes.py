"""What several processes share equals the work of one: training, preprocessing, evaluation, prediction."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bundle.loading import run_workflow
from tests.survival.faults import start
from tests.survival.runs import shared_training, shared_workflow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def train(folder: Path, store: Path, weights: Path, processes: int, stop: bool = False) -> list[int | None]:
    """Exit codes of the processes; with `stop` one of them gets SIGTERM after the first checkpoint."""
    port = free_port()
    logs = [folder.with_name(f"{folder.name}_{rank}.log") for rank in range(processes)]
    started = [
        start(shared_training, folder, store, weights, rank, processes, port, log=log) for rank, log in enumerate(logs)
    ]
    while stop and not list(folder.glob("checkpoints/epoch_*.json")):
        time.sleep(0.05)
    if stop:
        os.kill(started[-1].pid, signal.SIGTERM)
    for process in started:
        process.join(240)
    codes = [process.exitcode for process in started]
    assert set(codes) <= {0, 143}, "".join(log.read_text()[-2000:] for log in logs)
    return codes


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights after the last step."""
    return dict(torch.load(folder / "checkpoints" / "epoch_0002.pt", weights_only=True)["network"])


@pytest.fixture(scope="module")
def alone(store: Path, pipeline_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert train(folder, store, pipeline_run / "stage2" / "model.pt", 1) == [0]
    return folder


@pytest.mark.parametrize("then", [2, 1])
def test_two_processes_equal_one(alone: Path, store: Path, pipeline_run: Path, tmp_path: Path, then: int) -> None:
    """Weights and validation scores, although one of the two was told to stop, and both or one were started again."""
    weights, folder = pipeline_run / "stage2" / "model.pt", tmp_path / "run"
    assert train(folder, store, weights, 2, stop=True) == [143, 143]
    assert train(folder, store, weights, then) == [0] * then
    one, two = (state(run) for run in (alone, folder))
    before = torch.load(weights, weights_only=True)
    assert max(float((one[name] - before[name]).abs().max()) for name in one) > 5e-4, "it has trained"
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    scores = [json.loads((run / "model.json").read_text())["metrics"] for run in (alone, folder)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def share(folder: Path, run_id: str, configs: list[str], processes: int = 2, **settings: Any) -> None:
    """Run a workflow in several processes."""
    port, logs = free_port(), [folder / f"{rank}.log" for rank in range(processes)]
    started = [
        start(shared_workflow, run_id, configs, settings, rank, processes, port, log=log)
        for rank, log in enumerate(logs)
    ]
    for process in started:
        process.join(240)
    if any(process.exitcode for process in started):
        raise RuntimeError("\n".join(log.read_text()[-2000:] for log in logs))


def content_of(folder: Path) -> dict[str, bytes]:
    """Arrays and pictures of a slice store by their place."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix in (".npy", ".png"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_two_processes_write_the_slice_store_of_one(store: Path, synthetic: Path, tmp_path: Path) -> None:
    asked = json.loads((store / "splits.json").read_text())["asked"]
    folders = {"volumes": str(synthetic / "brats"), "images": [str(synthetic / "kaggle")]}
    written = tmp_path / "data"
    share(tmp_path, "preprocessing", ["preprocess.yaml"], dataset_dir=str(written), **folders, **asked)
    assert content_of(written) == content_of(store)
    for name in ("store.json", "splits.json"):
        assert json.loads((written / name).read_text()) == json.loads((store / name).read_text())


def test_all_processes_name_the_unreadable_cases(synthetic: Path, tmp_path: Path) -> None:
    images = tmp_path / "kaggle"
    shutil.copytree(synthetic / "kaggle", images)
    for file in sorted((images / "yes").iterdir())[:2]:
        file.write_bytes(file.read_bytes()[:40])
    written = tmp_path / "data"
    with pytest.raises(RuntimeError, match="2 of 24 cases could not be read"):
        share(tmp_path, "preprocessing", ["preprocess.yaml"], dataset_dir=str(written), images=[str(images)])
    assert len(json.loads((written / "store.json").read_text())["cases"]) == 22


def test_two_processes_evaluate_as_one(pipeline_run: Path, store: Path, tmp_path: Path) -> None:
    model, alone, shared = pipeline_run / "models" / "model.pt", tmp_path / "alone", tmp_path / "shared"
    settings = {"dataset_dir": str(store), "model_path": str(model)}
    configs = ["train.yaml", "evaluate.yaml"]
    run_workflow("evaluating", configs, output_dir=str(alone), **settings)
    share(tmp_path, "evaluating", configs, output_dir=str(shared), **settings)
    names = sorted(path.name for path in alone.iterdir() if path.name != "config.json")
    assert {"predictions.json", "report.json", "explanation.json", "overlays_brats.png"} <= set(names)
    for name in names:
        assert (shared / name).read_bytes() == (alone / name).read_bytes(), name


def test_each_process_predicts_its_part(pipeline_run: Path, unseen: Path, tmp_path: Path) -> None:
    output, model = tmp_path / "out", pipeline_run / "models" / "model.pt"
    settings = {"dataset_dir": str(unseen / "kaggle"), "output_dir": str(output), "model_path": str(model)}
    share(tmp_path, "run", ["inference.yaml"], **settings)
    scans = [file for file in (unseen / "kaggle").rglob("*") if file.is_file()]
    assert len(list(output.rglob("*.json"))) == len(scans) > 2


def test_more_processes_than_scans_are_refused(pipeline_run: Path, unseen: Path, tmp_path: Path) -> None:
    scan, model = next((unseen / "brats").rglob("*_flair.nii.gz")), pipeline_run / "models" / "model.pt"
    settings = {"dataset_dir": str(scan), "output_dir": str(tmp_path / "out"), "model_path": str(model)}
    with pytest.raises(RuntimeError, match="1 cases cannot be shared by 2 processes, start 1 at most"):
        share(tmp_path, "run", ["inference.yaml"], **settings)
