"""Configs that cannot lie: unknown keys are errors, and one config shares its parts with the others."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from .files import sha256_of, write_json

__all__ = ["UnknownKeyError", "begin", "parts", "raw", "run_identity", "running_config"]

# what MONAI itself adds to a config: metadata, and experiment tracking
GIVEN_BY_MONAI = {"_meta_", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
# where and how a run happens, not what it computes
NON_IDENTITY_KEYS = {
    *("bundle_root", "dataset_dir", "output_dir", "split_file", "initial_weights", "model_path", "device", "backend"),
    *("num_workers", "imports", "initialize", "finalize", "begin", *GIVEN_BY_MONAI),
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
        parser[key] = _escape_config_value(value)
    return {id: parser.get_parsed_content(id) for id in ids}


def _escape_config_value(value: Any) -> Any:
    """A value as MONAI takes it by the letter: in a path `#` would be the sign of a nested id."""
    if isinstance(value, str) and "#" in value:
        return "$" + ascii(value).replace("#", r"\x23").replace("@", r"\x40")
    return value


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
        known |= set(_ids(ConfigParser.load_config_file(str(Path(bundle_root) / "configs" / name))))
    unknown = sorted(set(_ids(running)) - known)
    if unknown:
        top = ", ".join(sorted(id for id in known if "#" not in id))
        raise UnknownKeyError(f"unknown config keys: {', '.join(unknown)}; known are: {top}")
    if output_dir is not None:
        write_json(Path(output_dir) / "config.json", {k: v for k, v in running.items() if k != "_meta_"})


def _ids(section: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Ids of a config's keys, and of those in plain sections; a component's arguments are its own to check."""
    for key, value in section.items():
        parts = key.lstrip("+").replace("::", "#").split("#")
        for depth in range(1, len(parts) + 1):
            yield above + "#".join(parts[:depth])
        if isinstance(value, Mapping) and "_target_" not in value and not value.keys() & {"_meta_"} and key != "_meta_":
            yield from _ids(value, f"{above}{'#'.join(parts)}#")


def run_identity(files: Sequence[str | Path | None], store: str | Path) -> str:
    """Hash of what the running config computes: every value but the circumstances, and the contents of some files.

    Args:
        files: whose content matters, and not their place; None for one that is not used.
        store: folder of the slices; what it says of how they were made matters, where it says so.
    """
    settings = {key: value for key, value in running_config().items() if key not in NON_IDENTITY_KEYS}
    contents = [sha256_of(file) if file is not None and Path(file).is_file() else None for file in files]
    index = Path(store) / "store.json"
    made_by = json.loads(index.read_text())["fingerprint"] if index.is_file() else None
    return hashlib.sha256(json.dumps([settings, contents, made_by], sort_keys=True, default=str).encode()).hexdigest()


def raw(bundle_root: str | Path, config: str, ids: Sequence[str]) -> dict[str, Any]:
    """Parts of a config of this bundle as they are written there."""
    content = ConfigParser.load_config_file(str(Path(bundle_root) / "configs" / config))
    return {id: content[id] for id in ids}


def running_config() -> dict[str, Any]:
    """The whole configuration that is being run, as written, overrides applied.

    MONAI gives a component no way to see the config that it is a part of, so the resolver that is instantiating it is
    looked up on the call stack.

    Raises:
        RuntimeError: when called from outside a config.
    """
    for frame in inspect.stack(context=0):
        resolver = frame.frame.f_locals.get("self")
        if isinstance(resolver, ReferenceResolver):
            return dict(resolver.items[""].get_config())
    raise RuntimeError("only a component of a running config can see it")
