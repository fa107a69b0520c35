"""Room for the bytes of all requests together: taken as they arrive, given back when a scan is not needed any more."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any

from .problems import Problem

__all__ = ["Upload", "UploadRoom"]

TRIM_AFTER_S = 5.0  # shortest time between two calls


class UploadRoom:
    """A bounded number of bytes, counted by the event loop alone.

    Args:
        most: bytes of all requests together.
    """

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0
        self.trim, self.trimmed = _trim(), 0.0

    def require(self, count: int) -> None:
        """Refuse if there is no room.

        Args:
            count: bytes.

        Raises:
            Problem: when the other requests leave less room.
        """
        if self.taken + count > self.most:
            raise Problem(503, "overload", "too many uploads at a time, try again soon", {"Retry-After": "2"})

    def take(self, count: int) -> None:
        """Take room for bytes; see `require`."""
        self.require(count)
        self.taken += count

    def give(self, count: int) -> None:
        """Give back room; when all of it is free, give the process's free memory back to the system."""
        self.taken -= count
        now = time.monotonic()
        if count and not self.taken and now - self.trimmed > TRIM_AFTER_S:
            self.trimmed = now
            self.trim(0)


class Upload:
    """Room of one request, kept by the request itself and by every scan of it.

    Args:
        room: where it is taken.
    """

    def __init__(self, room: UploadRoom) -> None:
        self.room, self.bytes, self.keepers = room, 0, 1

    def take(self, count: int) -> None:
        """Take room for some bytes that have arrived; without any, give back what was taken, for the other requests.

        Raises:
            Problem: see `UploadRoom.require`.
        """
        try:
            self.room.take(count)
        except Problem:
            self.room.give(self.bytes)
            self.bytes = 0
            raise
        self.bytes += count

    def keep(self) -> None:
        """Keep the room for one more user."""
        self.keepers += 1

    def release(self) -> None:
        """End one use; the last one gives the room back."""
        self.keepers -= 1
        if not self.keepers:
            self.room.give(self.bytes)
            self.bytes = 0


def _trim() -> Callable[[int], Any]:
    """The C library's function that gives free memory back, where it has one."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
