"""A training that several processes share equals that of one process with the same batches."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch

from tests.survival.faults import start
from tests.survival.runs import shared_training


def train(folder: Path, store: Path, weights: Path, processes: int, stop: bool = False) -> list[int | None]:
    """Exit codes of the processes; with `stop` one of them gets SIGTERM after the first checkpoint."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def test_two_processes_equal_one(alone: Path, store: Path, pipeline_run: Path, tmp_path: Path) -> None:
    """Weights and validation scores, although one of the two was told to stop, and both were started again."""
    weights, folder = pipeline_run / "stage2" / "model.pt", tmp_path / "run"
    assert train(folder, store, weights, 2, stop=True) == [143, 143]
    assert train(folder, store, weights, 2) == [0, 0]
    one, two = (state(run) for run in (alone, folder))
    before = torch.load(weights, weights_only=True)
    assert max(float((one[name] - before[name]).abs().max()) for name in one) > 5e-4, "it has trained"
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    scores = [json.loads((run / "model.json").read_text())["metrics"] for run in (alone, folder)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
