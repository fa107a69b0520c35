"""Who may use the service: host names of a request, the token, and how often a wrong one is looked at."""

from __future__ import annotations

import hmac
import re
import time
from collections import Counter
from collections.abc import Sequence

from starlette.datastructures import Headers

from .problems import Problem

__all__ = ["Allowance", "TokenCheck", "host_name"]

# one host name or address, and a port or none; anything else could be read in two ways
HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9._-]*[a-z0-9_])?\.?)(?::\d{1,5})?", re.ASCII)
WINDOW_S = 60.0


class Allowance:
    """How often something may happen in a minute, counted by key.

    Args:
        most: times in one minute.
        keys: different keys that are remembered; beyond these all others share one count.
    """

    def __init__(self, most: int, keys: int = 4096) -> None:
        self.most, self.keys = most, keys
        self.began, self.counts = time.monotonic(), Counter[str]()

    def take(self, key: str) -> bool:
        """Count once more; whether it is still allowed."""
        now = time.monotonic()
        if now - self.began >= WINDOW_S:
            self.began, self.counts = now, Counter()
        if key not in self.counts and len(self.counts) >= self.keys:
            key = ""
        self.counts[key] += 1
        return self.counts[key] <= self.most


class TokenCheck:
    """Compare tokens. The right one is always accepted, so that nobody can lock out others with wrong ones.

    Args:
        token: that is needed; None: none is.
        wrong_a_minute: wrong tokens of one address in a minute that are answered with 401, further ones with 429.
    """

    def __init__(self, token: str | None, wrong_a_minute: int) -> None:
        self.expected = None if token is None else f"Bearer {token}".encode()
        self.wrong = Allowance(wrong_a_minute)

    def require(self, authorization: str, address: str) -> None:
        """Check the header of one request.

        Args:
            authorization: its header.
            address: of the client.

        Raises:
            Problem: when the token is missing or wrong.
        """
        if self.expected is None or hmac.compare_digest(authorization.encode(), self.expected):
            return
        if authorization and not self.wrong.take(address):
            raise Problem(429, "attempts", "too many wrong tokens, wait a minute", {"Retry-After": f"{WINDOW_S:g}"})
        raise Problem(401, "token", "a valid token is needed", {"WWW-Authenticate": "Bearer"})


def host_name(headers: Headers) -> str | None:
    """The host name of a request in lower case, without port; None if it is missing, repeated or malformed.

    >>> host_name(Headers({"Host": "[::1]:8000"})), host_name(Headers({"Host": "[::1]evil"}))
    ('[::1]', None)
    """
    given: Sequence[str] = headers.getlist("host")
    found = HOST.fullmatch(given[0].lower()) if len(given) == 1 else None
    return found["name"] if found else None
