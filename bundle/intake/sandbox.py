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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..core import file_types
from .errors import STATUS, IntakeError
from .interrupt import Interrupt
from .limits import Limits
from .memory_file import MemoryFile

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["DECODE", "SEGMENT", "Decoded", "Sandbox"]

T = TypeVar("T")

PACKAGES = Path(__file__).resolve().parents[2]  # where `bundle` is imported from
LONGEST_START_S = 300.0  # importing MONAI takes seconds, on a busy machine minutes
LONGEST_END_S = 5.0  # from the time limit until the kernel ends the process
LONGEST_HEAD_BYTES = 65536
DECODE, SEGMENT = b"+", b"s"  # what a child is made for
TOKEN = "BUNDLE_TOKEN"  # noqa: S105 - the name of a variable that the process does not get
DIED = "the decoding process ended unexpectedly"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # it forks


class Decoded(NamedTuple):
    """A decoded file; also a reader for `LoadImage`, which takes any object with `read` and `get_data`.

    Args:
        array: (C, H, W, D), float32, in memory as the file has it: a NIfTI's slices lie one after another.
        meta: the reader's metadata, lists as arrays.
    """

    array: np.ndarray
    meta: dict[str, Any]

    def read(self, names: Any) -> Any:
        return names

    def get_data(self, _: Any) -> tuple[Tensor, dict[str, Any]]:
        import torch

        return torch.from_numpy(self.array), self.meta  # MONAI copies arrays into the order of their axes, tensors not


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

    def decode(self, files: Sequence[Path | MemoryFile], limits: Limits, interrupt: Interrupt | None = None) -> Decoded:
        """Decode a scan: one file or folder, or one file per modality.

        Raises:
            IntakeError: when it is refused, takes too long, or the process ends unexpectedly.
            Interrupted: when the interrupt is set.
        """
        held = [file for file in files if isinstance(file, MemoryFile)]
        return self._ask(DECODE, {}, files, held, limits, _decoded, interrupt or Interrupt())

    def segment(
        self,
        source: Path | MemoryFile,
        mask: np.ndarray,
        model: Mapping[str, Any],
        limits: Limits,
        regions: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """Encode a mask as DICOM SEG, which reads the attributes of the scan's files.

        Args:
            source: file or folder of the series.
            mask: (H, W, D), uint8.
            model: "version" and "sha256" of the weights.
            limits: for time and memory.
            regions: of the mask, see `segmentation_of`.

        Raises:
            IntakeError: when the series lacks what a segmentation needs.
        """
        held = [file for file in (source, MemoryFile(mask.tobytes())) if isinstance(file, MemoryFile)]
        request = {"mask": mask.shape, "model": {name: model[name] for name in ("version", "sha256")}}
        request["regions"] = list(regions)
        return self._ask(SEGMENT, request, [source], held, limits, _encoded, Interrupt())

    def _ask(
        self,
        kind: bytes,
        request: Mapping[str, Any],
        files: Sequence[Path | MemoryFile],
        held: Sequence[MemoryFile],
        limits: Limits,
        take: Callable[[Any, Mapping[str, Any], Limits], T],
        interrupt: Interrupt,
    ) -> T:
        """Send one request to a new child.

        Args:
            kind: of child.
            request: what else it is told.
            files: that it reads, by their path or, as those without one, by their place in `held`.
            held: files without a path.
            limits: of the request.
            take: checks and returns the reply, from its stream and first line.
            interrupt: ends the child.
        """
        paths = [None if isinstance(file, MemoryFile) else str(file) for file in files]
        line = json.dumps({**request, "paths": paths, "limits": dataclasses.asdict(limits)}).encode() + b"\n"
        with self._turns:
            for _ in range(2):  # try twice: the process may have ended before this scan
                interrupt.check()
                job = self._hand_over(kind)
                with job, job.makefile("rb") as stream:
                    try:
                        socket.send_fds(job, [DECODE], [file.descriptor for file in held])
                        job.sendall(line)
                        if begun := stream.readline(LONGEST_HEAD_BYTES):
                            job.settimeout(limits.seconds + LONGEST_END_S)
                            time_s, _, process = begun.partition(b" ")
                            with interrupt.ending(int(process) if process.strip().isdigit() else -1):
                                return _received(stream, limits, time_s, len(files), take)
                    except IntakeError:
                        interrupt.check()
                        raise
                    except OSError:
                        continue
            raise IntakeError("worker_died", "the decoding process does not start")

    def _hand_over(self, kind: bytes) -> socket.socket:
        """Send the process one end of a new connection, for a child of this kind; return the other."""
        with self._guard:
            ours, theirs = socket.socketpair()
            ours.settimeout(LONGEST_START_S)
            with theirs:
                try:
                    socket.send_fds(self._running(), [kind], [theirs.fileno()])
                except BrokenPipeError:  # it has just ended
                    self._end()
                    socket.send_fds(self._running(), [kind], [theirs.fileno()])
            return ours

    def _running(self) -> socket.socket:
        """The control socket of a running process."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._control, theirs = socket.socketpair()
            module = [sys.executable, "-P", "-m", "bundle.intake.worker"]
            path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
            environment = {name: value for name, value in os.environ.items() if name != TOKEN}
            with theirs:  # its stderr is ours, for errors at the start; the children that decode have none
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [*module, str(theirs.fileno()), str(self.root), json.dumps(self.settings)],
                    pass_fds=[theirs.fileno()],
                    env={**environment, **ONE_THREAD, "PYTHONPATH": path},
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


def _received(
    stream: Any, limits: Limits, begun: bytes, files: int, take: Callable[[Any, Mapping[str, Any], Limits], T]
) -> T:
    """Check and return the reply; the process has read untrusted bytes, so its reply is untrusted too."""
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
        return take(stream, head, limits)
    except IntakeError:
        raise
    except Exception:  # not a reply
        raise IntakeError("worker_died", DIED) from None


def _decoded(stream: Any, head: Mapping[str, Any], limits: Limits) -> Decoded:
    """The array and its metadata."""
    import numpy as np

    shape, order = [int(side) for side in head["shape"]], [int(axis) for axis in head["order"]]
    if sorted(order) != [0, 1, 2, 3] or len(shape) != 4 or min(shape) < 1 or math.prod(shape) > limits.voxels:
        raise IntakeError("worker_died", DIED)
    memory = np.empty([shape[axis] for axis in order], dtype="<f4")
    if stream.readinto(memory.data.cast("B")) != memory.nbytes:
        raise IntakeError("worker_died", DIED)
    array = memory.transpose(np.argsort(order))
    meta = {key: np.asarray(value) if isinstance(value, list) else value for key, value in head["meta"].items()}
    meta["affine"] = np.asarray(meta["affine"], dtype=np.float64).reshape(4, 4)
    return Decoded(array, meta)


def _encoded(stream: Any, head: Mapping[str, Any], limits: Limits) -> bytes:
    """The DICOM SEG: a bit for each voxel, and the attributes of the series."""
    size = int(head["bytes"])
    if not 0 < size <= limits.voxels + limits.request_bytes:
        raise IntakeError("worker_died", DIED)
    content = bytes(stream.read(size))
    if len(content) != size or file_types.file_type_of(content) != "dicom":
        raise IntakeError("worker_died", DIED)
    return content
