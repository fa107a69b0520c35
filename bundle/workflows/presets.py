"""The presets: how long each stage trains."""

from pathlib import Path
from typing import Any

import yaml

__all__ = ["PRESETS"]

PRESETS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
