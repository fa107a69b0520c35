"""A benchmark: work that runs in turns, and what of it is compared with which goal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .clock import Measured, Work, run_in_turns
from .material import Material

__all__ = ["Benchmark", "MissingError", "Number", "Ratio", "holds", "rows_of"]

Direction = Literal["at most", "at least"]
Prepare = Callable[[], Work]
Row = dict[str, Any]
DIGITS = 4


class MissingError(Exception):
    """Something that a benchmark needs is not on this machine; the message says what."""


@dataclass(frozen=True)
class Ratio:
    """A goal for the CPU time of one piece of work, divided by that of another, in the same round.

    Args:
        name: of the row, "A / B".
        of: name of the work above the line.
        to: name of the work below it; of several, the fastest.
        goal: the limit.
        direction: of the limit.
    """

    name: str
    of: str
    to: str | Sequence[str]
    goal: float
    direction: Direction = "at most"
    unit: str = "ratio of CPU time"

    @property
    def needs(self) -> list[str]:
        """Names of the work that is compared."""
        return [self.of, *([self.to] if isinstance(self.to, str) else self.to)]

    def values(self, found: Mapping[str, Measured]) -> list[float]:
        """The ratio in each round."""
        below = self.needs[1:]
        fastest = min(below, key=lambda name: float(np.median(found[name].cpu)))
        return [above / other for above, other in zip(found[self.of].cpu, found[fastest].cpu, strict=True)]


@dataclass(frozen=True)
class Number:
    """A goal for any other number.

    Args:
        name: of the row.
        needs: names of the work that it is computed from.
        compute: what was measured, by these names -> the number, or one for each round.
        goal: the limit.
        unit: of the number.
        direction: of the limit.
    """

    name: str
    needs: Sequence[str]
    compute: Callable[[Mapping[str, Measured]], float | list[float]]
    goal: float
    unit: str
    direction: Direction = "at most"

    def values(self, found: Mapping[str, Measured]) -> list[float]:
        """The number, or one for each round."""
        computed = self.compute(found)
        return computed if isinstance(computed, list) else [computed]


@dataclass(frozen=True)
class Benchmark:
    """Work that runs in turns, and its goals.

    Args:
        name: for `--only`.
        works: from the shared material, each piece of work by name, as a function that prepares it: what is missing on
            this machine raises ImportError or MissingError there.
        goals: one row each.
        rounds: how often each piece of work runs.
        is_long: only with `--long`.
    """

    name: str
    works: Callable[[Material], Mapping[str, Prepare]]
    goals: Sequence[Ratio | Number]
    rounds: int = 7
    is_long: bool = False


def holds(reached: float, goal: float, direction: Direction) -> bool:
    """Whether a goal is reached.

    >>> holds(1.04, 1.05, "at most"), holds(1.04, 1.05, "at least")
    (True, False)
    """
    return reached <= goal if direction == "at most" else reached >= goal


def rows_of(benchmark: Benchmark, material: Material, threads: int, rounds: int) -> list[Row]:
    """Run a benchmark; one row for each goal, whose "reached" is None where something is missing.

    Args:
        benchmark: to run.
        material: what it works on.
        threads: that this process computes with, for the rows.
        rounds: of all its work.
    """
    ready, missing = _prepared(benchmark.works(material))
    wanted = {name for goal in benchmark.goals if not missing.keys() & set(goal.needs) for name in goal.needs}
    found = run_in_turns({name: work for name, work in ready.items() if name in wanted}, rounds)
    return [{**_row(benchmark.name, goal, found, missing), "threads": threads} for goal in benchmark.goals]


def _prepared(works: Mapping[str, Prepare]) -> tuple[dict[str, Work], dict[str, str]]:
    """The work that can be done here by name, and why the other cannot."""
    ready: dict[str, Work] = {}
    missing: dict[str, str] = {}
    for name, prepare in works.items():
        try:
            ready[name] = prepare()
        except ImportError as error:
            missing[name] = f"{error.name} is not installed"
        except MissingError as error:
            missing[name] = str(error)
    return ready, missing


def _row(name: str, goal: Ratio | Number, found: Mapping[str, Measured], missing: Mapping[str, str]) -> Row:
    row: Row = {"benchmark": name, "name": goal.name, "unit": goal.unit, "goal": goal.goal, "direction": goal.direction}
    absent = [missing[work] for work in goal.needs if work in missing]
    if absent:
        return {**row, "reached": None, "quartiles": None, "holds": None, "reason": absent[0]}
    values = goal.values(found)
    low, middle, high = (_significant(value, DIGITS) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    row |= {"reached": middle, "quartiles": [low, high], "holds": holds(middle, goal.goal, goal.direction)}
    row |= {"rounds": len(values), "load": round(os.getloadavg()[0], 1)}
    medians = {work: found[work] for work in dict.fromkeys(goal.needs)}
    for clock in ("cpu", "wall"):
        row[f"{clock}_s"] = {work: _significant(np.median(getattr(of, clock))) for work, of in medians.items()}
    results = {work: of.result for work, of in medians.items() if isinstance(of.result, float)}
    return row | ({"results": {work: _significant(result) for work, result in results.items()}} if results else {})


def _significant(value: float, digits: int = 3) -> float:
    """A number with some significant digits."""
    return float(f"{float(value):.{digits}g}")
