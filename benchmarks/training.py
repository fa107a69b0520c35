"""How much of a training's time is for reading and augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .comparison import Benchmark, Prepare, Ratio
from .material import ROOT, Material

__all__ = ["BENCHMARKS"]

VOLUMES, SAMPLES = 5, 48


def loops(material: Material) -> Mapping[str, Prepare]:
    """An epoch of stage 1 from its loader, and of as many steps on one batch that is in memory."""
    return {
        "training loop": lambda: epoch(material, fixed=False),
        "one fixed batch": lambda: epoch(material, fixed=True),
    }


def epoch(material: Material, fixed: bool) -> Callable[[], Any]:
    """Train for an epoch with the network, loss, loader and augmentation of `configs/train.yaml`."""
    from monai.engines import SupervisedTrainer

    from bundle.loading import load_workflow, suppress_monai_warnings

    store = store_of(material)
    workflow = load_workflow(
        ["train.yaml"],
        ROOT,
        dataset_dir=str(store),
        output_dir=str(material.folder / "training"),
        samples_per_epoch=SAMPLES,
        num_workers=0,
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
        trainer.run()

    return run


def store_of(material: Material) -> Any:
    """The slice store of some volumes."""
    from bundle.workflows.stages import preprocess, source_folders

    store = material.folder / "store"
    if not store.is_dir():
        preprocess(store, source_folders(str(material.volumes(VOLUMES)), []))
    return store


BENCHMARKS = [
    Benchmark(
        "training",
        loops,
        [Ratio("steps on one fixed batch / training loop", "one fixed batch", "training loop", 0.97, "at least")],
        rounds=3,
    )
]
