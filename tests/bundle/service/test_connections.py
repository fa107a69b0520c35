"""Connections that cost much and ask nothing: crumbs, endless headers, idle ones."""

from __future__ import annotations

import http.client
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse

from bundle.service import connections
from bundle.service.connections import FEWEST, ServiceProtocol, most_connections
from tests.bundle.service.loopback import Running, received, running

ONE_BYTE_CHUNKS = """
import socket, sys, threading, time
port, count, end = int(sys.argv[1]), int(sys.argv[2]), time.time() + 3
def send():
    while time.time() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                s.sendall(sys.argv[3].encode())
                while time.time() < end:
                    s.sendall(b"1\\r\\nx\\r\\n" * 20000)
        except OSError:
            time.sleep(0.01)
threads = [threading.Thread(target=send) for _ in range(count)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
CHUNKED = "POST /predict_multitask HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"POST /predict_multitask HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with running(monkeypatch) as found:
        yield found


def test_one_byte_chunks_of_20_connections_do_not_hold_the_event_loop(service: Running) -> None:
    sender = subprocess.Popen([sys.executable, "-c", ONE_BYTE_CHUNKS, str(service.port), "20", CHUNKED])
    statuses = []
    while sender.poll() is None:
        statuses.append(service.status())
        time.sleep(0.05)
    assert sender.returncode == 0 and set(statuses) == {200}
    assert max(service.busy_s) < 0.25


def test_chunks_of_a_usual_size_are_read(service: Running) -> None:
    body = (b"400\r\n" + bytes(1024) + b"\r\n") * 2048 + b"0\r\n\r\n"
    answer = service.ask(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body)
    assert b"503" in answer.splitlines()[0] and b"not_ready" in answer


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
        b"GET /" + b"x" * 2**20 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        HEAD + b"X: " + b"y" * 2**22,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
    ],
    ids=["many headers", "long address", "long header", "many trailers"],
)
def test_too_long_a_head_is_refused(service: Running, content: bytes) -> None:
    began = time.monotonic()
    assert not service.ask(content).startswith(b"HTTP/1.1 2")
    assert time.monotonic() - began < 5 and service.status() == 200


def test_pipelined_requests_are_bounded(service: Running) -> None:
    asked = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert service.ask(asked * 50_000).count(b"HTTP/1.1 200") < 1000
    assert max(service.busy_s) < 0.25 and service.status() == 200


def test_a_connection_is_kept_for_the_next_request(service: Running) -> None:
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    for _ in range(3):
        client.request("POST", "/predict_multitask", body=bytes(2**20))
        assert b"not_ready" in client.getresponse().read()
    client.close()


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: "])
def test_a_connection_that_asks_nothing_is_closed(
    service: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.2)
    began = time.monotonic()
    assert service.ask(sent) == b"" and time.monotonic() - began < 5


def test_the_rest_of_an_answered_request_is_waited_for_shortly(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.2)
    with service.connect() as client:
        client.sendall(b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nx")
        began = time.monotonic()
        assert b" 404 " in received(client) and time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [b"", HEAD + b"Content-Length: 9\r\n\r\nx"], ids=["idle", "slow upload"])
def test_idle_connections_leave_room_for_others(service: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(ServiceProtocol, "most", 8)
    held: list[socket.socket] = []
    for _ in range(40):
        held.append(service.connect())
        held[-1].sendall(sent)
    assert [service.status() for _ in range(5)] == [200] * 5
    assert len(service.server.server_state.connections) <= 9
    for one in held:
        one.close()


def test_an_answer_that_is_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DRAIN_S", 0.2)
    with running(monkeypatch) as service:
        service.app.add_api_route("/large", lambda: PlainTextResponse("x" * 2**25))
        with service.connect() as client:
            client.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            until = time.monotonic() + 10
            while not service.server.server_state.connections and time.monotonic() < until:
                time.sleep(0.01)
            while service.server.server_state.connections and time.monotonic() < until:
                time.sleep(0.01)
            assert not service.server.server_state.connections


def test_the_number_of_connections_leaves_files_for_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = {resource.RLIMIT_NOFILE: (100, 300)}
    monkeypatch.setattr(resource, "getrlimit", lambda name: limits[name])
    monkeypatch.setattr(resource, "setrlimit", lambda name, pair: limits.update({name: pair}))
    monkeypatch.setattr(connections, "OPEN_FILES", tmp_path)
    for number in range(20):
        (tmp_path / str(number)).touch()
    assert most_connections(512, 16, 64) == (300 - 20 - connections.RESERVED_FILES - 16 - 64) // 2
    assert limits[resource.RLIMIT_NOFILE] == (300, 300)
    limits[resource.RLIMIT_NOFILE] = (64, 64)
    assert most_connections(512, 16, 64) == FEWEST
    limits[resource.RLIMIT_NOFILE] = (resource.RLIM_INFINITY,) * 2
    assert most_connections(512, 16, 64) == 512
