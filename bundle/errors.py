"""Errors of the user's input and interruptions, in one line that names the reason and the remedy."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from .core import errors

__all__ = ["UserError", "exit_on_sigterm", "reason_of", "root_cause"]

root_cause = errors.root_cause


class UserError(Exception):
    """Bad input or usage; the message is one line that names the file or option and the reason."""


def reason_of(error: BaseException) -> str | None:
    """The reason if the input or the machine is at fault, None for a bug; one line per fault."""
    cause = root_cause(error)
    return str(cause) if isinstance(cause, UserError) else errors.reason_of(cause)


@contextmanager
def exit_on_sigterm(hint: str) -> Iterator[None]:
    """For commands that can be resumed: SIGTERM ends with one line and the exit code 143."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        print("terminated" + hint, file=sys.stderr)
        raise SystemExit(128 + number)

    if not hint or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
