"""What one volume of full size costs in each step, CPU time and disk: the base of the arithmetic for many volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .clock import Measured
from .comparison import Benchmark, Number, Prepare
from .growth import command_of, peak_of
from .material import Material

__all__ = ["BENCHMARKS", "MANY", "SLICES"]

MANY = 100_000  # volumes
SLICES = 155  # of a volume of BraTS, each of 240 x 240 pixels
FEW, MORE = 4, 6  # volumes
SAMPLES = (32, 96)  # slices of an epoch
MB = 1e6
DAY_S, CORES = 86_400.0, 16
DAY, WEEK = (days * DAY_S * CORES / MANY for days in (1, 7))  # CPU seconds of a volume, for all of them in this time


def steps(material: Material) -> Mapping[str, Prepare]:
    """Each step for few volumes and for some more, the disk that the results take, and an epoch of two lengths."""
    works: dict[str, Prepare] = {}
    for step in ("preprocess", "evaluate", "predict"):
        for count in (FEW, MORE):
            works[f"{step} {count}"] = process(command_of(material, step, count, SLICES))
    works["store"] = sizes(material, "store", FEW)
    works["predictions"] = sizes(material, "predict", FEW)
    for samples in SAMPLES:
        works[f"epoch {samples}"] = process(command_of(material, "epoch", FEW, SLICES, samples))
    return works


def process(arguments: tuple[str, ...]) -> Prepare:
    """A process; the work returns its peak memory, MiB."""
    return lambda: lambda: peak_of(arguments)


def sizes(material: Material, name: str, count: int) -> Prepare:
    """The disk that the files of a step take, MB of a volume; measured after the step."""

    def measure() -> float:
        folder = place(material, name, count)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / count / MB

    return lambda: measure


def place(material: Material, step: str, count: int) -> Path:
    """The folder of a step's results."""
    return material.folder / "growth" / f"{step}_{count}_{SLICES}"


def of_one_more(step: str, few: int = FEW, more: int = MORE) -> Callable[[Mapping[str, Measured]], float]:
    """CPU seconds of one more volume, or of one more slice of an epoch, without the start of the process."""

    def compute(found: Mapping[str, Measured]) -> float:
        small, large = (found[f"{step} {count}"].cpu[0] for count in (few, more))
        return (large - small) / (more - few)

    return compute


def size_of(name: str) -> Callable[[Mapping[str, Measured]], float]:
    """MB of a volume."""
    return lambda found: float(found[name].result)


def both(step: str) -> list[str]:
    """The names of a step's work."""
    return [f"{step} {count}" for count in (FEW, MORE)]


OF = f"of a volume of {SLICES} slices"
BENCHMARKS = [
    Benchmark(
        "per-volume",
        steps,
        [
            Number(f"preprocessing {OF}", both("preprocess"), of_one_more("preprocess"), DAY, "CPU seconds"),
            Number(f"prediction {OF}", both("predict"), of_one_more("predict"), WEEK, "CPU seconds"),
            Number(f"evaluation {OF}", both("evaluate"), of_one_more("evaluate"), WEEK, "CPU seconds"),
            Number(
                "training on a slice",
                *([f"epoch {samples}" for samples in SAMPLES], of_one_more("epoch", *SAMPLES), 1.0, "CPU seconds"),
            ),
            Number(f"store {OF}", ["store"], size_of("store"), 40.0, "MB"),
            Number(f"prediction's files {OF}", ["predictions"], size_of("predictions"), 10.0, "MB"),
        ],
        rounds=1,
        is_long=True,
    )
]
