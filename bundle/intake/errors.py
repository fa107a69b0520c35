"""Why a file was not let in: one code for programs, one line for people."""

from __future__ import annotations

from ..errors import UserError

__all__ = ["STATUS", "IntakeError"]

# every code, and the HTTP status that says the same
STATUS = {
    "unsupported": 415,  # not PNG, JPEG, NIfTI or DICOM, or a variant that is not decoded here
    "too_large": 413,  # more bytes, pixels, voxels or files than the limits allow
    "declared_size": 413,  # declares more than the limits allow, without having it
    "inflate": 413,  # inflates to more than the limits allow
    "memory": 413,  # needs more memory than the limits allow
    "missing": 422,  # no such file
    "truncated": 422,  # ends before its end
    "damaged": 422,  # cannot be decoded
    "header": 422,  # says impossible things about itself
    "geometry": 422,  # slices that make no volume
    "rank": 422,  # too few or too many axes, colors or complex numbers
    "nonfinite": 422,  # NaN, infinite or absurdly large values
    "time_limit": 504,  # was not decoded in time
    "worker_died": 503,  # the decoding process was lost; worth another try
}


class IntakeError(UserError):
    """A file was refused.

    The message never holds content, header values that may be personal, or a path of this machine that the caller did
    not give.

    Args:
        code: a key of `STATUS`.
        reason: one line, without the file's name.
        name: the file as the caller called it; None where it came as bytes.
        file: which of several files, from 0.
    """

    def __init__(self, code: str, reason: str, name: str | None = None, file: int = 0) -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.code, self.reason, self.name, self.file = code, reason, name, file

    @property
    def status(self) -> int:
        """The HTTP status that says the same."""
        return STATUS[self.code]

    def named(self, name: str | None) -> IntakeError:
        """The same error about a file that the caller called so."""
        return IntakeError(self.code, self.reason, name, self.file)
