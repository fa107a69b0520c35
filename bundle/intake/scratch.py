"""Where bytes lie while they are decoded: a folder that only this user can read, gone when the process is."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Scratch"]

PREFIX = "bundle-intake-"
LOCK = ".lock"  # held for as long as the folder is in use, by the kernel's own account
YOUNGEST_STALE_S = 60.0  # a folder that is being made has no lock yet


class Scratch:
    """A private folder for the files of requests; those that killed processes left behind are swept when it is made."""

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))  # 0700
        self._lock = os.open(self.folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    @contextmanager
    def request(self) -> Iterator[Path]:
        """A folder for one request, removed at its end."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read."""
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)


def sweep(parent: Path) -> None:
    """Remove this user's scratch folders that nobody holds any more."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            status = folder.lstat()
            if status.st_uid != os.getuid() or folder.is_symlink() or time.time() - status.st_mtime < YOUNGEST_STALE_S:
                continue
            with (folder / LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, or removed by another process meanwhile
            continue
