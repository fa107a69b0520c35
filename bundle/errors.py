"""Errors of the user's input, in one line that names the reason and the remedy."""

from __future__ import annotations

__all__ = ["UserError", "reason_of", "root_cause"]

# what components raise for bad input; any other exception is a bug and keeps its traceback
INPUT_ERRORS = (ValueError, OSError)


class UserError(Exception):
    """Bad input or usage; the message is one line that names the file or option and the reason."""


def root_cause(error: BaseException) -> BaseException:
    """The first error of MONAI's chain of "applying transform" and "failed to instantiate"."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str | None:
    """The reason if the input is bad, None for a bug; one line per fault."""
    cause = root_cause(error)
    if not isinstance(cause, (UserError, *INPUT_ERRORS)):
        return None
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        return f"{cause.filename}: {cause.strerror}"
    return str(cause)
