"""Time and memory of preprocessing, an epoch, evaluation and prediction as the number of volumes grows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .clock import Measured
from .comparison import Benchmark, Number, Prepare
from .material import ROOT, Material
from .processes import environment

__all__ = ["BENCHMARKS", "STEPS", "VOLUMES", "command_of", "peak_of"]

VOLUMES = (4, 16, 64)  # of fewer, no split can be made
SLICES = 12
SAMPLES = 12  # of an epoch, for each volume
KIB = 1024.0


def works(step: str) -> Callable[[Material], Mapping[str, Prepare]]:
    """One step for each number of volumes, as a process whose peak memory (MiB) is the result."""

    def of(material: Material) -> Mapping[str, Prepare]:
        return {str(count): preparing(material, step, count) for count in VOLUMES}

    return of


def preparing(material: Material, step: str, count: int) -> Prepare:
    """The process of a step; an epoch is preceded by the preprocessing of its volumes."""

    def prepare() -> Callable[[], float]:
        arguments = command_of(material, step, count)
        if step == "epoch":
            peak_of(command_of(material, "preprocess", count))
        return lambda: peak_of(arguments)

    return prepare


def command_of(
    material: Material, step: str, count: int, slices: int = SLICES, samples: int | None = None
) -> tuple[str, ...]:
    """The command of a step for some volumes.

    Args:
        material: has the volumes.
        step: preprocess, epoch (of the store that preprocess wrote), evaluate or predict.
        count: of the volumes.
        slices: of each.
        samples: slices of the epoch (default: `SAMPLES` for each volume).
    """
    volumes, of = str(material.volumes(count, slices)), f"{count}_{slices}"
    place, store = material.folder / "growth" / f"{step}_{of}", str(material.folder / "growth" / f"store_{of}")
    place.mkdir(parents=True, exist_ok=True)
    monai = ("-m", "monai.bundle", "run")
    commands = {
        "preprocess": (
            *(*monai, "preprocessing", "--config_file", "configs/preprocess.yaml"),
            *("--volumes", volumes, "--dataset_dir", store),
        ),
        "epoch": (
            *(*monai, "training", "--config_file", "configs/train.yaml", "--dataset_dir", store),
            *("--output_dir", str(place / f"run_{samples}"), "--max_epochs", "1"),
            *("--samples_per_epoch", str(samples or SAMPLES * count)),
        ),
        "evaluate": (
            *("-m", "bundle", "evaluate", "--volumes", volumes, "--model", str(material.weights)),
            *("--output", str(place / "scores")),
        ),
        "predict": ("-m", "bundle", "predict", volumes, "--output", str(place / "predictions")),
    }
    return commands[step]


def peak_of(arguments: tuple[str, ...]) -> float:
    """Run a Python process; its peak memory, MiB.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    words = [sys.executable, *arguments]
    log: Any = subprocess.PIPE
    process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=log)  # noqa: S603
    said = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, words, stderr=said[-2000:])
    return usage.ru_maxrss / KIB


def growth(found: Mapping[str, Measured]) -> float:
    """CPU time of a further volume among many, divided by that among few: 1 if the time grows linearly."""
    times = {count: min(found[str(count)].cpu) for count in VOLUMES}
    few, some, many = VOLUMES[0], VOLUMES[-2], VOLUMES[-1]
    return (times[many] - times[some]) / (many - some) / ((times[some] - times[few]) / (some - few))


def memory(found: Mapping[str, Measured]) -> float:
    """Peak memory for the most volumes, divided by that for the fewest."""
    return float(found[str(VOLUMES[-1])].result / found[str(VOLUMES[0])].result)


def goals(step: str, words: str) -> list[Number]:
    """Linear time, constant memory."""
    counts = [str(count) for count in VOLUMES]
    last = f"{VOLUMES[-1]} volumes / {VOLUMES[0]}"
    return [
        Number(
            f"{words}: CPU time of one more volume, among many / among few", counts, growth, 1.2, "ratio of CPU time"
        ),
        Number(f"{words}: peak memory of {last}", counts, memory, 1.15, "ratio of memory"),
    ]


STEPS = {"preprocess": "preprocessing", "epoch": "training epoch", "evaluate": "evaluation", "predict": "prediction"}
BENCHMARKS = [
    Benchmark(f"growth-{step}", works(step), goals(step, words), rounds=1, is_long=True)
    for step, words in STEPS.items()
]
