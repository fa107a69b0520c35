"""The service's application behind its own server on loopback, in this process and without weights."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from bundle.service import Settings
from bundle.service.app import Service, create_app
from bundle.service.connections import ServiceProtocol
from bundle.service.server import Server


class Running:
    """A running service: its port, its application, and how long its event loop computed without a pause.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        config = uvicorn.Config(
            self.app, http=ServiceProtocol, ws="none", loop="asyncio", backlog=16, access_log=False, log_config=None
        )
        self.server = Server(config, lambda: False)
        self.busy_s: list[float] = []

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def ask(self, content: bytes) -> bytes:
        """Send bytes over a new connection; everything that comes back until it is closed."""
        with self.connect() as connection:
            with suppress(OSError):
                connection.sendall(content)
            return received(connection)

    def status(self, path: str = "/livez") -> int:
        """Status of one request."""
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        return int(self.ask(head.encode()).split()[1])

    def run(self) -> None:
        """Serve until `server.should_exit`."""

        async def watch() -> None:
            while True:
                began = time.thread_time()
                await asyncio.sleep(0.005)
                self.busy_s.append(time.thread_time() - began)

        async def both() -> None:
            watching = asyncio.ensure_future(watch())
            await self.server._serve([self.listener])
            watching.cancel()

        asyncio.run(both())


def received(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    with suppress(OSError):
        while piece := connection.recv(2**16):
            found += piece
    return found


@contextmanager
def running(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Running]:
    """A service without weights, until the end of the block."""
    monkeypatch.setattr(Service, "load", lambda self: None)
    service = Running(Settings(**settings))
    thread = threading.Thread(target=service.run, daemon=True)
    thread.start()
    try:
        while not service.server.started:
            time.sleep(0.01)
        yield service
    finally:
        service.server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
