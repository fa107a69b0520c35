"""Reads this repository's docstrings for the Python reference: an extension of griffe."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>> .*\n(?:(?!>>> )\S.*\n?)*)+", re.MULTILINE)  # lines of input, and of the output below


class PlainDocstrings(griffe.Extension):
    """Shows a doctest as an example, and the fields that the docstring of a named tuple describes as its fields."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(as_section, obj.docstring.value + "\n").strip()

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if cls.docstring and any(str(base) == "NamedTuple" for base in cls.bases):
            cls.docstring.value = cls.docstring.value.replace("\nArgs:\n", "\nAttributes:\n")


def as_section(example: re.Match[str]) -> str:
    """The section that Google's style has for an example."""
    return f"Examples:\n{textwrap.indent(example[0], '    ')}\n"
