"""The bundle's `scripts/core`, which needs no torch, for the application: `from .core import files`.

The modules are loaded as a part of this package, so that importing the application does not change `sys.path` and does
not conflict with another bundle's `scripts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..loading import BUNDLE_ROOT

if TYPE_CHECKING:
    from scripts.core import (
        documents,
        expressions,
        file_types,
        files,
        geometry,
        messages,
        statistics,
        text_headers,
        weights_report,
    )

__all__ = [
    "documents",
    "expressions",
    "file_types",
    "files",
    "geometry",
    "messages",
    "statistics",
    "text_headers",
    "weights_report",
]

__path__ = [str(BUNDLE_ROOT / "scripts" / "core")]
