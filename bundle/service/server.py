"""Listen on an address and run the service until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from ..errors import UserError
from ..weights import find_weights
from .connections import ServiceProtocol, most_connections
from .logs import configure_log
from .settings import Settings, require_safe

__all__ = ["serve"]

GRACE_S = 20  # for running requests when the service is stopped
ACCEPTED_AT_ONCE = 16  # new connections before the loop looks at anything else; asyncio names it backlog
WAITING_IN_KERNEL = 1024


class Server(uvicorn.Server):
    """A server that exits with code 0 when it is stopped, and ends itself when the weights cannot be loaded.

    Args:
        config: of uvicorn.
        failed: whether the weights cannot be used.
    """

    def __init__(self, config: uvicorn.Config, failed: Callable[[], bool]) -> None:
        super().__init__(config)
        self.failed = failed

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING_IN_KERNEL)

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
    configure_log()
    described = "" if settings.token else ", GET /docs"
    print(f"http://{settings.host}:{settings.port}  (POST /predict_multitask{described})", flush=True)
    app = create_app(settings)
    ServiceProtocol.most = most_connections(settings.connections, ACCEPTED_AT_ONCE, settings.queue)
    config = uvicorn.Config(
        app,
        http=ServiceProtocol,
        ws="none",
        loop="asyncio",
        backlog=ACCEPTED_AT_ONCE,
        access_log=False,
        log_config=None,
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
        raise UserError(
            f"{settings.host}:{settings.port}: {reason.partition(' (while')[0]}; choose another with --port"
        ) from None
