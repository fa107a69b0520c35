"""The application around the bundle: predictor, pipeline and command line.

Importing this package does not import torch; what needs it is imported when it is first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .core import messages

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["NOTICE", "Predictor", "__version__"]
__version__ = "0.5.1"
NOTICE = messages.NOTICE

# A thread that waits for another sleeps instead of spinning, unless told otherwise: on a machine with other work to do
# a training step is several times faster. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from .predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'bundle' has no attribute '{name}'")
