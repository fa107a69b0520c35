"""Whole processes on loopback, for the suites that are too slow for `make test`: `pytest -m session`, or nox."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LONGEST_START_S = 180.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: str, log: Path, ready: str, *arguments: str, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`python -m bundle COMMAND` on a free port, until the end of the block; its address and itself."""
    port = free_port()
    words = [sys.executable, "-m", "bundle", command, "--port", str(port), *arguments]
    with log.open("wb") as output:
        started = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        address = f"http://127.0.0.1:{port}"
        await_prediction(f"{address}{ready}", started, log)
        yield address, started
    finally:
        if started.poll() is None:
            started.terminate()
        try:
            started.wait(40)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextmanager
def running(command: list[str], place: Path, environment: dict[str, str], ready: str) -> Iterator[None]:
    """A process, from when an address predictions until the end of the block."""
    log = place / "log.txt"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=place, stdout=output, stderr=output, env=environment)
        try:
            await_prediction(ready, server, log)
            yield
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def await_prediction(address: str, started: subprocess.Popen[bytes], log: Path) -> None:
    """Until an address predictions with 200."""
    until = time.monotonic() + LONGEST_START_S
    while time.monotonic() < until:
        if started.poll() is not None:
            raise AssertionError(f"ended with {started.returncode}: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(address, timeout=5) as prediction:
                if prediction.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.5)
    raise AssertionError(f"{address} did not prediction: {log.read_text()[-2000:]}")


@pytest.fixture(scope="session")
def weights() -> Path:
    """The released weights: these suites are about what is shipped."""
    return ROOT / "models" / "model.pt"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A few phantoms, as PNG."""
    import io

    from PIL import Image

    from bundle.datasets.phantoms import write_images

    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder, 8)
    found = []
    for path in sorted(folder.rglob("*.*")):
        buffer = io.BytesIO()
        Image.open(path).convert("L").save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found
