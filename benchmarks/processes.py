"""Whole processes, from their start: the first prediction, short commands; with `--long` the demo and the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .clock import Measured
from .comparison import Benchmark, MissingError, Number, Prepare, Ratio
from .material import ROOT, Material

__all__ = ["BENCHMARKS", "command"]

MINUTE_S, CORES = 60.0, 2


def short_commands(material: Material) -> Mapping[str, Prepare]:
    """Processes of some seconds."""
    output = material.folder / "first"
    predict = ("-m", "bundle", "predict", str(material.picture), "--output", str(output), "--overwrite")
    return {
        "import monai": lambda: command("-c", "import monai"),
        "--help": lambda: command("-m", "bundle", "--help"),
        "info": lambda: command("-m", "bundle", "info"),
        "first prediction": lambda: command(*predict),
    }


def long_commands(material: Material) -> Mapping[str, Prepare]:
    """Processes of some minutes."""
    suite = ("-m", "pytest", "-n", "2", "--dist", "loadfile", "-q")
    demo = ("-m", "bundle", "demo", "--output", str(material.folder / "demo"))
    return {"demo": lambda: command(*demo), "tests": lambda: with_two_cores(command(*suite))}


def command(*arguments: str) -> Callable[[], Any]:
    """A Python process in the bundle's folder.

    Args:
        arguments: of the interpreter.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """

    def run() -> None:
        words = [sys.executable, *arguments]
        subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, check=True)  # noqa: S603

    return run


def environment() -> dict[str, str]:
    """Of a process that computes with as many threads as this one."""
    import torch

    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}


def with_two_cores(work: Callable[[], Any]) -> Callable[[], Any]:
    """The same work on two cores.

    Raises:
        MissingError: on a machine of one.
    """
    if (os.cpu_count() or 1) < CORES:
        raise MissingError("this machine has one core")

    def run() -> None:
        bound = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        if bound is not None:
            os.sched_setaffinity(0, range(CORES))
        try:
            work()
        finally:
            if bound is not None:
                os.sched_setaffinity(0, bound)

    return run


def seconds(name: str, clock: str = "cpu", per: float = 1.0) -> Callable[[Mapping[str, Measured]], list[float]]:
    """The time of a process, in seconds or in units of `per` seconds."""
    return lambda found: list(np.array(getattr(found[name], clock)) / per)


BENCHMARKS = [
    Benchmark(
        "processes",
        short_commands,
        [
            Number(
                "first prediction of a new process",
                *(["first prediction"], seconds("first prediction"), 6.0, "CPU seconds"),
            ),
            Ratio("`--help` / `import monai`", "--help", "import monai", 0.1),
            Ratio("`info` / `import monai`", "info", "import monai", 0.1),
        ],
        rounds=3,
    ),
    Benchmark(
        "demo",
        long_commands,
        [Number("`make demo`", ["demo"], seconds("demo", per=MINUTE_S), 5.0, "CPU minutes")],
        rounds=1,
        is_long=True,
    ),
    Benchmark(
        "tests",
        long_commands,
        [Number("`make test`, two cores", ["tests"], seconds("tests", "wall", MINUTE_S), 8.0, "minutes")],
        rounds=1,
        is_long=True,
    ),
]
