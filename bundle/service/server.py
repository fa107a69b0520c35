"""Where the service listens, and how it ends."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from ..errors import UserError
from ..weights import find_weights
from .door import HEADER_BYTES
from .settings import Settings

__all__ = ["serve"]

GRACE_S = 20  # for what is being worked on when the service is told to end


class Server(uvicorn.Server):
    """Ends with code 0 when it is told to end: it did what it was told."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(settings: Settings) -> None:
    """Serve until told to end.

    Raises:
        UserError: when there are no weights, or other machines could use the service without a token.
    """
    from .app import create_app

    require_safe(settings)
    find_weights(settings.model)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    print(f"http://{settings.host}:{settings.port}  (POST /predict_multitask, GET /docs)", flush=True)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http="h11",
        h11_max_incomplete_event_size=HEADER_BYTES,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
    )
    Server(config).run()


def require_safe(settings: Settings) -> None:
    """Refuse to be reached by other machines without a token.

    Raises:
        UserError: when that could be.
    """
    try:
        local = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        local = settings.host == "localhost"
    if not local and not settings.token:
        raise UserError(
            f"{settings.host}: other machines could use this service; set BUNDLE_TOKEN, or listen on 127.0.0.1"
        )
