"""The one door for foreign bytes: what may come in, how large, how long, and in which process it is looked at.

The way of a file: bytes are counted, its kind is told by its first bytes, and everything further happens in a process
that is made for this one file, with limited memory and time: headers are checked against the limits, and the bundle's
own reader (`scripts/io/readers.py`, as `configs/inference.yaml` names it) decodes. An array and its geometry come back,
or one line that says why not. Importing this package imports neither torch nor MONAI.
"""

from .errors import STATUS, IntakeError
from .intake import Intake, local_intake
from .limits import LOCAL, Limits

__all__ = ["LOCAL", "STATUS", "Intake", "IntakeError", "Limits", "local_intake"]
