"""The bundle's `scripts/core`, which needs no torch, for the application: `from .core import files`.

The modules are loaded as a part of this package, so that importing the application does not change `sys.path` and does
not conflict with another bundle's `scripts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.core import (
        documents,
        errors,
        file_types,
        filenames,
        files,
        geometry,
        messages,
        regions,
        statistics,
        text_headers,
        tumor_types,
        weights_report,
    )

__all__ = [
    "BUNDLE_ROOT",
    "documents",
    "errors",
    "file_types",
    "filenames",
    "files",
    "geometry",
    "messages",
    "regions",
    "statistics",
    "text_headers",
    "tumor_types",
    "weights_report",
]

APPLICATION = Path(__file__).resolve().parents[1]
BUNDLE_ROOT = APPLICATION / "packed" if (APPLICATION / "packed").is_dir() else APPLICATION.parent  # wheel; repository
__path__ = [str(BUNDLE_ROOT / "scripts" / "core")]
