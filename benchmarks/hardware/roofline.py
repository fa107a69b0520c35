"""How near each network comes to what this machine could compute: its peaks in operations and in bytes, measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..clock import Measured
from ..comparison import Benchmark, Number, Prepare
from ..material import Material
from .counts import BYTES, GIGA, NETWORKS, bytes_of, network_of, operations_of

__all__ = ["BENCHMARKS", "attainable"]

SIDE, REPEATS = 1536, 2  # of a matrix, and how often it is multiplied: longer than a clock tick
COPIED, COPIES = 2**26, 4  # numbers that are copied, more than a cache holds
PASSES = {"cpu": 16, "base": 2, "large": 1}  # in a round


def machine(material: Material) -> Mapping[str, Prepare]:
    """The peaks of the machine and a pass of each network; a work returns its operations or bytes."""
    works: dict[str, Prepare] = {"matrix product": product, "copy": copy}
    return works | {f"{name} pass": partial(passing, name) for name in NETWORKS}


def product() -> Callable[[], float]:
    """Matrix products in float32; the work returns their operations."""
    import torch

    first, second = torch.rand(2, SIDE, SIDE)

    def run() -> float:
        for _ in range(REPEATS):
            first @ second
        return float(2 * SIDE**3 * REPEATS)

    return run


def copy() -> Callable[[], float]:
    """Copies of an array; the work returns the bytes that are read and written."""
    import torch

    source, target = torch.zeros(COPIED), torch.zeros(COPIED)

    def run() -> float:
        for _ in range(COPIES):
            target.copy_(source)
        return float(2 * BYTES * COPIED * COPIES)

    return run


def passing(name: str) -> Callable[[], Any]:
    """Passes of a slice through a network, in the layout of predictions."""
    import torch

    network, image = network_of(name, device="cpu")
    network = network.to(memory_format=torch.channels_last)

    def run() -> float:
        with torch.inference_mode():
            for _ in range(PASSES[name]):
                network(image)
        return float(PASSES[name])

    return run


def attainable(operations: float, moved: float, peak: float, bandwidth: float) -> float:
    """The most operations a second of work that moves so many bytes.

    Reference:
        Williams, Waterman and Patterson, Roofline: an insightful visual performance model for multicore architectures,
        Communications of the ACM 52(4), 2009.

    >>> attainable(10.0, 5.0, peak=100.0, bandwidth=20.0), attainable(10.0, 5.0, peak=30.0, bandwidth=20.0)
    (40.0, 30.0)
    """
    return min(peak, bandwidth * operations / moved)


def rate(work: str, unit: float = GIGA) -> Callable[[Mapping[str, Measured]], list[float]]:
    """What a work counts, in units a second of CPU time, in each round."""
    return lambda found: [found[work].result / seconds / unit for seconds in found[work].cpu]


def share_of(name: str) -> Callable[[Mapping[str, Measured]], list[float]]:
    """A network's operations a second, as a share of what is attainable, in each round."""

    def compute(found: Mapping[str, Measured]) -> list[float]:
        operations, moved = operations_of(*network_of(name)), bytes_of(*network_of(name))
        rounds = zip(
            rate("matrix product", 1)(found), rate("copy", 1)(found), rate(f"{name} pass", 1)(found), strict=True
        )
        return [passes * operations / attainable(operations, moved, peak, width) for peak, width, passes in rounds]

    return compute


BENCHMARKS = [
    Benchmark(
        "roofline",
        machine,
        [
            Number("peak of matrix products", ["matrix product"], rate("matrix product"), 10.0, "GFLOP/s", "at least"),
            Number("peak of copies", ["copy"], rate("copy"), 2.0, "GB/s", "at least"),
            *(
                Number(
                    f"rate of the {name} network / attainable by its operations and bytes",
                    *(["matrix product", "copy", f"{name} pass"], share_of(name), 0.6, "share", "at least"),
                )
                for name in NETWORKS
            ),
        ],
        rounds=7,
    )
]
