"""The application's side of the decoding process."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import STATUS, IntakeError
from .limits import Limits
from .memory_file import MemoryFile

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Decoded", "Sandbox"]

PACKAGES = Path(__file__).resolve().parents[2]  # where `bundle` is imported from
LONGEST_START_S = 300.0  # importing MONAI takes seconds, on a busy machine minutes
LONGEST_END_S = 5.0  # from the time limit until the kernel ends the process
LONGEST_HEAD_BYTES = 65536
DIED = "the decoding process ended unexpectedly, try again"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # it forks


class Decoded(NamedTuple):
    """A decoded file; also a reader for `LoadImage`, which takes any object with `read` and `get_data`.

    Args:
        array: (C, H, W, D), float32.
        meta: the reader's metadata, lists as arrays.
    """

    array: np.ndarray
    meta: dict[str, Any]

    def read(self, names: Any) -> Any:
        return names

    def get_data(self, _: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return self.array, self.meta


class Sandbox:
    """Decode files in a process of their own, several at the same time.

    Args:
        root: the bundle's folder; its inference config names the reader.
        settings: overrides of that config.
        workers: files that are decoded at the same time; others wait.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any], workers: int) -> None:
        self.root, self.settings = root, dict(settings)
        self._turns, self._guard = threading.BoundedSemaphore(workers), threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the process, or replace an ended one; does not wait until it is ready."""
        with self._guard:
            self._running()

    def close(self) -> None:
        """End the process and all its children."""
        with self._guard:
            self._end()

    def decode(self, files: Sequence[Path | MemoryFile], limits: Limits) -> Decoded:
        """Decode a scan: one file or folder, or one file per modality.

        Raises:
            IntakeError: when it is refused, takes too long, or the process ends unexpectedly.
        """
        with self._turns:
            for _ in range(2):  # try twice: the process may have ended before this scan
                job = self._hand_over()
                with job, job.makefile("rb") as stream:
                    held = [file.descriptor for file in files if isinstance(file, MemoryFile)]
                    paths = [None if isinstance(file, MemoryFile) else str(file) for file in files]
                    request = {"paths": paths, "limits": dataclasses.asdict(limits)}
                    try:
                        socket.send_fds(job, [b"+"], held)
                        job.sendall(json.dumps(request).encode() + b"\n")
                        if begun := stream.readline(LONGEST_HEAD_BYTES):
                            job.settimeout(limits.seconds + LONGEST_END_S)
                            return self._receive(stream, limits, begun, len(files))
                    except OSError:
                        continue
            raise IntakeError("worker_died", "the decoding process does not start")

    def _receive(self, stream: Any, limits: Limits, begun: bytes, files: int) -> Decoded:
        """Check and return the reply; the process has decoded untrusted bytes, so its reply is untrusted too."""
        import numpy as np

        try:
            head = json.loads(stream.readline(LONGEST_HEAD_BYTES) or b"null")
            if head is None:  # ended by the kernel
                late = time.monotonic() - float(begun) > 0.9 * limits.seconds
                reason = f"was not decoded within {limits.seconds:g} s" if late else DIED
                raise IntakeError("time_limit" if late else "worker_died", reason)
            if "code" in head:
                code = head["code"] if head["code"] in STATUS else "damaged"
                file = range(files)[head["file"]]
                raise IntakeError(code, " ".join(str(head["reason"]).split())[:200], file=file)
            shape = [int(side) for side in head["shape"]]
            if len(shape) != 4 or min(shape) < 1 or math.prod(shape) > limits.voxels:
                raise IntakeError("worker_died", DIED)
            array = np.empty(shape, dtype="<f4")
            if stream.readinto(array.data.cast("B")) != array.nbytes:
                raise IntakeError("worker_died", DIED)
            meta = {key: np.asarray(value) if isinstance(value, list) else value for key, value in head["meta"].items()}
            meta["affine"] = np.asarray(meta["affine"], dtype=np.float64).reshape(4, 4)
        except IntakeError:
            raise
        except Exception:  # not a reply
            raise IntakeError("worker_died", DIED) from None
        return Decoded(array, meta)

    def _hand_over(self) -> socket.socket:
        """Send the process one end of a new connection; return the other."""
        with self._guard:
            ours, theirs = socket.socketpair()
            ours.settimeout(LONGEST_START_S)
            with theirs:
                try:
                    socket.send_fds(self._running(), [b"+"], [theirs.fileno()])
                except BrokenPipeError:  # it has just ended
                    self._end()
                    socket.send_fds(self._running(), [b"+"], [theirs.fileno()])
            return ours

    def _running(self) -> socket.socket:
        """The control socket of a running process."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._control, theirs = socket.socketpair()
            module = [sys.executable, "-P", "-m", "bundle.intake.worker"]
            path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
            with theirs:  # its stderr is ours, for errors at the start; the children that decode have none
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [*module, str(theirs.fileno()), str(self.root), json.dumps(self.settings)],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
                    start_new_session=True,  # its own group: Ctrl-C reaches the application only; it ends the group
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
        return self._control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._control = self._process = None
