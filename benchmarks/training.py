"""How much of a training's time is for reading and augmentation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .clock import Measured
from .comparison import Benchmark, MissingError, Number, Prepare, Ratio
from .material import ROOT, Material

__all__ = ["BENCHMARKS"]

VOLUMES = 5
SAMPLES, SAMPLES_WITH_WORKER = 48, 240  # of an epoch; a worker takes a moment to start


def loops(material: Material) -> Mapping[str, Prepare]:
    """An epoch of stage 1 from its loader, and of as many steps on one batch that is in memory."""
    return {
        "training loop": lambda: epoch(material, fixed=False),
        "one fixed batch": lambda: epoch(material, fixed=True),
    }


def loops_with_worker(material: Material) -> Mapping[str, Prepare]:
    """The same with one process that reads and augments on another core, as `num_workers` of the config says."""
    return {
        "training loop, one worker": lambda: epoch(material, False, SAMPLES_WITH_WORKER, workers=1),
        "one fixed batch": lambda: epoch(material, True, SAMPLES_WITH_WORKER),
    }


def epoch(material: Material, fixed: bool, samples: int = SAMPLES, workers: int = 0) -> Callable[[], Any]:
    """Train for an epoch with the network, loss, loader and augmentation of `configs/train.yaml`.

    Raises:
        MissingError: with workers, on a machine of one core.
    """
    from monai.engines import SupervisedTrainer

    from bundle.loading import load_workflow, suppress_monai_warnings

    cores = set(range(1 + workers)) if workers else set[int]()  # besides those of this process
    if (os.cpu_count() or 1) < len(cores):
        raise MissingError("one core: a worker needs another one")
    store = store_of(material)
    workflow = load_workflow(
        ["train.yaml"],
        ROOT,
        dataset_dir=str(store),
        output_dir=str(material.folder / "training"),
        samples_per_epoch=samples,
        num_workers=workers,
        device="$torch.device('cpu')",
    )
    with suppress_monai_warnings(ROOT):
        workflow.initialize()
        names = ("train#dataloader", "network", "optimizer", "loss", "train#inferer", "train#prepare_batch")
        loader, network, optimizer, loss, inferer, prepare = map(workflow.parser.get_parsed_content, names)
    batches: Sequence[Any] = [next(iter(loader))] * len(loader) if fixed else loader

    def run() -> None:
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=batches,
            network=network,
            optimizer=optimizer,
            loss_function=loss,
            inferer=inferer,
            prepare_batch=prepare,
        )
        with on_cores(cores):
            trainer.run()

    return run


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Compute on these cores too, also in processes that are started in the block."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before | cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def store_of(material: Material) -> Any:
    """The slice store of some volumes."""
    from bundle.workflows.stages import preprocess, source_folders

    store = material.folder / "store"
    if not store.is_dir():
        preprocess(store, source_folders(str(material.volumes(VOLUMES)), []))
    return store


def wall_ratios(fixed: Measured, loop: Measured) -> list[float]:
    """Wall time on the fixed batch by that of the loop, in each round; CPU time would count the worker's too."""
    return [above / below for above, below in zip(fixed.wall, loop.wall, strict=True)]


BENCHMARKS = [
    Benchmark(
        "training",
        loops,
        [Ratio("steps on one fixed batch / training loop", "one fixed batch", "training loop", 0.97, "at least")],
        rounds=3,
    ),
    Benchmark(
        "training-with-worker",
        loops_with_worker,
        [
            Number(
                "steps on one fixed batch / training loop with one worker",
                ["one fixed batch", "training loop, one worker"],
                lambda found: wall_ratios(found["one fixed batch"], found["training loop, one worker"]),
                0.97,
                "ratio of wall time",
                "at least",
            )
        ],
        rounds=3,
    ),
]
