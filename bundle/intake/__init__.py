"""Intake of untrusted files: limits on type, size and time, and decoding in a sandboxed process.

Steps: the bytes are counted, the file type is read from the first bytes, and a process of its own, with limited memory
and time and, where the system can, without network and other files (`isolation.py`), checks the headers against the
limits and decodes with the bundle's reader (`scripts/io/readers.py`, named in `configs/inference.yaml`). It returns an
array with its geometry, or one line with the reason of the refusal. Importing this package imports neither torch nor
MONAI.
"""

from .errors import STATUS, IntakeError
from .estimate import Estimate, estimate
from .intake import Intake, local_intake
from .interrupt import Interrupt, Interrupted
from .limits import LOCAL, Limits
from .memory_file import MemoryFile

__all__ = [
    "LOCAL",
    "STATUS",
    "Estimate",
    "Intake",
    "IntakeError",
    "Interrupt",
    "Interrupted",
    "Limits",
    "MemoryFile",
    "estimate",
    "local_intake",
]
