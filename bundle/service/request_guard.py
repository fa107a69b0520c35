"""The outermost layer: every request gets an id, limits on its bytes and its time, and one line in the log.

Bytes are counted before they are parsed, with or without Content-Length. The log contains no file name, header or
query.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import NOTICE
from .access import host_name
from .metrics import Metrics
from .problems import Problem, problem_response
from .settings import Settings
from .upload_room import Upload, UploadRoom

__all__ = ["RequestGuardMiddleware"]

LOG = logging.getLogger("bundle.service")
MOST_HEADERS, HEADER_BYTES = 100, 32 * 1024
LENGTH_DIGITS = 18
FORM_OVERHEAD = 64 * 1024  # bytes that a form may add to its files
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Notice": NOTICE,
}


class RequestGuardMiddleware:
    """Wrap the application.

    Args:
        app: the application.
        settings: limits and host names.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.room = UploadRoom(settings.upload_bytes)
        self.secret = secrets.token_bytes(32)  # keys the hashes of bodies in the log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await RequestContext(self, scope, receive, send).run()


class RequestContext:
    """One request and its response."""

    def __init__(self, guard: RequestGuardMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.scope, self.receive_from_client, self.send_to_client = guard, scope, receive, send
        self.id, self.began = secrets.token_hex(8), time.monotonic()
        self.headers = Headers(scope=scope)
        a_form = self.headers.get("content-type", "").lower().startswith("multipart/form-data")
        self.limit = guard.settings.limits.request_bytes + (FORM_OVERHEAD if a_form else 0)
        self.received, self.status, self.done = 0, 0, False
        self.digest = hmac.new(guard.secret, digestmod=hashlib.sha256)
        self.upload = Upload(guard.room)
        scope["request_id"], scope["upload"] = self.id, self.upload

    async def run(self) -> None:
        """Pass the request on; turn any error into a response."""
        try:
            self.check()
            await self.guard.app(self.scope, self.receive, self.send)
        except ClientDisconnect:
            pass  # there is nobody to respond to
        except Exception as error:
            if not isinstance(error, Problem):
                LOG.error("%s failed: %s", self.id, type(error).__name__)
            if self.status == 0:
                response = problem_response(Request(self.scope), error)
                await response(self.scope, self.receive_from_client, self.send)
        finally:
            self.upload.release()
            self.log()

    def check(self) -> None:
        """Check the headers, before the body arrives."""
        headers = self.headers
        if len(headers) > MOST_HEADERS or sum(len(n) + len(v) for n, v in headers.raw) > HEADER_BYTES:
            raise Problem(431, "headers", "too many headers, or too long ones", {"Connection": "close"})
        name = host_name(headers)
        if name is None:
            raise Problem(400, "host", "the host name is missing or malformed")
        if self.guard.settings.token is None and name not in self.guard.settings.known_hosts:
            # prevents DNS rebinding by a page in a local browser
            raise Problem(400, "host", "unknown host name for this service")
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise Problem(400, "length", "Content-Length is not a number")
        if len(length) > LENGTH_DIGITS or int(length) > self.limit:
            raise self.too_large()
        self.guard.room.require(int(length))

    def too_large(self) -> Problem:
        """The problem of a request with too many bytes; closes the connection, since the rest is not read."""
        allowed = self.guard.settings.limits.request_bytes // 1024**2
        return Problem(413, "too_large", f"more than the {allowed} MiB that are allowed", {"Connection": "close"})

    async def receive(self) -> Message:
        """Receive a part of the request; count its bytes, and time out with the whole request."""
        if self.done:
            return await self.receive_from_client()  # only a disconnect can follow
        left = self.began + self.guard.settings.upload_s - time.monotonic()
        try:
            message = await asyncio.wait_for(self.receive_from_client(), max(left, 0.001))
        except TimeoutError:
            allowed = self.guard.settings.upload_s
            raise Problem(408, "slow", f"did not arrive within {allowed:g} s", {"Connection": "close"}) from None
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self.received += len(body)
            self.digest.update(body)
            self.done = not message.get("more_body", False)
            if self.received > self.limit:
                raise self.too_large()
            self.upload.take(len(body))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; add the headers of every response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**SAFE, **self.model(), "X-Request-ID": self.id}.items():
                headers[name] = value
        await self.send_to_client(message)

    def model(self) -> dict[str, str]:
        """Version and hash of the weights, once they are loaded."""
        card: dict[str, Any] = getattr(self.scope["app"].state, "card", None) or {} if "app" in self.scope else {}
        return {"X-Model-Version": card["version"], "X-Model-SHA256": card["sha256"]} if card else {}

    def log(self) -> None:
        """Write one line to the log, and count the request."""
        seconds = time.monotonic() - self.began
        route = self.scope.get("route")
        path = getattr(route, "path", "none")
        self.guard.metrics.request(path, self.status, seconds, self.received)
        body = self.digest.hexdigest()[:12] if self.received else "-"
        LOG.info("%s %s %d %d bytes %s %.0f ms", self.id, path, self.status, self.received, body, 1000 * seconds)
