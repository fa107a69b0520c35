"""Why a file was refused: a code for programs, one line for people."""

from __future__ import annotations

from ..core import messages
from ..errors import UserError

__all__ = ["STATUS", "IntakeError"]

# every code and its HTTP status
STATUS = {
    "unsupported": 415,  # of no type that is read, or a variant that is not decoded here
    "too_large": 413,  # more bytes, pixels, voxels or files than the limits allow
    "declared_size": 413,  # declares more than the limits allow and than it contains
    "inflate": 413,  # decompresses to more than the limits allow
    "memory": 413,  # needs more memory than the limits allow
    "missing": 422,  # no such file
    "truncated": 422,  # incomplete
    "damaged": 422,  # cannot be decoded
    "header": 422,  # impossible values in the header
    "geometry": 422,  # slices that do not form a volume
    "rank": 422,  # too few or too many axes, colors or complex numbers
    "nonfinite": 422,  # NaN, infinite or implausibly large values
    "time_limit": 504,  # not decoded in time
    "worker_died": 503,  # the decoding process ended; try again
}


class IntakeError(UserError):
    """A file was refused; the message is one line: the file, the reason and the remedy.

    The message never contains the file's content, header values that may be personal, or a path that the caller did
    not give.

    Args:
        code: a key of `STATUS`.
        reason: one line, without the file's name.
        name: of the file, as the caller gave it; None for bytes.
        file: index among several files.
    """

    def __init__(self, code: str, reason: str, name: str | None = None, file: int = 0) -> None:
        self.line = messages.with_remedy(reason, code)
        super().__init__(f"{name}: {self.line}" if name else self.line)
        self.code, self.reason, self.name, self.file = code, reason, name, file

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return STATUS[self.code]

    def named(self, name: str | None) -> IntakeError:
        """The same error with the file's name."""
        return IntakeError(self.code, self.reason, name, self.file)
