"""Time, memory and money of predictions and of a training, from the results and from prices that are a parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from bundle.manifest import read_json

from ..material import ROOT
from ..per_volume import SLICES

__all__ = ["HOUR_S", "PRICES", "prices", "section", "shown"]

PRICES = ROOT / "docs" / "results" / "prices.json"
VOLUMES = 1000
HOUR_S, DIGITS = 3600.0, 3
STAGES = ("train.yaml", "stage2_classification.yaml", "stage3_joint.yaml")
HEAD = """## cost

At {core_hour_usd} USD for an hour of one core ([prices](results/prices.json) of {date}, {source}). CPU time is that of
the rows of per-volume, memory the largest of the rows of growth. A training is its {epochs} epochs of
{samples} slices, without validation.

| work | CPU hours | memory, MiB | USD |
|---|---|---|---|
"""


@cache
def prices() -> dict[str, Any]:
    """USD for an hour of a core and of a GPU, and for a GB and month, with their date and source."""
    return dict(read_json(PRICES))


def section(rows: Sequence[Mapping[str, Any]]) -> str:
    """The part of the page about cost, Markdown; a number that was not measured is a dash."""
    named = {row["name"]: row for row in rows if row["threads"] == 1}
    epochs, samples = schedule()
    works = [
        (f"{step} of {VOLUMES:,} volumes of {SLICES} slices", f"{step} of a volume of {SLICES} slices", VOLUMES, step)
        for step in ("preprocessing", "prediction", "evaluation")
    ]
    works.append(
        ("training, all stages", "training on a slice", sum(map(int.__mul__, epochs, samples)), "training epoch")
    )
    described = {"epochs": " + ".join(map(str, epochs)), "samples": " + ".join(map(str, samples))}
    lines = [line(words, named.get(name), count, memory(named, step)) for words, name, count, step in works]
    return "\n".join([HEAD.format(**prices(), **described).rstrip("\n"), *lines]) + "\n"


def schedule() -> tuple[list[int], list[int]]:
    """Epochs of each stage, and the slices of each of its epochs, from the configs."""
    first, *others = (yaml.safe_load((ROOT / "configs" / name).read_text()) for name in STAGES)
    stages = [first, *({**first, **other} for other in others)]
    return (
        [int(stage["max_epochs"]) for stage in stages],
        [int(stage["samples_per_epoch"]) * len(stage["kinds"]) for stage in stages],
    )


def memory(named: Mapping[str, Mapping[str, Any]], step: str) -> float | None:
    """Peak memory of a step, MiB, of the most volumes that were measured."""
    peaks = [row.get("results", {}) for name, row in named.items() if name.startswith(f"{step}: peak memory")]
    return max((value for found in peaks for value in found.values()), default=None)


def line(words: str, row: Mapping[str, Any] | None, count: int, memory_mib: float | None) -> str:
    """A row: CPU hours, memory and money of so many times what a row measured in CPU seconds."""
    hours = None if row is None or row["reached"] is None else row["reached"] * count / HOUR_S
    money = None if hours is None else hours * prices()["core_hour_usd"]
    return f"| {words} | {shown(hours)} | {shown(memory_mib)} | {shown(money)} |"


def shown(value: float | None) -> str:
    """A number with three significant digits, never in exponents; a dash for None."""
    if value is None:
        return "-"
    rounded = float(f"{value:.{DIGITS}g}")
    return f"{rounded:,.0f}" if rounded >= 10 ** (DIGITS - 1) else f"{rounded:g}"
