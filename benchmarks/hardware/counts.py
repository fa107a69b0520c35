"""Operations, bytes and passes: numbers that are the same on every machine, which continuous integration compares."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..clock import Measured
from ..comparison import Benchmark, Number, Prepare
from ..material import Material

__all__ = ["BENCHMARKS", "NETWORKS", "bytes_of", "network_of", "operations_of", "worse"]

NETWORKS = {"cpu": 1.6, "base": 25.0, "large": 100.0}  # GFLOP of a pass at most
TRAINED, SLICES = 192, 24  # side of a training crop, pixels; slices of a volume
BYTES, GIGA, MEGA = 4, 1e9, 1e6  # of a number in float32
WORSE = 1.2  # times what is committed


def counted(material: Material) -> Mapping[str, Prepare]:
    """Each count by name, as a work that returns it."""
    works: dict[str, Callable[[], float]] = {
        "plain": partial(extended_operations, material),
        "uncertainty": partial(extended_operations, material, include_uncertainty=True),
        "served passes": lambda: passes_per_slice(material.served, material),
        "passes": lambda: passes_per_slice(material.predictor, material),
        **{f"{step} memory": partial(memory_of, step, material) for step in ("preprocessing", "postprocessing")},
        **{f"{name} training": partial(training_operations, name) for name in NETWORKS},
        **{f"{name} operations": partial(operations, name) for name in NETWORKS},
        **{f"{name} bytes": partial(bytes_moved, name) for name in NETWORKS},
    }
    return {name: partial(_prepared, work) for name, work in works.items()}


def _prepared(work: Callable[[], float]) -> Callable[[], float]:
    return work


def operations(name: str) -> float:
    """GFLOP of a pass of a slice through a network."""
    return operations_of(*network_of(name)) / GIGA


def bytes_moved(name: str) -> float:
    """MB of a pass of a slice through a network, see `bytes_of`."""
    return bytes_of(*network_of(name)) / MEGA


def network_of(name: str, side: int = 256, batch: int = 1, device: str = "meta") -> tuple[Any, Any]:
    """A network of ours in evaluation mode, and its input (B, 1, side, side); on "meta" neither takes memory."""
    import torch

    from scripts.networks.multitask_unet import multi_task_unet

    with torch.device(device):
        return multi_task_unet(name, packed=True).eval(), torch.zeros(batch, 1, side, side)


def operations_of(network: Callable[[Any], Any], image: Any) -> float:
    """Floating-point operations of a pass: those of convolutions and matrix products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return float(counter.get_total_flops())


def bytes_of(network: Any, image: Any) -> float:
    """Bytes that the layers of a network read and write in a pass, each of them alone: inputs, outputs, parameters."""
    import torch

    found = [0]

    def count(layer: Any, inputs: Sequence[Any], output: Any) -> None:
        found[0] += output.numel() + sum(one.numel() for one in [*inputs, *layer.parameters()])

    layers = [layer for layer in network.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return float(found[0] * BYTES)


def training_operations(name: str) -> float:
    """GFLOP of a training step, for each slice of its batch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from scripts.networks.multitask_unet import multi_task_unet

    batch = 2
    with torch.device("meta"):
        network, image = multi_task_unet(name).train(), torch.zeros(batch, 1, TRAINED, TRAINED)
    with FlopCounterMode(display=False) as counter:
        output = network(image)
        (output["seg"].sum() + output["cls"].sum()).backward()
    return float(counter.get_total_flops()) / batch / GIGA


def extended_operations(material: Material, include_uncertainty: bool = False) -> float:
    """Floating-point operations of a pass of one slice as predictions use the network."""
    make, (_, one) = material.predictor.parts["extended_network"], network_of("cpu", device="cpu")
    return operations_of(make(material.network, include_uncertainty=include_uncertainty), one)


def passes_per_slice(predictor: Any, material: Material) -> float:
    """Passes of each slice through the encoder, for mask, probability, CAM and uncertainty together."""
    seen = [0]

    def count(_: Any, inputs: Sequence[Any]) -> None:
        seen[0] += len(inputs[0])

    handle = predictor.network.encoder.register_forward_pre_hook(count)
    scan = next(material.volumes(1, SLICES).rglob("*_flair.nii.gz"))
    prediction = predictor.predict(scan, include_cam=True, include_uncertainty=True)
    handle.remove()
    return seen[0] / sum(share is not None for share in prediction["result"]["slice_probabilities"])


def memory_of(step: str, material: Material) -> float:
    """Peak of the arrays that a step of a volume's prediction makes, in bytes for each voxel of the network's input."""
    from ..scans import infer

    predictor, parts = material.predictor, material.predictor.parts
    network = parts["extended_network"](predictor.network)
    item: dict[str, Any] = {"image": predictor.read(next(material.volumes(1, SLICES).rglob("*_flair.nii.gz")))}
    item = {**parts["preprocessing"](dict(item), start=1), "scan": item["image"], "planes": network.planes}
    voxels = item["image"].numel()
    item["pred"] = infer(parts["inferer"], item["image"], network)
    scan = {"image": item["scan"]}
    work = {
        "preprocessing": lambda: parts["preprocessing"](dict(scan), start=1),
        "postprocessing": lambda: parts["postprocessing"](dict(item)),
    }[step]
    work()
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / voxels


def worse(rows: Sequence[Mapping[str, Any]], committed: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each count that is worse than the committed one by more than a fifth, or that is not committed."""
    before = {(row["benchmark"], row["name"]): row["reached"] for row in committed}
    found = []
    for row in rows:
        name, reached = f"{row['benchmark']}: {row['name']}", row["reached"]
        old = before.get((row["benchmark"], row["name"]))
        if old is None or reached is None:
            found.append(f"{name}: {'not counted' if reached is None else 'not committed'}")
        elif reached > WORSE * old if row["direction"] == "at most" else reached < old / WORSE:
            found.append(f"{name}: {reached:g} instead of {old:g} {row['unit']}")
    return found


def number(name: str, work: str, goal: float, unit: str) -> Number:
    """A goal for a count."""
    return Number(name, [work], lambda found: float(found[work].result), goal, unit)


def ratio(above: str, below: str) -> Callable[[Mapping[str, Measured]], float]:
    """One count divided by another."""
    return lambda found: float(found[above].result / found[below].result)


GOALS: list[Number] = [
    *(
        number(f"operations of a pass, {name} network", f"{name} operations", NETWORKS[name], "GFLOP")
        for name in NETWORKS
    ),
    *(
        number(f"operations of a training step for each slice, {name} network", f"{name} training", 3 * goal, "GFLOP")
        for name, goal in NETWORKS.items()
    ),
    *(
        number(f"bytes that the layers of a pass read and write, {name} network", f"{name} bytes", 40 * goal + 60, "MB")
        for name, goal in NETWORKS.items()
    ),
    Number(
        "operations of a pass with Monte-Carlo samples / without",
        *(["uncertainty", "plain"], ratio("uncertainty", "plain"), 1.5, "ratio of FLOP"),
    ),
    number("passes of a slice for mask, class, CAM and uncertainty", "passes", 1.0, "passes"),
    number("passes of a slice with its mirror image, as served", "served passes", 2.0, "passes"),
    number("memory of preprocessing", "preprocessing memory", 16.0, "bytes of numpy for each voxel"),
    number("memory of postprocessing", "postprocessing memory", 16.0, "bytes of numpy for each voxel"),
]
BENCHMARKS = [Benchmark("counts", counted, GOALS, rounds=1)]
