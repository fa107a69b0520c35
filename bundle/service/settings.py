"""Everything that whoever runs the service or the page may choose. Needs no package of either."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..intake import Intake, Limits
from ..predictor import Predictor
from ..weights import find_weights, trained_as

__all__ = ["Settings", "require_safe"]


@dataclass(frozen=True)
class Settings:
    """Of one service.

    Args:
        model: plain weights; the bundle's own if absent.
        network: the network's name, where nothing beside the weights tells.
        device: torch device; the GPU if there is one.
        host: address to listen on; any but this machine's own needs a token.
        port: to listen on.
        token: that every request must bear, but those that ask whether the service lives.
        limits: of one request.
        queue: requests that may wait or be worked on; more are told to come back.
        decoders: scans that are decoded at a time.
        patience_s: how long a request waits for its prediction before it is told where to ask for it.
        upload_s: how long a request may take to arrive.
        keep_s: how long the prediction of such a job is kept.
        batch: scans in one batch.
    """

    model: Path | None = None
    network: str | None = None
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    queue: int = 64
    decoders: int = 2
    patience_s: float = 15.0
    upload_s: float = 10.0
    keep_s: float = 600.0
    batch: int = 16

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names by which it may be called where there is no token, in lower case, without port."""
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()})

    def predictor(self) -> Predictor:
        """Load the weights, behind a guard for strangers' files that takes the modalities of these weights.

        Raises:
            UserError: when there are no weights, or they do not fit.
        """
        intake = Intake(self.limits, self.decoders, **trained_as(find_weights(self.model)))
        intake.start()
        return Predictor(self.model, self.network, self.device, intake=intake)


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
