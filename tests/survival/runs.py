"""The runs that have to survive: a toy in milliseconds, a training in seconds, the whole pipeline.

Each is a function of its folder, so that it can be started again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from torch import nn

from scripts.dataset.sampling import SourceLoader
from scripts.training.handlers import BestWeights
from scripts.training.resumable_run import ResumableRun, lock_output

TINY = {"network_def#channels": [4, 4, 8, 8, 8], "train_size": 64, "batch_size": 4, "samples_per_epoch": 8}
SHORT = {"max_epochs": 2, "samples_per_epoch": 16, "num_workers": 0, "checkpoint_minutes": 0.0}
RECORD = {"kind": "volume", "has_mask": True, "source": "a", "tumor_free": False, "sha256": "", "phash": None}


class Numbers(torch.utils.data.Dataset[torch.Tensor]):
    """Records of slices; an item depends on the epoch and the sample."""

    def __init__(self) -> None:
        cases = [{"case": f"a/{i}", "group": f"a/{i}", "index": i, "cls": float(i % 2)} for i in range(8)]
        self.data = [{**RECORD, **case} for case in cases]

    def __getitem__(self, sample: Any) -> torch.Tensor:
        return torch.linspace(0, 1, 4) * (1 + sample.record) + sample.number / 7 + sample.epoch


def toy(folder: Path, seconds: float = 0.004) -> None:
    """Train a small network with dropout and Adam for three epochs; checkpoints after every step."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters())
    dataset: Any = Numbers()

    def step(engine: Engine, batch: torch.Tensor) -> None:
        optimizer.zero_grad()
        network(batch).square().mean().backward()
        optimizer.step()
        time.sleep(seconds)

    evaluator = SupervisedEvaluator(torch.device("cpu"), [], network)
    loader = SourceLoader(dataset, ["volume"], batch_size=2, samples_per_epoch=10)
    trainer = Engine(step)
    datasets: Any = {"train": dataset, "val": SimpleNamespace(data=[])}
    BestWeights(folder / "model.pt", network, evaluator, datasets).attach(trainer)
    objects = {"network": network, "optimizer": optimizer}
    ResumableRun(folder / "checkpoints", objects, loader, evaluator, 0, "toy", {}, minutes=0.0).attach(trainer)
    with lock_output(folder):
        trainer.run(loader, max_epochs=3)


def training(folder: Path, store: Path) -> None:
    """A joint training of a tiny network on phantoms, with validation; checkpoints after every step."""
    from bundle.workflows import stages

    stages.train(["stage3_joint.yaml"], folder, dataset_dir=str(store), initial_weights=None, **{**SHORT, **TINY})


def preprocessing(folder: Path, data: Path) -> None:
    """The slice store of phantoms."""
    from bundle.workflows import stages

    sources = stages.source_folders(str(data / "brats"), [str(data / "kaggle")])
    stages.preprocess(folder / "data", sources, folds=3)


def pipeline(folder: Path, data: Path) -> None:
    """All steps of the pipeline on phantoms."""
    from bundle.workflows.pipeline import run_pipeline
    from bundle.workflows.presets import PRESETS

    stage = {**SHORT, "max_epochs": 1, "samples_per_epoch": 8, "batch_size": 4, "train_size": 64}
    PRESETS["survive"] = dict.fromkeys(("stage1", "stage2", "stage3"), stage)
    run_pipeline(folder, str(data / "brats"), [str(data / "kaggle")], preset="survive")


def write_data(folder: Path) -> None:
    """Few small phantoms."""
    from bundle.datasets.phantoms import write_images, write_volumes

    write_volumes(folder / "brats", 4, slices=8, side=96)
    write_images(folder / "kaggle", 12)


def take_place(rank: int, processes: int, port: int) -> None:
    """Set what `torchrun` tells each of its processes."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}


def shared_workflow(
    run_id: str, configs: list[str], settings: dict[str, Any], rank: int, processes: int, port: int
) -> None:
    """One of the processes of a workflow that is shared by several."""
    from bundle.loading import run_workflow

    take_place(rank, processes, port)
    run_workflow(run_id, [*configs, "several_processes.yaml"], **settings)


def shared_training(folder: Path, store: Path, weights: Path, rank: int, processes: int, port: int) -> None:
    """One of the processes of a training that is shared by several, as `torchrun` starts them."""
    from bundle.workflows import stages

    take_place(rank, processes, port)
    settings = {**SHORT, "network_def#dropout": 0.0, "normalization": "frozen", "batch_size": 4, "train_size": 64}
    settings |= {"dataset_dir": str(store), "initial_weights": str(weights), "warmup_steps": 0}
    stages.train(["stage3_joint.yaml", "multi_gpu_train.yaml"], folder, **settings)
