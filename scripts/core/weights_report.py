"""The report beside weights, and whether it is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .documents import SCHEMA_VERSION
from .files import sha256_of

__all__ = ["report_beside", "require_version"]


def report_beside(model_path: Path) -> tuple[dict[str, Any] | None, str]:
    """The report if it belongs to these weights, and a code of `messages.REPORTS`."""
    file = model_path.with_name("report.json")
    try:
        report = json.loads(file.read_text())
        if report["model"]["sha256"] == sha256_of(model_path):
            return report, "matching"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None, "of_other_weights" if file.is_file() and model_path.is_file() else "missing"


def require_version(report: dict[str, Any] | None, model_path: Path) -> None:
    """Refuse a report of another version of the bundle: its numbers may have another meaning.

    Raises:
        ValueError: in one line that says what to do.
    """
    if report is not None and report.get("schema_version") != SCHEMA_VERSION:
        file = model_path.with_name("report.json")
        raise ValueError(
            f"{file}: of another version of the bundle; fit it again, or remove it: then no scores are known"
        )
