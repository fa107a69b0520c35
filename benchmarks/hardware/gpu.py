"""`python -m benchmarks.hardware.gpu`: slices a second of each network on a GPU, its share of the peak, and end to end.

No GPU is needed to start it: `--device cpu` measures the same, so that it is tested before there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bundle.core import files
from bundle.loading import load_workflow, suppress_monai_warnings

from ..material import ROOT, Material
from ..results import machine
from .counts import GIGA, NETWORKS, TRAINED, network_of, operations_of, training_operations

__all__ = ["main"]

PRODUCT, WARM = 4096, 3  # side of a matrix on a GPU; runs before the first that counts


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser("python -m benchmarks.hardware.gpu", description="Slices a second on a GPU.")
    made.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu (default: cuda)")
    made.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    made.add_argument("--batch", type=int, default=64, help="slices (default: 64)")
    made.add_argument("--rounds", type=int, default=20, help="that the time is a mean of (default: 20)")
    made.add_argument("--product", type=int, default=PRODUCT, help="side of the matrices of the peak")
    made.add_argument("--samples", type=int, default=4096, help="slices of the epoch from end to end; 0: none")
    made.add_argument("--backend", default="inductor", help="of torch.compile (default: inductor)")
    made.add_argument("--output", type=Path, default=ROOT / "runs" / "gpu.json")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results as JSON."""
    import torch

    options = parser().parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no GPU is here; --device cpu measures a processor", file=sys.stderr)
        return 1
    peak = peak_of(options)
    found = {"machine": machine(), "device": name_of(options.device), "peak_tflops_bfloat16": peak / 1e12}
    found["networks"] = {name: speeds(name, options, peak) for name in options.networks}
    if options.samples:
        with TemporaryDirectory(prefix="gpu_") as place:
            found["end_to_end"] = {name: epoch(name, options, Material(Path(place))) for name in options.networks}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(options.output, found)
    print(options.output)
    return 0


def name_of(device: str) -> str:
    """The name of a device."""
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def seconds(work: Callable[[], Any], options: argparse.Namespace) -> float:
    """Mean wall seconds of a work that the device has finished."""
    import torch

    wait = torch.cuda.synchronize if options.device.startswith("cuda") else lambda: None
    for _ in range(WARM):
        work()
    wait()
    began = time.perf_counter()
    for _ in range(options.rounds):
        work()
    wait()
    return (time.perf_counter() - began) / options.rounds


def peak_of(options: argparse.Namespace) -> float:
    """Operations a second of matrix products in bfloat16."""
    import torch

    first, second = torch.rand(2, options.product, options.product, device=options.device, dtype=torch.bfloat16)
    return 2 * options.product**3 / seconds(lambda: first @ second, options)


def speeds(name: str, options: argparse.Namespace, peak: float) -> dict[str, float]:
    """Slices a second of predictions and of training steps in mixed precision, and their shares of the peak."""
    import torch

    from scripts.networks.multitask_unet import multi_task_unet

    network, image = (part.to(options.device) for part in network_of(name, batch=options.batch, device="cpu"))
    network = torch.compile(network.to(memory_format=torch.channels_last), backend=options.backend)
    image = image.contiguous(memory_format=torch.channels_last)
    trained = multi_task_unet(name).to(options.device).to(memory_format=torch.channels_last).train()
    compiled, optimizer = torch.compile(trained, backend=options.backend), torch.optim.AdamW(trained.parameters())
    crop = image[..., :TRAINED, :TRAINED].contiguous(memory_format=torch.channels_last)

    def predict() -> None:
        with torch.inference_mode(), mixed(options):
            network(image)

    def step() -> None:
        optimizer.zero_grad()
        with mixed(options):
            output = compiled(crop)
        (output["seg"].float().mean() + output["cls"].float().mean()).backward()
        optimizer.step()

    predicted, stepped = (options.batch / seconds(work, options) for work in (predict, step))
    operations = operations_of(*network_of(name))
    return {
        "prediction_slices_per_s": predicted,
        "prediction_share_of_peak": predicted * operations / peak,
        "training_slices_per_s": stepped,
        "training_share_of_peak": stepped * training_operations(name) * GIGA / peak,
    }


def mixed(options: argparse.Namespace) -> Any:
    """Convolutions in bfloat16."""
    import torch

    return torch.autocast(options.device.partition(":")[0], dtype=torch.bfloat16)


def epoch(name: str, options: argparse.Namespace, material: Material) -> dict[str, float]:
    """Slices a second of the second epoch of stage 1 with `configs/gpu_train.yaml`, validation included."""
    from ignite.engine import Events

    from ..training import store_of

    settings = {"network_name": name, "batch_size": options.batch, "samples_per_epoch": options.samples}
    settings |= {"compile_backend": options.backend, "device": f"$torch.device('{options.device}')", "max_epochs": 2}
    settings["precision"] = "bfloat16" if options.device.startswith("cuda") else "float32"
    settings["cuda_graphs"] = options.device.startswith("cuda")
    folder = material.folder / f"training_{name}"
    workflow = load_workflow(
        ["train.yaml", "gpu_train.yaml"], ROOT, dataset_dir=str(store_of(material)), output_dir=str(folder), **settings
    )
    workflow.run_id = "training"
    ended: list[float] = []
    with suppress_monai_warnings(ROOT):
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: ended.append(time.perf_counter()))
        workflow.run()
    return {"slices_per_s": options.samples / (ended[1] - ended[0])}


if __name__ == "__main__":
    sys.exit(main())
