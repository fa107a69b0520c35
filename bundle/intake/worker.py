"""The decoding process: loads the bundle's reader once, then forks a child for every request.

A child inherits the reader and runs for one request, under limits of its own. A memory leak, a crash or an endless loop
ends with the child, and the next request gets a new one. A request is JSON, its reply JSON and raw bytes. Started by
`sandbox.py`; never imported by the application.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ..core import filenames, geometry
from ..loading import parse
from .errors import STATUS, IntakeError
from .headers import examine, require_voxels
from .isolation import Isolation
from .limits import Limits
from .memory_file import path_of_descriptor
from .sandbox import SEGMENT

READER = "preprocessing#transforms#0#reader"  # in configs/inference.yaml
SEGMENTATION = "dicom_segmentation"
HERE = Path(__file__).resolve().parents[1]
STATM = Path("/proc/self/statm")
MOST_FILES = 16  # without a name, of one request
LARGEST_VALUE = 1e18  # its square is still a float32


Segment = Callable[..., bytes]


class Tools(NamedTuple):
    """What a child inherits.

    Args:
        reader: of scans.
        segment: (file or folder, mask, model, regions) -> DICOM SEG, see `scripts/dicom/segmentation.py`.
        isolation: from network and files.
    """

    reader: Any
    segment: Segment
    isolation: Isolation


def load_reader(root: Path, settings: Mapping[str, Any]) -> Any:
    """Make the reader that the bundle's inference config names.

    Args:
        root: the bundle's folder.
        settings: overrides of the config.
    """
    return parse("inference.yaml", [READER], root, **settings)[READER]


def load_segmentation(root: Path, settings: Mapping[str, Any]) -> Segment:
    """The function that encodes a mask as DICOM SEG; see `load_reader`."""
    segment: Segment = parse("inference.yaml", [SEGMENTATION], root, **settings)[SEGMENTATION]
    return segment


def supervise(control: socket.socket, tools: Tools) -> None:
    """Fork the server, and a new one whenever it ends; this process itself never touches untrusted bytes."""
    while True:
        server = os.fork()
        if server == 0:
            serve(control, tools)
        os.waitpid(server, 0)


def serve(control: socket.socket, tools: Tools) -> None:
    """Fork a child for every socket received; end with all children when the application ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    while True:
        message, sockets, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            os.killpg(0, signal.SIGKILL)
        if message == SEGMENT:
            _load_highdicom()
        for descriptor in sockets:
            if os.fork() == 0:
                try:
                    reply(socket.socket(fileno=descriptor), tools)
                finally:
                    os._exit(0)
            os.close(descriptor)


def reply(job: socket.socket, tools: Tools) -> None:
    """Read one request, confine this process, and send the array or the DICOM SEG, or the reason of the refusal."""
    _, descriptors, _, _ = socket.recv_fds(job, 1, MOST_FILES)
    with job, job.makefile("rb") as stream:
        request = json.loads(stream.readline())
        limits = Limits(**request["limits"])
        began_s = time.monotonic()  # the time limit starts here; all processes share this clock
        job.sendall(f"{began_s} {os.getpid()}\n".encode())
        unnamed = iter(descriptors)
        paths = [path_of_descriptor(next(unnamed)) if path is None else Path(path) for path in request["paths"]]
        confine(limits)
        named = [p for p, name in zip(paths, request["paths"], strict=True) if name not in (None, filenames.ABSENT)]
        tools.isolation.enter(near for path in named for near in (path, *path.parents[:2]) if near != Path("/"))
        try:
            if "mask" in request:
                mask = np.frombuffer(path_of_descriptor(next(unnamed)).read_bytes(), np.uint8)
                labels = mask.reshape(request["mask"])
                content = tools.segment(paths[0], labels, request["model"], regions=request["regions"])
                job.sendall(json.dumps({"bytes": len(content)}).encode() + b"\n" + content)
                return
            array, meta = decode(paths, tools.reader, limits)
        except Exception as error:  # any error is due to the untrusted bytes
            code, reason, file = explain(error, paths)
            job.sendall(json.dumps({"code": code, "reason": reason, "file": file}).encode() + b"\n")
            return
        order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])  # as it lies in memory
        head = {"shape": array.shape, "order": order, "meta": {key: _plain(value) for key, value in meta.items()}}
        job.sendall(json.dumps(head).encode() + b"\n")
        job.sendall(np.ascontiguousarray(array.transpose(order)).data.cast("B"))


