"""Settings of the service and of the page. Needs the packages of neither."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..intake import Intake, Limits
from ..intake.limits import MIB
from ..predictor import Predictor
from ..weights import find_weights, trained_as

__all__ = ["Settings", "require_safe"]

LONGER_LANES = 2
TOKEN_CHARACTERS = 16  # at least
REMEDY = "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"


@dataclass(frozen=True)
class Settings:
    """Settings of one service.

    Args:
        model: weights (default: the bundle's).
        network: the network's name, if no report beside the weights names it.
        device: torch device (default: the GPU if there is one).
        host: address to listen on; any but a loopback address needs a token.
        port: to listen on.
        token: required in every request but the health checks.
        limits: of one request.
        connections: most open ones; idle ones are closed for new ones.
        wrong_tokens: of one address in a minute that are answered with 401, further ones with 429.
        queue: most requests that wait or are processed; further ones are refused.
        decoders: short scans that are decoded at the same time; of longer ones, see `job_queue.py`, one of each lane.
        patience_s: how long a request waits for its prediction before it gets the address of its job.
        upload_s: how long a request may take to arrive.
        inference_s: how long the inference of one scan may take, with the time of others in between.
        keep_s: how long the prediction of a job is kept.
        batch: most scans in one batch.
        upload_bytes: of all requests together that arrive, wait or are processed; further ones are refused.
    """

    model: Path | None = None
    network: str | None = None
    device: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    connections: int = 512
    wrong_tokens: int = 30
    queue: int = 64
    decoders: int = 2
    patience_s: float = 15.0
    upload_s: float = 10.0
    inference_s: float = 300.0
    keep_s: float = 600.0
    batch: int = 16
    upload_bytes: int = 256 * MIB

    @property
    def known_hosts(self) -> frozenset[str]:
        """Accepted host names if there is no token, in lower case, without port."""
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()})

    def predictor(self) -> Predictor:
        """Load the weights, with an intake for untrusted files and for the modalities of these weights.

        Raises:
            UserError: when the weights are missing or do not fit.
        """
        intake = Intake(self.limits, self.decoders + LONGER_LANES, **trained_as(find_weights(self.model)))
        intake.start()
        return Predictor(self.model, self.network, self.device, intake=intake)


def require_safe(settings: Settings) -> None:
    """Require a token if other machines can reach the service, and a token that cannot be guessed.

    Raises:
        UserError: when the token is missing or weak.
    """
    if settings.token is not None:
        require_strong(settings.token)
    try:
        local = ipaddress.ip_address(settings.host).is_loopback
    except ValueError:
        local = settings.host == "localhost"
    if not local and not settings.token:
        raise UserError(
            f"{settings.host}: other machines can reach this address; set BUNDLE_TOKEN, or listen on 127.0.0.1"
        )


def require_strong(token: str) -> None:
    """Require a token of some length, of characters that a header can carry.

    Raises:
        UserError: without the token itself.
    """
    if not token.strip():
        raise UserError(f"BUNDLE_TOKEN: is empty; remove it, or {REMEDY}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError(f"BUNDLE_TOKEN: has spaces, or characters that are not ASCII; {REMEDY}")
    if len(token) < TOKEN_CHARACTERS:
        raise UserError(f"BUNDLE_TOKEN: has fewer than {TOKEN_CHARACTERS} characters; {REMEDY}")
