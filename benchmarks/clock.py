"""CPU and wall time of several pieces of work that run in turns."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Measured", "Work", "run_in_turns"]

Work = Callable[[], Any]


@dataclass
class Measured:
    """What a piece of work took in each round.

    Args:
        cpu: CPU seconds of this process and of the processes that it started and waited for.
        wall: seconds.
        result: what the work returned last.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    result: Any = None


def run_in_turns(works: Mapping[str, Work], rounds: int) -> dict[str, Measured]:
    """Run each piece of work once in every round, in a forward and a backward order by turns.

    What slows the machine down for some seconds then slows all of them down, and none is always the first. One round
    before the first is not counted, but for work that is run once.

    Args:
        works: by name.
        rounds: how often.
    """
    found = {name: Measured() for name in works}
    if rounds > 1:
        for work in works.values():
            work()
    for number in range(rounds):
        for name in list(works)[:: -1 if number % 2 else 1]:
            gc.collect()
            cpu, wall = _cpu_s(), time.perf_counter()
            found[name].result = works[name]()
            found[name].cpu.append(_cpu_s() - cpu)
            found[name].wall.append(time.perf_counter() - wall)
    return found


def _cpu_s() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
