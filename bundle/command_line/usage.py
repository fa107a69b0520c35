"""Errors of the command line's usage, in one line with the remedy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """A parser of options whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and where the options are listed; end with exit code 2."""
        self.exit(2, f"error: {message}; {self.prog} --help lists the options\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Refuse arguments that the parser does not know; name the nearest option."""
        first = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        near = get_close_matches(first, re.findall(r"--[\w-]+", self.format_usage()), 1)
        if near:
            self.exit(2, f"error: {first}: no such option of {self.prog}, did you mean {near[0]}?\n")
        self.error(f"{first}: no such option")
