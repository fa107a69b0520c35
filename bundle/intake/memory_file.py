"""A file without a name, for the content of a scan: no other program finds it, and nothing is left after a kill."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

__all__ = ["MemoryFile", "path_of_descriptor"]

DESCRIPTORS = Path("/proc/self/fd") if Path("/proc/self/fd").is_dir() else Path("/dev/fd")


def path_of_descriptor(descriptor: int) -> Path:
    """A path by which this process can open one of its open files again."""
    return DESCRIPTORS / str(descriptor)


class MemoryFile:
    """Bytes in the system's memory (memfd), or in an unlinked temporary file where it has no such files.

    Written piece by piece, read by other processes through its descriptor. Its memory is given back when it is closed
    or not used any more.

    Args:
        content: first bytes.
    """

    def __init__(self, content: bytes = b"") -> None:
        self.descriptor, self.size = _opened(), 0
        self._close = weakref.finalize(self, os.close, self.descriptor)
        self.write(content)

    def write(self, piece: bytes) -> None:
        """Append bytes.

        Raises:
            OSError: when there is no room for them.
        """
        left = memoryview(piece)
        while left:
            left = left[os.write(self.descriptor, left) :]
        self.size += len(piece)

    def head(self, count: int) -> bytes:
        """The first bytes, `count` at most."""
        return os.pread(self.descriptor, count, 0)

    def content(self) -> bytes:
        """All bytes."""
        return self.head(self.size)

    def close(self) -> None:
        """Give back the memory; may be called again."""
        self._close()


def _opened() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("scan", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
