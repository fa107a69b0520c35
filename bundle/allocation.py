"""Keep freed memory for the next pass through the network."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
KEPT_BYTES = 2**28


def keep_freed_memory() -> None:
    """Let glibc keep what a pass frees, up to 256 MiB, instead of returning it to the system and asking for it again.

    The system clears each page that it gives: with the features of a batch, of some MiB each, this takes a good part of
    the time of a pass. Other C libraries are left as they are. The most memory that is used at a time does not change.
    """
    with suppress(OSError, AttributeError, TypeError):  # no such function, or no C library that can be found
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MMAP_THRESHOLD, KEPT_BYTES)
