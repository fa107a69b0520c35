"""Connections of the service: a bounded number, each with bounded headers, chunks and pipelined requests.

uvicorn's protocol with the parser of httptools, which reads a byte in nanoseconds. A connection that does not ask
anything, or sends a body in crumbs, is closed; it can neither use up the open files nor hold the event loop.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from pathlib import Path
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .request_guard import HEADER_BYTES, MOST_HEADERS

__all__ = ["ServiceProtocol", "most_connections"]

HEADERS_S = 10.0  # until the headers of a request are complete
LINGER_S = 2.0  # for the rest of a request that was answered before it arrived
DRAIN_S = 30.0  # for the rest of an answer that its client does not read
CRUMBS, CRUMB_BYTES = 1000, 64  # pieces of a body beyond this number must have this size on average
PIPELINED = 128  # requests that wait behind the one that is answered
RESERVED_FILES = 48  # for models, pipes and sockets of the decoding process
FEWEST = 8  # connections
OPEN_FILES = Path("/proc/self/fd")


class CrumbsError(Exception):
    """A request that costs more to parse than it is worth; the parser turns it into a refusal."""


def most_connections(wanted: int, accepted_at_once: int, scans: int) -> int:
    """How many connections this process can hold beside its own files; raises its limit of open files if it may.

    Args:
        wanted: the most that are useful.
        accepted_at_once: connections that the event loop accepts before it looks at their number.
        scans: that wait or are processed, each of which is an open file, as is each that arrives.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        soft = hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    used = sum(1 for _ in OPEN_FILES.iterdir()) if OPEN_FILES.is_dir() else 32
    left = 2 * wanted if soft == resource.RLIM_INFINITY else soft - used - RESERVED_FILES - accepted_at_once - scans
    return max(FEWEST, min(wanted, left // 2))


class ServiceProtocol(HttpToolsProtocol):
    """One connection.

    `most` is the number of connections; set it before the first one.
    """

    most = 512

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.opened = self.loop.time()
        self.timer: asyncio.TimerHandle | None = None
        self.in_headers, self.in_body = True, False
        self.head_bytes = self.pieces = self.piece_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.end_in(HEADERS_S)
        if len(self.connections) > self.most:
            self.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.keep()
        super().connection_lost(exc)

    def make_room(self) -> None:
        """Close one connection: an idle one, or else one that still sends, of the address that has most."""
        others = [
            one for one in self.connections if one is not self and isinstance(one, ServiceProtocol) and one.rank() < 2
        ]
        held = Counter(one.client[0] if one.client else "" for one in others)
        chosen = min(
            others, key=lambda one: (one.rank(), -held[one.client[0] if one.client else ""], one.opened), default=self
        )
        self.connections.discard(chosen)
        chosen.transport.abort()

    def rank(self) -> int:
        """0 if nothing was asked or all is answered, 1 while a request arrives, 2 while it is answered."""
        if self.transport.is_closing():
            return 0
        if self.in_body:
            return 1
        return 0 if self.cycle is None or self.cycle.response_complete else 2

    def end_in(self, seconds: float) -> None:
        """Close the connection after some time, unless `keep` is called before."""
        self.keep()
        self.timer = self.loop.call_later(seconds, self.transport.abort)

    def keep(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def data_received(self, data: bytes) -> None:
        was_in_headers = self.in_headers
        super().data_received(data)
        if was_in_headers and self.in_headers and not self.transport.is_closing():
            self.head_bytes += len(data)
            if self.head_bytes > 2 * HEADER_BYTES:
                self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_headers = True
        self.head_bytes = self.pieces = self.piece_bytes = 0
        if self.timer is None:
            self.end_in(HEADERS_S)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > HEADER_BYTES:
            raise CrumbsError

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > 2 * MOST_HEADERS:
            raise CrumbsError

    def on_headers_complete(self) -> None:
        self.keep()
        self.in_headers, self.in_body = False, True
        if len(self.pipeline) >= PIPELINED:
            raise CrumbsError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.pieces += 1
        self.piece_bytes += len(body)
        if self.pieces > CRUMBS and self.piece_bytes < CRUMB_BYTES * self.pieces:
            raise CrumbsError
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        self.keep()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.end_in(DRAIN_S)
        elif self.in_body and self.cycle.response_complete:
            self.end_in(LINGER_S)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.end_in(DRAIN_S)
