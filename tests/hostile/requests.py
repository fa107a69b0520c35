"""HTTP as it should not be: what to send over a raw connection, and which predictions are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .cases import encoded, head

Step = bytes | float  # to send, or seconds to wait
BOUNDARY = "----hostile"
CLOSED = 0  # stands among statuses for: the connection was closed without a prediction


@dataclass(frozen=True)
class HttpCase:
    """One conversation.

    Args:
        name: unique, readable.
        steps: what to send, of host and path.
        expected: statuses that are right; `CLOSED` for none.
        predictions: how many predictions to expect.
    """

    name: str
    steps: Callable[[str, str], Iterator[Step]]
    expected: tuple[int, ...]
    predictions: int = 1

    def __str__(self) -> str:
        return f"http/{self.name}"


def request(
    body: bytes = b"",
    length: str | None = "",
    method: str = "POST",
    extra: tuple[str, ...] = (),
    host: str | None = None,
) -> Callable[[str, str], Iterator[Step]]:
    """A request in one piece; its length is told truly unless given, or not at all for None."""

    def steps(server: str, path: str) -> Iterator[Step]:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {server if host is None else host}", "Connection: close", *extra]
        if length is not None:
            lines.append(f"Content-Length: {length or len(body)}")
        yield "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body

    return steps


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """A multipart body of (header lines, content)."""
    body = b"".join(f"--{BOUNDARY}\r\n{lines}\r\n\r\n".encode() + content + b"\r\n" for lines, content in parts)
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def http_cases(body_limit: int = 32 * 1024 * 1024) -> list[HttpCase]:
    """All conversations, for a service that takes so many bytes."""
    picture = encoded(head())
    multipart = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    file_part = 'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'
    good_form = form((file_part, picture))
    refused, bad = (400, 411, 413, 415, 422), (400, CLOSED)

    def chunked(total: int, piece: int = 2**16, last: bool = True) -> Callable[[str, str], Iterator[Step]]:
        def steps(host: str, path: str) -> Iterator[Step]:
            yield from request(b"", None, extra=("Transfer-Encoding: chunked",))(host, path)
            for _ in range(total // piece):
                yield f"{piece:x}\r\n".encode() + bytes(piece) + b"\r\n"
            if last:
                yield b"0\r\n\r\n"

        return steps

    def slowly(data: bytes, pause_s: float, at_most: int) -> Callable[[str, str], Iterator[Step]]:
        def steps(host: str, path: str) -> Iterator[Step]:
            yield from request(b"", str(len(data)))(host, path)
            for position in range(min(at_most, len(data))):
                yield data[position : position + 1]
                yield pause_s

        return steps

    def raw(*pieces: bytes) -> Callable[[str, str], Iterator[Step]]:
        return lambda host, path: (p.replace(b"HOST", host.encode()).replace(b"PATH", path.encode()) for p in pieces)

    def many(count: int) -> Callable[[str, str], Iterator[Step]]:
        return raw(*[b"GET PATH HTTP/1.1\r\nHost: HOST\r\n\r\n"] * count)

    twice = ("Content-Length: 5", "Content-Length: 6")
    smuggled = ("Content-Length: 5", "Transfer-Encoding: chunked")
    wide_part = (file_part + "".join(f"\r\nX-{i}: y" for i in range(10_000)), picture)
    ways: dict[str, tuple[Callable[[str, str], Iterator[Step]], tuple[int, ...]]] = {
        "no length": (request(picture, None), refused),
        "length -1": (request(picture, "-1"), bad),
        "length of letters": (request(picture, "abc"), bad),
        "length of 30 digits": (request(b"x", "9" * 30), (400, 413, CLOSED)),
        "length with a plus": (request(b"x", "+1"), (*bad, *refused)),
        "length in hexadecimal": (request(b"x", "0x1"), bad),
        "two lengths": (request(b"xxxxx", None, extra=twice), bad),
        "length and chunks": (request(b"0\r\n\r\n", None, extra=smuggled), (*bad, *refused)),
        "length too small": (request(picture, "10"), refused),
        "length too large, then silence": (request(b"x", "1000"), (400, 408, CLOSED)),
        "length 0": (request(b"", "0"), refused),
        "length beyond the limit": (request(b"x", str(body_limit + 1)), (413, CLOSED)),
        "body at the limit": (request(bytes(body_limit)), refused),
        "body beyond the limit": (request(bytes(body_limit + 1)), (413, CLOSED)),
        "chunks beyond the limit": (chunked(2 * body_limit), (413, CLOSED)),
        "chunks without an end": (chunked(2**17, last=False), (400, 408, CLOSED)),
        "chunk of no length": (
            raw(b"POST PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            bad,
        ),
        "chunk of huge length": (
            raw(b"POST PATH HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
            (*bad, 408),
        ),
        "unknown transfer encoding": (
            request(b"x", None, extra=("Transfer-Encoding: gzip",)),
            (400, 411, 415, 422, 501, CLOSED),
        ),
        "compressed body": (request(b"\x1f\x8b" + bytes(99), extra=("Content-Encoding: gzip",)), refused),
        "one byte a second": (slowly(picture, 1.0, 30), (400, 408, CLOSED)),
        "no boundary": (request(good_form, extra=("Content-Type: multipart/form-data",)), refused),
        "wrong boundary": (request(good_form, extra=(multipart + "x",)), refused),
        "boundary of 10 KB": (
            request(good_form, extra=(f"Content-Type: multipart/form-data; boundary={'b' * 10_000}",)),
            (*refused, 431),
        ),
        "form without an end": (request(form((file_part, picture), end=False), extra=(multipart,)), refused),
        "form without a file": (
            request(form(('Content-Disposition: form-data; name="x"', b"y")), extra=(multipart,)),
            refused,
        ),
        "form of nothing": (request(form(), extra=(multipart,)), refused),
        "10000 parts": (
            request(form(*[('Content-Disposition: form-data; name="x"', b"y")] * 10_000), extra=(multipart,)),
            refused,
        ),
        "10000 headers in a part": (request(form(wide_part), extra=(multipart,)), refused),
        "two files": (request(form((file_part, picture), (file_part, picture)), extra=(multipart,)), refused),
        "field of 2 KB": (
            request(
                form(('Content-Disposition: form-data; name="x"', bytes(2048)), (file_part, picture)),
                extra=(multipart,),
            ),
            refused,
        ),
        "preamble of 10 MB": (request(b"\r\n" * 5_000_000 + good_form, extra=(multipart,)), (200, *refused)),
        "urlencoded 5 MB": (
            request(b"a;" * 2_500_000, extra=("Content-Type: application/x-www-form-urlencoded",)),
            refused,
        ),
        "header of 1 MB": (request(picture, extra=(f"X-Large: {'x' * 2**20}",)), (400, 431, CLOSED)),
        "10000 headers": (request(picture, extra=tuple(f"X-{i}: y" for i in range(10_000))), (400, 431, CLOSED)),
        "folded header": (
            raw(b"POST PATH HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
            (*bad, *refused),
        ),
        "no host": (raw(b"POST PATH HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), (400,)),
        "foreign host": (request(picture, host="attacker.example"), (400, 403, 421)),
        "host with a path": (request(picture, host="127.0.0.1/livez?"), (400, 403, 421)),
        "ranges": (
            request(picture, method="GET", extra=("Range: bytes=" + ",".join(f"{i}-" for i in range(5000)),)),
            (400, 404, 405, 416, 431),
        ),
        "unknown method": (request(picture, method="BREW"), (400, 405, 501)),
        "TRACE": (request(b"", method="TRACE"), (400, 405, 501)),
        "path above": (raw(b"GET /../../etc/passwd HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"), (400, 404)),
        "noise": (raw(bytes(range(128, 256)) * 8 + b"\r\n\r\n"), bad),
        "HTTP/9.9": (raw(b"POST PATH HTTP/9.9\r\nHost: HOST\r\n\r\n"), (400, 505, CLOSED)),
        "early close": (raw(b"POST PATH HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000\r\n\r\nx"), (400, 408, CLOSED)),
    }
    cases = [HttpCase(name, steps, expected) for name, (steps, expected) in ways.items()]
    return [*cases, HttpCase("100 at once", many(100), (200, 404, 405, 429, 503, CLOSED), predictions=100)]
