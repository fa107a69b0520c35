"""What happens to a run: SIGKILL at a time or inside a write, a failing write, a full disk, damaged checkpoints."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.core.files import sha256_of

Run = Callable[..., None]
Trouble = Callable[[], None]

FORKS = multiprocessing.get_context("forkserver")  # each process starts with everything imported, in milliseconds
FORKS.set_forkserver_preload(["tests.survival.runs"])


def start(run: Run, *arguments: Any, log: Path, trouble: Trouble | None = None) -> Any:
    """Start a run in another process, which begins with a trouble."""
    process = FORKS.Process(target=_as_command, args=(run, arguments, log, trouble))
    process.start()
    return process


def finish(run: Run, *arguments: Any, log: Path, trouble: Trouble | None = None) -> int:
    """Run to the end; return the exit code, of a signal its negative number."""
    process = start(run, *arguments, log=log, trouble=trouble)
    process.join(900)
    assert process.exitcode is not None, f"still running, see {log}"
    return int(process.exitcode)


def _as_command(run: Run, arguments: tuple[Any, ...], log: Path, trouble: Trouble | None) -> None:
    """As the command line: an error of the input is one line and the exit code 2."""
    from bundle.errors import reason_of

    logging.getLogger("ignite").setLevel(logging.CRITICAL)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        if trouble is not None:
            trouble()
        try:
            run(*arguments)
        except Exception as error:
            reason = reason_of(error)
            if reason is None:
                raise
            print(f"error: {reason}", file=sys.stderr, flush=True)
            raise SystemExit(2) from None


def kill_at_random(run: Run, *arguments: Any, log: Path, kills: int, within: float, seed: int = 0) -> int:
    """Start a run again and again and kill it with SIGKILL; return how often it was killed before its end."""
    rng = random.Random(seed)
    for done in range(kills):
        process = start(run, *arguments, log=log)
        process.join(rng.uniform(0.0, within))
        if process.exitcode == 0:
            return done
        process.kill()
        process.join()
    return kills


class AtWrite:
    """Trouble at the k-th operation of writing a file: opened, written to, synchronized, renamed, folder synchronized.

    Args:
        k: number of the operation, from 1.
        kill: SIGKILL before the operation, else the operation fails as on a full disk.
    """

    def __init__(self, k: int, kill: bool = False) -> None:
        self.k, self.kill, self.count = k, kill, 0

    def __call__(self) -> None:
        import torch

        Path.open = self._counted(Path.open, lambda arguments: "w" in str(arguments[1:]))  # type: ignore[method-assign]
        Path.replace = self._counted(Path.replace)  # type: ignore[method-assign]
        os.fsync = self._counted(os.fsync)
        torch.save = self._counted(torch.save)

    def _counted(self, function: Callable[..., Any], counts: Callable[[Any], bool] = bool) -> Callable[..., Any]:
        def operation(*arguments: Any, **options: Any) -> Any:
            self.count += bool(counts(arguments))
            if self.count == self.k and counts(arguments):
                if self.kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.count += 1
                named = [str(arguments[0])] if isinstance(arguments[0], Path) else []
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *named)
            return function(*arguments, **options)

        return operation


class LimitedSize:
    """A limit of the size of files, in bytes: writing beyond it fails, as on a full disk."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self) -> None:
        from resource import RLIMIT_FSIZE, setrlimit

        setrlimit(RLIMIT_FSIZE, (self.size, self.size))


def damage(path: Path, seed: int) -> None:
    """Cut a file, or flip one of its bits, at a random place."""
    rng, content = random.Random(seed), bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if seed % 2:
        path.write_bytes(content[:place])
    else:
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def result(folder: Path) -> str:
    """Hash of a run's weights; no temporary file may be left."""
    left = list(folder.rglob(".*.tmp"))
    assert not left, left
    return sha256_of(folder / "model.pt")


def seconds_of(job: Callable[[], Any]) -> float:
    """How long a job takes."""
    began = time.monotonic()
    job()
    return time.monotonic() - began