def confine(limits: Limits) -> None:
    """Let the kernel limit this process's time and memory, and forbid it to write files."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # warnings of libraries may contain values of the file
        os.dup2(null, stream)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    bounds = {
        resource.RLIMIT_CPU: math.ceil(limits.seconds) + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    if STATM.exists():  # Linux; other systems do not limit address space
        used = int(STATM.read_text().split()[0]) * resource.getpagesize()
        bounds[resource.RLIMIT_AS] = used + limits.memory_bytes
    for name, bound in bounds.items():
        resource.setrlimit(name, (bound, bound))


def decode(paths: Sequence[Path], reader: Any, limits: Limits) -> tuple[np.ndarray, dict[str, Any]]:
    """Check headers, decode by the bundle's reader, check values: (C, H, W, D) float32, and metadata."""
    voxels, contents = 0, getattr(reader, "contents", None)
    for index, path in enumerate(paths):
        try:
            voxels += examine(path, limits, contents) if str(path) != filenames.ABSENT else 0
        except IntakeError as error:
            error.file = index
            raise
    require_voxels(voxels, limits)
    array, meta = reader.get_data(reader.read([str(path) for path in paths]))
    require_voxels(array.size, limits)  # with the channels of missing sequences
    require_slices(array.shape[1:], meta["affine"], limits)
    if array.size and max(array.max(), -array.min()) > LARGEST_VALUE:
        raise IntakeError("nonfinite", f"contains values beyond {LARGEST_VALUE:g}")
    return np.asarray(array, dtype="<f4"), meta


def require_slices(shape: Sequence[int], affine: np.ndarray, limits: Limits) -> None:
    """Check the number of slices, along the axis nearest to superior-inferior, against the limit."""
    try:
        axis, _ = geometry.slice_axis(affine)
    except ValueError as error:
        raise IntakeError("header", str(error)) from None
    if (slices := shape[axis]) > limits.slices:
        raise IntakeError("too_large", f"{slices} slices, {limits.slices} are allowed")


def explain(error: Exception, paths: Sequence[Path]) -> tuple[str, str, int]:
    """Code, reason and index of the file; no text of the file reaches the application."""
    if isinstance(error, IntakeError):
        return error.code, error.reason, error.file
    if isinstance(error, MemoryError):
        return "memory", "needs more memory than is allowed", 0
    ours = type(error).__module__.startswith("scripts.")  # a message of a library may contain values of the file
    code, reason = (getattr(error, "code", None), getattr(error, "reason", str(error))) if ours else (None, None)
    if code not in STATUS or not isinstance(reason, str):
        return "damaged", f"cannot be decoded ({type(error).__name__})", 0
    places = [index for index, path in enumerate(paths) if str(error).startswith(f"{path}: ")]
    return code, reason, places[0] if places else 0


def _load_highdicom() -> None:
    """Load it once, for all children that need it; its absence is reported by the child."""
    with suppress(ImportError):
        import highdicom  # noqa: F401


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def main() -> None:
    """Load the reader of the bundle named in the arguments, then serve."""
    descriptor, root, settings = sys.argv[1:]
    folder, overrides = Path(root), json.loads(settings)
    own = [HERE, *(folder / name for name in ("scripts", "configs", "models"))]
    tools = Tools(load_reader(folder, overrides), load_segmentation(folder, overrides), Isolation(own))
    Image.init()  # the children inherit Pillow's formats
    supervise(socket.socket(fileno=int(descriptor)), tools)


if __name__ == "__main__":
    main()
