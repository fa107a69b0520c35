"""Components of a config whose arguments are plain values: made without MONAI, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["NotPlainError", "components"]

OF_MONAI = ("$", "%")  # first signs of an expression and of a macro
OPTIONS = {"_target_", "_mode_"}


class NotPlainError(Exception):
    """A part of the config that only MONAI's parser can read."""


def components(file: Path, ids: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Instantiate components as MONAI's parser does.

    Args:
        file: the config.
        ids: of the components, `#` between the levels.
        overrides: values by id.

    Raises:
        NotPlainError: when a component needs more than values of the config and other such components.
    """
    import yaml

    config = yaml.safe_load(file.read_text())
    for id, value in overrides.items():
        *above, last = id.split("#")
        section = _within(config, above)
        if not isinstance(section, dict):
            raise NotPlainError(id)
        section[last] = value
    made: dict[str, Any] = {}
    return {id: _component(config, id, made) for id in ids}


def _component(config: Any, id: str, made: dict[str, Any]) -> Any:
    if id not in made:
        made[id] = _built(config, _within(config, id.split("#")), made)
    return made[id]


def _within(config: Any, names: Sequence[str]) -> Any:
    """A part of the config, by the names and numbers of the levels."""
    try:
        for name in names:
            config = config[int(name) if isinstance(config, list) else name]
    except (KeyError, IndexError, ValueError, TypeError):
        raise NotPlainError("#".join(names)) from None
    return config


def _built(config: Any, value: Any, made: dict[str, Any]) -> Any:
    """A value of the config with its references replaced and its components made."""
    if isinstance(value, str):
        if value.startswith(OF_MONAI):
            raise NotPlainError(value)
        return _component(config, value[1:], made) if value.startswith("@") else value
    if isinstance(value, list):
        return [_built(config, part, made) for part in value]
    if not isinstance(value, dict):
        return value
    module, _, name = str(value.get("_target_", "")).rpartition(".")
    if any(key.startswith("_") for key in value.keys() - OPTIONS) or ("_target_" in value and not module):
        raise NotPlainError(name)  # options and short names of MONAI
    arguments = {key: _built(config, part, made) for key, part in value.items() if key not in OPTIONS}
    if not module:
        return arguments
    target = getattr(import_module(module), name)
    if value.get("_mode_") == "callable":
        return partial(target, **arguments) if arguments else target
    return target(**arguments)
