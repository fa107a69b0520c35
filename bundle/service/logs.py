"""The service's log: our own lines only, and no more of them than a disk can take."""

from __future__ import annotations

import logging
import time

__all__ = ["OwnWordsFilter", "RateFilter", "configure_log"]

OURS = ("bundle", "uvicorn", "scripts.inference")
BURST = {logging.INFO: 1000, logging.WARNING: 20}  # lines in `WINDOW_S`, by the level up to which they count
WINDOW_S = 5.0


class OwnWordsFilter(logging.Filter):
    """Replace what libraries say by their name: their messages may contain values of a scan."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not any(f"{record.name}.".startswith(f"{ours}.") for ours in OURS):
            kind = record.exc_info[0] if record.exc_info else None
            record.msg = f"message of {record.name}" + (f" ({kind.__name__})" if kind else "")
            record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class RateFilter(logging.Filter):
    """Let a bounded number of lines through; the first one afterwards gives the number of the others.

    Args:
        most: lines in `WINDOW_S`, by the level up to which they count.
    """

    def __init__(self, most: dict[int, int] | None = None) -> None:
        super().__init__()
        self.most = dict(BURST if most is None else most)
        self.began, self.counts = dict.fromkeys(self.most, 0.0), dict.fromkeys(self.most, 0)

    def filter(self, record: logging.LogRecord) -> bool:
        levels = sorted(self.most)
        level = next((one for one in levels if record.levelno <= one), levels[-1])
        now, left_out = time.monotonic(), 0
        if now - self.began[level] >= WINDOW_S:
            left_out = max(0, self.counts[level] - self.most[level])
            self.began[level], self.counts[level] = now, 0
        self.counts[level] += 1
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} lines left out before)", ()
        return self.counts[level] <= self.most[level]


def configure_log() -> None:
    """Write our lines from INFO on and others from WARNING on to the standard error, without their content."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for one in (RateFilter(), OwnWordsFilter()):
        handler.addFilter(one)
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.WARNING
    logging.raiseExceptions = False  # a line that cannot be written is not printed instead
    logging.captureWarnings(True)
    logging.getLogger("bundle").setLevel(logging.INFO)
