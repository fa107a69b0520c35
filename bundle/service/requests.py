"""Read files, fields and the wanted type of a request; cancel its prediction when the client disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from ..intake import MemoryFile
from .problems import Problem

__all__ = ["DICOM", "JSON", "ZIP", "cancel_on_disconnect", "flag", "received", "wanted_kind"]

T = TypeVar("T")
JSON, ZIP, DICOM = "application/json", "application/zip", "application/dicom"
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}
PIECE_BYTES = 256 * 1024
FIELD_BYTES = 1024  # of a form's field other than a file


async def received(request: Request, most: int) -> tuple[list[MemoryFile], dict[str, str]]:
    """Files and fields of a request: the body itself, or a form's.

    Raises:
        Problem: when the system has no room for them.
    """
    try:
        return await _received(request, most)
    except OSError:  # no open file, no memory or no disk is left
        raise Problem(503, "overload", "no room for the scan, try again soon", {"Retry-After": "2"}) from None


async def _received(request: Request, most: int) -> tuple[list[MemoryFile], dict[str, str]]:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        body = MemoryFile()
        async for piece in request.stream():
            body.write(piece)
        return ([body] if body.size else []), {}
    files, fields = [], dict[str, str]()
    async with request.form(max_files=most, max_fields=4, max_part_size=FIELD_BYTES) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append(MemoryFile())
                while piece := await value.read(PIECE_BYTES):
                    files[-1].write(piece)
            else:
                fields[name] = value
    return files, fields


def flag(fields: dict[str, str], name: str, default: bool) -> bool:
    """A boolean field of a form, or else the query's value."""
    value = fields.get(name, str(default)).lower()
    if value not in TRUE | FALSE:
        raise Problem(400, "parameter", f"'{name}' cannot be read")
    return value in TRUE


def wanted_kind(accept: str) -> str:
    """The media type that a client prefers: by the weights, then by the order in its header.

    Reference: RFC 9110, 12.5.1.
    """
    ranges: dict[str, tuple[float, int]] = {}
    for place, words in enumerate(filter(str.strip, (accept.strip() or "*/*").split(","))):
        name, options = parse_options_header(words)
        ranges.setdefault(name.decode("latin-1"), (_weight(options), -place))

    def preference(kind: str) -> tuple[float, int]:
        """Of the most specific range that includes the type."""
        return next((ranges[name] for name in (kind, "application/*", "*/*") if name in ranges), (0.0, 0))

    best = max((JSON, ZIP, DICOM), key=preference)
    if not preference(best)[0]:
        raise Problem(406, "accept", f"predictions are {JSON}, {ZIP} or, of DICOM files, {DICOM}")
    return best


def _weight(options: dict[bytes, bytes]) -> float:
    """Weight of a type in the header, in [0, 1]."""
    try:
        weight = float(options.get(b"q", b"1"))
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        raise Problem(400, "parameter", "'accept' cannot be read")
    return weight


async def cancel_on_disconnect(request: Request, pending: Awaitable[T]) -> T:
    """Wait for a prediction; cancel it when the client disconnects.

    Raises:
        ClientDisconnect: when the client has disconnected.
    """
    work, gone = asyncio.ensure_future(pending), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    """Wait until the client disconnects; the request has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
