"""Run the exported network: images (B, C, H, W) in, packed logits (B, K, H, W) out, as the bundle's own network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import files
from ..errors import UserError
from ..manifest import read_json
from .export_formats import FORMATS

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor], Tensor]

__all__ = ["exported_beside", "files_of", "load_exported", "note_beside"]


def exported_beside(weights: Path, name: str) -> Path:
    """Path of the network of these weights, exported to a format."""
    return weights.with_suffix(FORMATS[name].suffix)


def files_of(exported: Path) -> list[Path]:
    """The files of an exported network: OpenVINO has a second one with the weights."""
    suffixes = {known.suffix: known.weights_suffix for known in FORMATS.values()}
    beside = suffixes.get(exported.suffix)
    return [exported, exported.with_suffix(beside)] if beside else [exported]


def note_beside(exported: Path) -> Path:
    """Path of the note beside an exported network: hash of its weights, difference of its logits."""
    return exported.with_name(f"{exported.name}.json")


def load_exported(name: str, weights: Path) -> Network:
    """Load the exported network of these weights.

    Args:
        name: one of `export_formats.FORMATS`.
        weights: file of the weights; the exported network is beside it.

    Raises:
        UserError: when it is missing, was exported from other weights, or its runtime is not installed.
    """
    path = exported_beside(weights, name)
    if not all(file.is_file() for file in (*files_of(path), note_beside(path))):
        raise UserError(f"{path}: no such file; export it first (python -m bundle export --format {name})")
    note = read_json(note_beside(path))
    found = {file.name: files.sha256_of(file) for file in files_of(path)}
    if note.get("weights_sha256") != files.sha256_of(weights):
        raise UserError(f"{path}: exported from other weights than {weights.name}; export it again")
    if note.get("sha256") != found:
        raise UserError(f"{path}: changed since it was exported; export it again")
    return open_exported(name, path)


def open_exported(name: str, path: Path) -> Network:
    """Open a file in a format, for the CPU."""
    opened: Network
    try:
        opened = FORMATS[name].open(path)
    except ImportError as error:
        raise UserError(f"{FORMATS[name].title} needs the package {error.name}") from None
    return opened
