"""Configs that cannot lie: unknown keys are errors, and one config shares its parts with the others."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from .files import write_json

__all__ = ["UnknownKeyError", "begin", "parts", "running_config"]

# what MONAI itself adds to a config: run's own settings, metadata, experiment tracking, MONAI Label's overrides
GIVEN_BY_MONAI = {
    *(
        "_meta_",
        "bundle_root",
        "device",
        "run_id",
        "tracking_uri",
        "experiment_name",
        "run_name",
        "save_execute_config",
    ),
    *("is_not_rank0", "handlers_id", "configs", "trainer", "validator", "evaluator", "epochs", "displayable_configs"),
}


class UnknownKeyError(ValueError):
    """A key that no config of this bundle has, most often a misspelt override."""


def parts(bundle_root: str | Path, config: str, ids: Sequence[str], **overrides: Any) -> dict[str, Any]:
    """Parts of another config of this bundle; how what several workflows need is written once.

    Args:
        bundle_root: the bundle's folder.
        config: file name in `configs/`.
        ids: the parts, made together: where two refer to a third, it is the same object.
        overrides: values of other keys of that config.

    Returns:
        The parts by their ids.

    Raises:
        UnknownKeyError: for an override that the config does not have.
    """
    parser = ConfigParser()
    parser.read_config(str(Path(bundle_root) / "configs" / config))
    for key, value in {"bundle_root": str(bundle_root), **overrides}.items():
        if key not in parser:
            raise UnknownKeyError(f"{config} has no key '{key}'")
        parser[key] = value
    return {id: parser.get_parsed_content(id) for id in ids}


def begin(bundle_root: str | Path, configs: Sequence[str], output_dir: str | Path | None = None) -> None:
    """First step of every run: refuse unknown keys, then save the config as it will be run.

    Args:
        bundle_root: the bundle's folder.
        configs: file names in `configs/` whose keys this run may have.
        output_dir: gets `config.json`, the configuration with every override applied; None saves nothing.

    Raises:
        UnknownKeyError: naming the keys and the nearest known ones.
    """
    running = running_config()
    known = set(GIVEN_BY_MONAI)
    for name in configs:
        content = ConfigParser.load_config_file(str(Path(bundle_root) / "configs" / name))
        known |= {key.lstrip("+").replace("::", "#").split("#")[0] for key in content}
    unknown = sorted(set(running) - known)
    if unknown:
        raise UnknownKeyError(f"unknown config keys: {', '.join(unknown)}; known are: {', '.join(sorted(known))}")
    if output_dir is not None:
        write_json(Path(output_dir) / "config.json", {k: v for k, v in running.items() if k != "_meta_"})


def running_config() -> dict[str, Any]:
    """The whole configuration that is being run, as written, overrides applied.

    MONAI gives a component no way to see the config that it is a part of, so the resolver that is instantiating it is
    looked up on the call stack.

    Raises:
        RuntimeError: when called from outside a config.
    """
    for frame in inspect.stack():
        resolver = frame.frame.f_locals.get("self")
        if isinstance(resolver, ReferenceResolver):
            return dict(resolver.items[""].get_config())
    raise RuntimeError("only a component of a running config can see it")
