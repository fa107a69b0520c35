"""Values that MONAI's configs take literally."""

from __future__ import annotations

from typing import Any

__all__ = ["escape_config_value"]


def escape_config_value(value: Any) -> Any:
    r"""Escape a value, so that MONAI takes it literally: `#` in a path would name a nested id.

    >>> escape_config_value(["a", "b#c"])
    ['a', "$'b\\\\x23c'"]
    """
    if isinstance(value, (list, tuple)):
        return [escape_config_value(part) for part in value]
    if isinstance(value, str) and "#" in value and not value.startswith("$"):
        return "$" + ascii(value).replace("#", r"\x23").replace("@", r"\x40")
    return value
