"""The whole malformed corpus against predictor, command line and service; HTTP as it should not be."""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.intake import STATUS, Intake, IntakeError
from tests.hostile import CLOSED, OK, Case, archive_cases, corpus, http_cases, sample, weights_cases
from tests.hostile.requests import HttpCase
from tests.sessions.serving import process

pytestmark = pytest.mark.session

LONGEST_S = 20.0
CASES = corpus()


def test_the_corpus_is_complete() -> None:
    count = len(CASES) + len(http_cases()) + len(list(archive_cases())) + len(list(weights_cases()))
    assert count >= 386 and len({str(case) for case in CASES}) == len(CASES)


@pytest.fixture(scope="module")
def predictor(weights: Path) -> Iterator[Predictor]:
    with Intake() as intake:
        yield Predictor(weights, intake=intake)


@pytest.fixture(scope="module")
def service(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with process("serve", log, "/readyz", "--model", str(weights)) as (address, _):
        yield address
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_predictor(case: Case, predictor: Predictor, pictures: list[bytes]) -> None:
    expected = predictor.predict(pictures[0])["result"]
    content, before, start = case.bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    try:
        predictor.predict(content)
        found = OK
    except IntakeError as error:
        found = error.code
        assert "\n" not in str(error)
    assert found in case.expected
    assert time.monotonic() - start < LONGEST_S
    if found != OK:
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "kilobytes"
    assert predictor.predict(pictures[0])["result"] == expected


@pytest.mark.parametrize("case", CASES, ids=str)
def test_service(case: Case, service: str, pictures: list[bytes]) -> None:
    with httpx2.Client(base_url=service, timeout=60) as client:
        expected = client.post("/predict_multitask", content=pictures[0]).content
        start = time.monotonic()
        prediction = client.post("/predict_multitask", files={"file": ("scan", case.bytes())})
        assert time.monotonic() - start < LONGEST_S
        found = OK if prediction.status_code == 200 else prediction.json()["code"]
        assert found in case.expected and prediction.status_code in (200, *STATUS.values())
        assert client.post("/predict_multitask", content=pictures[0]).content == expected


def test_command_line(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them in one run: every file has its reason or its prediction, and none stops the others."""
    (tmp_path / "in").mkdir()
    written = {str(case.write(tmp_path / "in")): case for case in CASES}
    code = main(["predict", *written, "--output", str(tmp_path / "out"), "--model", str(weights)])
    said = capsys.readouterr()
    index = json.loads((tmp_path / "out" / "index.json").read_text())["scans"]
    assert code == 2 and set(index) == set(written) and "Traceback" not in said.err
    for path, case in written.items():
        larger_limits = "too_large" in case.expected  # of the user's own files
        assert ("error" in index[path]) or OK in case.expected or larger_limits, case
        assert ("error" not in index[path]) or case.expected != (OK,), case


@pytest.mark.parametrize("case", http_cases(), ids=str)
def test_http(case: HttpCase, service: str) -> None:
    host = service.removeprefix("http://")
    name, _, port = host.partition(":")
    statuses = []
    with socket.create_connection((name, int(port)), timeout=30) as line:
        start = time.monotonic()
        try:
            for step in case.steps(host, "/predict_multitask"):
                if isinstance(step, float):
                    time.sleep(step)
                else:
                    line.sendall(step)
        except OSError:
            pass  # the service had enough
        statuses = _statuses(line, case.predictions)
    assert time.monotonic() - start < 45
    assert set(statuses or [CLOSED]) <= set(case.expected)
    assert httpx2.get(f"{service}/livez", timeout=10).status_code == 200


def _statuses(line: socket.socket, most: int) -> list[int]:
    """Statuses of the predictions on a connection, until it ends or falls silent."""
    received = b""
    line.settimeout(15)
    try:
        while received.count(b"HTTP/1.1 ") < most and (piece := line.recv(65536)):
            received += piece
    except OSError:
        pass
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("case", sample(4, seed=2), ids=str)
def test_command_line_as_a_process(case: Case, weights: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    path = case.write(tmp_path)
    command = [sys.executable, "-m", "bundle", "predict", str(path), "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--model", str(weights)], capture_output=True, text=True, check=False)
    larger_limits = "too_large" in case.expected  # of the user's own files
    assert done.returncode == (0 if case.expected == (OK,) else 2) or OK in case.expected or larger_limits
    assert "Traceback" not in done.stderr
