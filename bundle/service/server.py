"""Listen on an address and run the service until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from ..errors import UserError
from ..weights import find_weights
from .request_guard import HEADER_BYTES
from .settings import Settings, require_safe

__all__ = ["serve"]

GRACE_S = 20  # for running requests when the service is stopped


class Server(uvicorn.Server):
    """A server that exits with code 0 when it is stopped, and ends itself when the weights cannot be loaded.

    Args:
        config: of uvicorn.
        failed: whether the weights cannot be used.
    """

    def __init__(self, config: uvicorn.Config, failed: Callable[[], bool]) -> None:
        super().__init__(config)
        self.failed = failed

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.failed()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(settings: Settings) -> None:
    """Serve until stopped.

    Raises:
        UserError: when the weights are missing or unusable, the address is taken, or other machines could use the
            service without a token.
    """
    from .app import create_app

    require_safe(settings)
    find_weights(settings.model)
    listener = listening(settings)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("bundle").setLevel(logging.INFO)  # other loggers may print content of files
    described = "" if settings.token else ", GET /docs"
    print(f"http://{settings.host}:{settings.port}  (POST /predict_multitask{described})", flush=True)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http="h11",
        h11_max_incomplete_event_size=HEADER_BYTES,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
    )
    Server(config, lambda: bool(app.state.service.failed)).run(sockets=[listener])
    if app.state.service.failed:
        raise UserError(f"{settings.model or 'the weights'}: cannot be loaded, see the log")


def listening(settings: Settings) -> socket.socket:
    """Bind a socket to the address.

    Raises:
        UserError: when the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(settings.host, None, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{settings.host}:{settings.port}: {reason.partition(' (while')[0]}") from None
