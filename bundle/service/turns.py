"""Turns at the network: several scans are inferred at a time, one passes through it, and short ones come first."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from ..intake import IntakeError, Interrupt

__all__ = ["Turn", "Turns"]

MOST_BEFORE = 4  # times that a longer scan lets shorter ones pass before it gets a turn


class Turns:
    """Who is next. Scans wait in lanes, 0 for the shortest; each lane has one scan at a time."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.waiting: dict[int, int] = {}  # by lane: how often others came first
        self.taken = False

    def acquire(self, lane: int) -> None:
        """Wait for a turn."""
        with self.changed:
            self.waiting[lane] = 0
            self.changed.wait_for(lambda: not self.taken and self.next() == lane)
            del self.waiting[lane]
            self.taken = True
            for longer in (other for other in self.waiting if other > lane):
                self.waiting[longer] += 1

    def release(self) -> None:
        """End a turn."""
        with self.changed:
            self.taken = False
            self.changed.notify_all()

    def next(self) -> int:
        """The lane that is next: the shortest, unless a longer one has waited for too many others."""
        starved = [lane for lane, times in self.waiting.items() if times >= MOST_BEFORE]
        return min(starved or self.waiting)


class Turn:
    """The turns of one scan: a context manager around its inference, which calls `between` between its passes.

    Args:
        turns: shared by all scans.
        lane: of this scan.
        interrupt: ends the inference at the next pass.
        seconds: how long it may take, with the time of others in between.
    """

    def __init__(self, turns: Turns, lane: int, interrupt: Interrupt, seconds: float) -> None:
        self.turns, self.lane, self.interrupt, self.seconds = turns, lane, interrupt, seconds
        self.until = float("inf")

    def __enter__(self) -> Turn:
        self.turns.acquire(self.lane)
        self.until = time.monotonic() + self.seconds
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.turns.release()

    def between(self) -> None:
        """Let others pass.

        Raises:
            Interrupted: when nobody waits for the prediction any more.
            IntakeError: when the inference takes too long.
        """
        self.interrupt.check()
        if time.monotonic() > self.until:
            raise IntakeError("time_limit", f"was not predicted within {self.seconds:g} s")
        if self.turns.waiting:
            self.turns.release()
            self.turns.acquire(self.lane)
