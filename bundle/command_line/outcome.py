"""What a command gives, and how it is printed: for people, or as JSON with everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "failed", "only_json"]


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Args:
        content: what `--json` prints; values are JSON or paths.
        text: for people (default: a line for each entry of `content`).
        code: exit code.
    """

    content: Mapping[str, Any]
    text: str | None = None
    code: int = 0

    def show(self, as_json: bool) -> None:
        """Print the result."""
        if as_json:
            print(json.dumps(self.content, indent=1, default=_path), flush=True)
        elif self.text is None:
            width = max(map(len, self.content))
            print(
                "\n" + "\n".join(f"{name + ':':<{width + 1}} {value}" for name, value in self.content.items()),
                flush=True,
            )
        elif self.text:
            print(self.text, flush=True)


def _path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is not JSON")


def failed(line: str, as_json: bool, code: int) -> int:
    """Print why a command failed, also as JSON if wanted; return the exit code."""
    print(line, file=sys.stderr)
    if as_json:
        Outcome({"error": line.removeprefix("error: "), "code": code}).show(as_json)
    return code


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Send to standard error what is printed meanwhile, by other processes, too, so that only JSON is printed."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
