"""`python -m benchmarks`: run benchmarks, write their results and the page."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bundle.loading import silence_loggers

from . import forward, growth, per_volume, processes, runtimes, scans, serving, training
from .comparison import Benchmark, rows_of
from .hardware import counts, roofline
from .material import ROOT, Material
from .page import line, write_page
from .results import write_results

__all__ = ["ALL", "main"]

ALL: list[Benchmark] = [
    benchmark
    for module in (counts, roofline, forward, scans, runtimes, training, processes, serving, growth, per_volume)
    for benchmark in module.BENCHMARKS
]


def parser() -> argparse.ArgumentParser:
    """The options."""
    names = [benchmark.name for benchmark in ALL]
    made = argparse.ArgumentParser("python -m benchmarks", description="Compare speed with the goals, as ratios.")
    made.add_argument("--only", metavar="NAME", choices=names, action="append", help=f"repeatable: {', '.join(names)}")
    made.add_argument("--long", action="store_true", help="also what takes long: service, growth, demo and tests")
    made.add_argument("--rounds", type=int, help="of every benchmark that is not long (default: its own)")
    made.add_argument("--threads", type=int, default=1, help="that the work computes with (default: 1)")
    made.add_argument("--check", action="store_true", help="only count, and fail if more is counted than is committed")
    made.add_argument("--output", type=Path, default=ROOT / "docs", help="folder of results/ and the page")
    return made


def main(arguments: Sequence[str] | None = None, benchmarks: Sequence[Benchmark] = ALL, pinned: bool = True) -> int:
    """Run the chosen benchmarks; every other row of the results stays as it is.

    Args:
        arguments: of the command line.
        benchmarks: to choose from.
        pinned: keep this process on as many cores as it has threads.
    """
    options = parser().parse_args(arguments)
    chosen = [
        one for one in benchmarks if (one.name in options.only if options.only else options.long or not one.is_long)
    ]
    if pinned:
        use_threads(options.threads)
    silence_loggers()
    order = [benchmark.name for benchmark in benchmarks]
    if options.check:
        return check(options.output / "results" / "bench.json")
    with TemporaryDirectory(prefix="benchmarks_") as place:
        material = Material(Path(place))
        for benchmark in chosen:
            rounds = benchmark.rounds if benchmark.is_long or not options.rounds else options.rounds
            print(f"\n{benchmark.name}: {rounds} rounds", flush=True)
            rows = rows_of(benchmark, material, options.threads, rounds)
            print("\n".join(map(line, rows)), flush=True)
            content = write_results(options.output / "results" / "bench.json", rows, order)
            write_page(content, options.output)
    return 0


def check(results: Path) -> int:
    """Count anew and compare with the committed results; 1 if a count is worse by more than a fifth, else 0."""
    with TemporaryDirectory(prefix="benchmarks_") as place:
        rows = [row for one in counts.BENCHMARKS for row in rows_of(one, Material(Path(place)), 1, one.rounds)]
    found = counts.worse(rows, json.loads(results.read_text())["rows"])
    print("\n".join(found) or f"{len(rows)} counts are as committed, or better")
    return 1 if found else 0


def use_threads(threads: int) -> None:
    """Compute with so many threads and on so many cores, in this process and in those that it starts."""
    import torch

    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


if __name__ == "__main__":
    sys.exit(main())
