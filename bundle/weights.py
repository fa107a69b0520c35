"""Which weights, and how their network was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UserError
from .loading import BUNDLE_ROOT

__all__ = ["find_weights", "trained_as"]


def find_weights(model: str | Path | None, root: Path = BUNDLE_ROOT) -> Path:
    """The weights that are named, or the bundle's own.

    Raises:
        UserError: when there are none.
    """
    path = Path(model) if model else root / "models" / "model.pt"
    if not path.is_file():
        raise UserError(f"{path}: no weights here; train some (python -m bundle pipeline) or name a file")
    return path


def trained_as(model_path: Path, network: str | None = None) -> dict[str, Any]:
    """Overrides of the inference config that fit the weights.

    Args:
        model_path: the weights; the report beside them tells the network's name and modalities.
        network: comes first.
    """
    named = {"network_name": network} if network else {}
    try:
        model = json.loads(model_path.with_name("report.json").read_text())["model"]
        return {**{key: model[key] for key in ("network_name", "modalities") if key in model}, **named}
    except (OSError, ValueError, KeyError, TypeError):
        return named
