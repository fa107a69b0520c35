"""The application around the bundle: predictor, pipeline and command line.

Importing this package does not import torch; modules that need torch are imported at first use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .core import messages

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["NOTICE", "Predictor", "__version__"]
__version__ = "0.8.0"
NOTICE = messages.NOTICE

# Waiting threads sleep instead of spinning: on a busy machine a training step is then several times faster. OpenMP
# reads this variable when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from .predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'bundle' has no attribute '{name}'")
