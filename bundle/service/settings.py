"""Everything that whoever runs the service may choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..intake import Limits

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Of one service.

    Args:
        model: plain weights; the bundle's own if absent.
        network: the network's name, where no report beside the weights tells.
        device: torch device; the GPU if there is one.
        host: address to listen on; any but this machine's own needs a token.
        port: to listen on.
        token: that every request must bear, but those that ask whether the service lives.
        limits: of one request.
        queue: requests that may wait or be worked on; more are told to come back.
        decoders: scans that are decoded at a time.
        patience_s: how long a request waits for its answer before it is told where to ask for it.
        upload_s: how long a request may take to arrive.
        keep_s: how long the answer of such a job is kept.
        batch: scans in one batch.
        samples: networks that are asked where uncertainty is wanted.
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
    samples: int = 8

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names by which it may be called where there is no token, in lower case, without port."""
        return frozenset({"localhost", "127.0.0.1", "[::1]", self.host.lower()})
