"""A temporary folder for bytes during decoding: readable by this user only, removed when the process ends."""

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
LOCK = ".lock"  # held while the folder is in use; the kernel releases it
YOUNGEST_STALE_S = 60.0  # a new folder has no lock yet


class Scratch:
    """A private folder for the files of requests; creating it removes the folders of killed processes."""

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
    """Remove this user's scratch folders that are not in use any more."""
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
