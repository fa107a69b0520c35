"""The outermost layer of the page: requests by foreign host names or of foreign pages do not reach Streamlit."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ..service.access import host_name

__all__ = ["PageGuardMiddleware"]


class PageGuardMiddleware:
    """Check the host name, against DNS rebinding, and the page that a request comes from.

    Streamlit would ask an outside address for this machine's own one, to compare a foreign page's with it.

    Args:
        app: the application.
        known_hosts: accepted host names, in lower case, without port; None: any, behind a proxy with a token.
    """

    def __init__(self, app: ASGIApp, known_hosts: Collection[str] | None) -> None:
        self.app, self.known_hosts = app, known_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self.is_known(Headers(scope=scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("unknown host name or page for this service", 400)(scope, receive, send)

    def is_known(self, headers: Headers) -> bool:
        """Whether host and origin of a request are ours."""
        host = host_name(headers)
        if host is None or (self.known_hosts is not None and host not in self.known_hosts):
            return False
        origins = (origin.partition("://")[2] for origin in headers.getlist("origin"))
        return all(origin.lower() == headers["host"].lower() for origin in origins)
