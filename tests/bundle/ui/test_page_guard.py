"""The page refuses foreign hosts and pages, and asks no outside address."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from bundle.service import Settings
from bundle.ui.page_guard import PageGuardMiddleware


def client_of(token: str | None) -> TestClient:
    """A client of an application behind the guard."""

    async def home(_: Any) -> PlainTextResponse:
        return PlainTextResponse("page")

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    chosen = Settings(token=token)
    guard = Middleware(PageGuardMiddleware, known_hosts=chosen.known_hosts if token is None else None)
    app = Starlette(routes=[Route("/", home), WebSocketRoute("/stream", stream)], middleware=[guard])
    return TestClient(app, base_url="http://127.0.0.1:8501")


@pytest.mark.parametrize(
    ("token", "host", "origin", "passes"),
    [
        (None, "127.0.0.1:8501", None, True),
        (None, "localhost:8501", "http://localhost:8501", True),
        (None, "evil.example:8501", "http://evil.example:8501", False),
        (None, "[::1]evil", None, False),
        (None, "127.0.0.1:8501", "http://evil.example", False),
        (None, "127.0.0.1:8501", "null", False),
        (None, "[::1]:8501", "http://[::1]:8000", False),
        ("a token of some length", "scanner.hospital.example", "https://scanner.hospital.example", True),
        ("a token of some length", "scanner.hospital.example", "https://evil.example", False),
    ],
)
def test_only_our_host_and_our_page_pass(token: str | None, host: str, origin: str | None, passes: bool) -> None:
    client, headers = client_of(token), {"Host": host, **({"Origin": origin} if origin else {})}
    assert client.get("/", headers=headers).status_code == (200 if passes else 400)
    if passes:
        with client.websocket_connect("/stream", headers=headers):
            pass
    else:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/stream", headers=headers):
            pass
