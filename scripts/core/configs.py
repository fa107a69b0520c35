"""Checks of configs: unknown keys are errors; configs share sections with each other."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from .errors import end_in_one_line
from .files import escape_config_value, read_json, sha256_of, write_json

__all__ = ["UnknownKeyError", "check_config", "components_of", "raw_sections", "run_identity", "running_config"]

# keys that MONAI adds to a config: metadata and experiment tracking
GIVEN_BY_MONAI = {"_meta_", "tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}
# keys about where and how a run happens, which do not change its result
NON_IDENTITY_KEYS = {
    *("bundle_root", "dataset_dir", "output_dir", "split_file", "initial_weights", "model_path", "device", "backend"),
    *("num_workers", "imports", "initialize", "finalize", "check_config", "checkpoint_minutes", *GIVEN_BY_MONAI),
}


class UnknownKeyError(ValueError):
    """A key that no config of this bundle has, most often a misspelled override."""


def components_of(bundle_root: str | Path, config: str, ids: Sequence[str], **overrides: Any) -> dict[str, Any]:
    """Instantiate components of another config of this bundle, so that workflows share one definition.

    Args:
        bundle_root: the bundle's folder.
        config: file name in `configs/`.
        ids: of the components; two that refer to a third share the same object.
        overrides: values of other keys of that config.

    Returns:
        The components by their ids.

    Raises:
        UnknownKeyError: for an override that the config does not have.
    """
    parser = ConfigParser()
    parser.read_config(str(Path(bundle_root) / "configs" / config))
    for key, value in {"bundle_root": str(bundle_root), **overrides}.items():
        if key not in parser:
            raise UnknownKeyError(f"{config} has no key '{key}'")
        parser[key] = escape_config_value(value)
    return {id: parser.get_parsed_content(id) for id in ids}


def check_config(
    bundle_root: str | Path, configs: Sequence[str], output_dir: str | Path | None = None, device: Any = None
) -> None:
    """First step of every run: refuse unknown keys, then save the config of this run.

    From here on errors of the input are one line, also in `python -m monai.bundle`.

    Args:
        bundle_root: the bundle's folder.
        configs: file names in `configs/` whose keys this run may have.
        output_dir: folder for `config.json`, the configuration with all overrides; None saves nothing.
        device: torch device of the run; None: not checked.

    Raises:
        UnknownKeyError: naming the keys and the nearest known ones.
        ValueError: when this machine has no such device.
    """
    end_in_one_line()
    running = running_config()
    known = set(GIVEN_BY_MONAI)
    for name in configs:
        known |= set(_ids(ConfigParser.load_config_file(str(Path(bundle_root) / "configs" / name))))
    unknown = sorted(set(_ids(running)) - known)
    if unknown:
        near = {key: get_close_matches(key, known, 1) for key in unknown}
        named = ", ".join(f"{key} (did you mean {like[0]}?)" if like else key for key, like in near.items())
        files = "" if all(near.values()) else f"; the keys are in configs/{', '.join(configs)}"
        raise UnknownKeyError(f"unknown config keys: {named}{files}")
    if device is not None:
        _require_device(device)
    if output_dir is not None:
        write_json(Path(output_dir) / "config.json", {k: v for k, v in running.items() if k != "_meta_"})


def _require_device(device: Any) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device: '{device}' cannot be used ({reason}); choose another, such as cpu") from None


def _ids(section: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Ids of a config's keys and of keys in sections; the arguments of a component are checked by the component."""
    for key, value in section.items():
        names = key.lstrip("+").replace("::", "#").split("#")
        for depth in range(1, len(names) + 1):
            yield above + "#".join(names[:depth])
        if isinstance(value, Mapping) and "_target_" not in value and not value.keys() & {"_meta_"} and key != "_meta_":
            yield from _ids(value, f"{above}{'#'.join(names)}#")


def run_identity(files: Sequence[str | Path | None], store: str | Path) -> str:
    """Hash of the running config without `NON_IDENTITY_KEYS`, of the content of some files and of the slice store.

    Args:
        files: files whose content counts, but not their path; None for an unused one.
        store: folder of the slice store; its fingerprint counts, if it has one.
    """
    settings = {key: value for key, value in running_config().items() if key not in NON_IDENTITY_KEYS}
    contents = [sha256_of(file) if file is not None and Path(file).is_file() else None for file in files]
    index = Path(store) / "store.json"
    made_by = read_json(index)["fingerprint"] if index.is_file() else None
    return hashlib.sha256(json.dumps([settings, contents, made_by], sort_keys=True, default=str).encode()).hexdigest()


def raw_sections(bundle_root: str | Path, config: str, ids: Sequence[str]) -> dict[str, Any]:
    """Sections of a config of this bundle as they are written, not instantiated."""
    content = ConfigParser.load_config_file(str(Path(bundle_root) / "configs" / config))
    return {id: content[id] for id in ids}


def running_config() -> dict[str, Any]:
    """The whole configuration of this run, not instantiated, with overrides.

    MONAI does not pass the config to a component, so the resolver that instantiates it is looked up on the call stack.

    Raises:
        RuntimeError: when called from outside a config.
    """
    for frame in inspect.stack(context=0):
        resolver = frame.frame.f_locals.get("self")
        if isinstance(resolver, ReferenceResolver):
            return dict(resolver.items[""].get_config())
    raise RuntimeError("only a component of a running config can read the config")
