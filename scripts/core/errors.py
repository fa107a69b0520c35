"""Errors of the input in one line that names the file, the reason and the remedy; anything else is a bug."""

from __future__ import annotations

import errno
import logging
import re
import sys
from types import TracebackType

__all__ = ["BAD_INPUT", "end_in_one_line", "reason_of", "root_cause"]

BAD_INPUT = 2  # exit code
INTERRUPTED = 130  # exit code, as of shells

# what components raise for bad input; any other exception is a bug and keeps its traceback
INPUT_ERRORS = (ValueError, OSError)

FREE_SPACE = "free some space, then run the same command again"
REMEDIES = {
    errno.ENOSPC: FREE_SPACE,
    errno.EDQUOT: FREE_SPACE,
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), then run the same command again",
    errno.EROFS: "choose another folder",
    errno.EACCES: "change its permissions, or choose another folder",
    errno.EPERM: "change its permissions, or choose another folder",
}
ENGINES = ("SupervisedTrainer", "SupervisedEvaluator")  # of the configs
OUT_OF_MEMORY = "out of memory: lower batch_size or num_workers, or use a smaller network or another device"


def root_cause(error: BaseException) -> BaseException:
    """The first error of MONAI's chain of "applying transform" and "failed to instantiate"."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def reason_of(error: BaseException) -> str | None:
    """The reason if the input or the machine is at fault, None for a bug; one line per fault."""
    cause = root_cause(error)
    if _is_out_of_memory(cause):
        return OUT_OF_MEMORY
    if not isinstance(cause, INPUT_ERRORS):
        return None
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        remedy = REMEDIES.get(cause.errno or 0)
        return f"{cause.filename}: {cause.strerror}{f'; {remedy}' if remedy else ''}"
    return _of_worker(str(cause))


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing: Python's error, or torch's of a GPU or a CPU."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(error)


def _of_worker(text: str) -> str:
    """The message of an error; of one in a process of a data loader, without that process's traceback."""
    if not re.match(r"Caught \w+ in DataLoader worker process", text):
        return text
    return text.rstrip().rpartition("\n")[2].partition(": ")[2]


def end_in_one_line() -> None:
    """Let an error of the input, or Ctrl-C, end `python -m monai.bundle` with one line and an exit code.

    Other programs handle errors themselves. In all of them the engines, which raise every error, no longer log it too.
    """
    for engine in ENGINES:
        logging.getLogger(f"ignite.engine.engine.{engine}").addFilter(_is_no_error)
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main is not None and main.name == "monai.bundle.__main__":
        sys.excepthook = _end


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted; run the same command again to resume", file=sys.stderr)
        raise SystemExit(INTERRUPTED)
    reason = reason_of(error)
    if reason is None:
        sys.__excepthook__(kind, error, trace)
        return
    print(f"error: {reason}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)
