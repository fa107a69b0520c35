"""Predictions per CPU second of the web service, against the passes of the same slices alone."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from socket import socket
from typing import Any

import numpy as np

from .clock import Measured
from .comparison import Benchmark, Number, Prepare
from .material import ROOT, Material
from .processes import environment

__all__ = ["BENCHMARKS"]

CLIENTS = {1: 0.9, 8: 0.95, 32: 0.95}  # clients at a time, and the goal
REQUESTS = 32
SLICES = 24  # of the volume that is sent
LONGEST_START_S, LONGEST_REQUEST_S = 120.0, 300.0
ECHO = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
"""


def loads(material: Material) -> Mapping[str, Prepare]:
    """Requests by some clients at a time; the result is the server's CPU seconds for one request."""
    return {
        "raw forward": lambda: forward(material),
        **{f"{clients} clients": partial(served, material, clients) for clients in CLIENTS},
        "uvicorn alone": lambda: echoed(material),
    }


def volume(material: Material) -> Any:
    """Path of the volume that is sent."""
    return next(material.volumes(1, SLICES).rglob("*_flair.nii.gz"))


def forward(material: Material) -> Callable[[], float]:
    """The passes of the volume's slices; returns their CPU seconds."""
    from scripts.transforms.preprocessing import tissue_of

    item = material.predictor.parts["preprocessing"]({"image": material.predictor.read(volume(material))}, start=1)
    slices = item["image"].as_tensor().permute(3, 0, 1, 2).contiguous()
    work = material.raw_forward(slices[tissue_of(slices).sum(dim=(1, 2)) >= 1500])

    def run() -> float:
        work()
        began = time.process_time()
        for _ in range(4):
            work()
        return (time.process_time() - began) / 4

    return run


def served(material: Material, clients: int) -> Callable[[], float]:
    """Requests to `python -m bundle serve`."""
    words = ("-m", "bundle", "serve", "--port")
    path = volume(material)

    def run() -> float:
        began = time.process_time()
        for _ in range(4):
            material.decode(path)
        decoding_s = (time.process_time() - began) / 4
        return decoding_s + cpu_s_of_request(words, "/readyz", "/predict_multitask", path.read_bytes(), clients)

    return run


def echoed(material: Material) -> Callable[[], float]:
    """The same requests to uvicorn with an application that does nothing."""
    import uvicorn  # noqa: F401

    folder = material.folder / "echo"
    folder.mkdir(exist_ok=True)
    (folder / "echo.py").write_text(ECHO)
    words = ("-m", "uvicorn", "echo:app", "--app-dir", str(folder), "--log-level", "warning", "--port")
    return lambda: cpu_s_of_request(words, "/", "/", volume(material).read_bytes(), max(CLIENTS))


def cpu_s_of_request(words: tuple[str, ...], ready: str, path: str, content: bytes, clients: int) -> float:
    """Start a server, send requests, end it; CPU seconds of the server for one request."""
    import psutil

    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, *words, str(port)]
    quiet: Any = subprocess.DEVNULL
    server = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=quiet, stderr=quiet)  # noqa: S603
    try:
        until = time.monotonic() + LONGEST_START_S
        while status_of(port, "GET", ready) != 200:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{' '.join(words)}: the server did not start")
            time.sleep(0.2)
        process = psutil.Process(server.pid)
        requests = max(REQUESTS if clients > 1 else REQUESTS // 4, 1)
        status_of(port, "POST", path, content)
        before = cpu_s(process)
        with ThreadPoolExecutor(clients) as pool:
            found = list(pool.map(lambda _: status_of(port, "POST", path, content), range(requests)))
        if set(found) != {200}:
            raise RuntimeError(f"{path}: statuses {sorted(set(found))}")
        return (cpu_s(process) - before) / requests
    finally:
        server.terminate()
        server.wait(60)


def cpu_s(process: Any) -> float:
    """CPU seconds of a process and its living children."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def status_of(port: int, method: str, path: str, content: bytes | None = None) -> int:
    """HTTP status of a request, 0 without a connection; of one that takes longer, when its job is done."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_REQUEST_S)
    try:
        connection.request(method, path, body=content)
        response = connection.getresponse()
        response.read()
        while response.status == HTTPStatus.ACCEPTED:
            time.sleep(1.0)
            connection.request("GET", str(response.getheader("Location")))
            response = connection.getresponse()
            response.read()
        return response.status
    except OSError:
        return 0
    finally:
        connection.close()


def share(name: str) -> Callable[[Mapping[str, Measured]], float]:
    """Raw forward's CPU time divided by that of one request."""
    return lambda found: float(found["raw forward"].result / found[name].result)


def floor(found: Mapping[str, Measured]) -> float:
    """CPU time of a request to uvicorn alone, divided by raw forward's."""
    return float(np.divide(found["uvicorn alone"].result, found["raw forward"].result))


BENCHMARKS = [
    Benchmark(
        "service",
        loads,
        [
            *(
                Number(
                    f"raw forward of a volume's slices / its request to the service, clients at a time: {clients}",
                    *(["raw forward", f"{clients} clients"], share(f"{clients} clients"), goal),
                    *("ratio of CPU time", "at least"),
                )
                for clients, goal in CLIENTS.items()
            ),
            Number(
                "the same request to uvicorn alone / raw forward",
                *(["raw forward", "uvicorn alone"], floor, 0.02, "ratio of CPU time"),
            ),
        ],
        rounds=1,
        is_long=True,
    )
]
