"""End the work on a scan from another thread, when nobody waits for it any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Interrupt", "Interrupted"]


class Interrupted(Exception):
    """Nobody waits for the scan any more."""


class Interrupt:
    """Set once; ends the process that decodes the scan, and says so to whoever asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: int | None = None  # a descriptor that stays valid when the number is used again
        self.is_set = False

    def set(self) -> None:
        """End the work."""
        with self._lock:
            self.is_set = True
            self._end()

    def check(self) -> None:
        """Raise if the work has to end.

        Raises:
            Interrupted: after `set`.
        """
        if self.is_set:
            raise Interrupted

    @contextmanager
    def ending(self, process: int) -> Iterator[None]:
        """End this process if the interrupt is set before the block ends.

        Args:
            process: id of a process that works on the scan.
        """
        try:
            opened = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
        except OSError:  # it has ended
            opened = None
        if opened is None:
            yield
            return
        with self._lock:
            self._process = opened
            if self.is_set:
                self._end()
        try:
            yield
        finally:
            with self._lock:
                self._process = None
            os.close(opened)

    def _end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended by itself
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
