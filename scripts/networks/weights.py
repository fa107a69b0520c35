"""Weights and checkpoints: loaded strictly, written atomically; the last two checkpoints are kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.files import remove_temporaries, sha256_of, write_atomic, write_json
from ..core.weights_report import notes_beside

__all__ = ["CheckpointFolder", "load_weights", "save_weights", "trained_on", "unknown_lineage"]

logger = logging.getLogger(__name__)


def save_weights(network: nn.Module, path: str | Path) -> str:
    """Write a network's state dict atomically; return the file's SHA-256."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    write_atomic(path, lambda file: torch.save(state, file))
    return sha256_of(path)


def load_weights(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Load a state dict strictly: all names and shapes must be equal.

    Args:
        network: changed in place, returned.
        path: the file; None leaves the network unchanged.

    Raises:
        FileNotFoundError: when there is no file.
        ValueError: when the file is damaged, contains anything but tensors, or does not fit the network.
    """
    if path is None:
        return network
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights; run the stage before, or name a file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises half a dozen types for a damaged file
        raise ValueError(f"{path}: not a state dict, or damaged") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: not a state dict of tensors")
    unfit = _unfit(network.state_dict(), state)
    if unfit:
        remedy = "put the report.json of their training beside them, which names network and sequences"
        raise ValueError(f"{path}: weights do not fit the network: {unfit}; {remedy}")
    network.load_state_dict(state, strict=True)
    bad = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(f"{path}: {bad[0]} is not finite")
    return network


def _unfit(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Differences between the state dicts of a network and of a file, in words; empty if there are none."""
    shared = own.keys() & found.keys()
    kinds = {
        "missing": own.keys() - shared,
        "unknown": found.keys() - shared,
        "of another shape": {name for name in shared if own[name].shape != found[name].shape},
    }
    return "; ".join(f"{len(names)} {kind}, such as {min(names)}" for kind, names in kinds.items() if names)


def trained_on(weights: str | Path | None) -> dict[str, dict[str, Any]]:
    """Training and validation cases of weights, from the notes beside them.

    Args:
        weights: the file; its notes are in the file of the same name with `.json`, or in `report.json`.

    Returns:
        By id: "sha256" of the content, "phash" (perceptual hash) of images, "group" (patient or cluster; missing before
        version 0.5.0), and "subset": "train" or "val". Empty if no notes belong to these weights: the training cases
        are unknown.
    """
    return dict(notes_beside(weights).get("trained_on", {}))


def unknown_lineage(weights: str | Path | None) -> bool:
    """Whether weights may have further training cases: they have no notes, or started from weights without notes."""
    notes = notes_beside(weights)
    return weights is not None and bool(notes.get("unknown_lineage", "trained_on" not in notes))


class CheckpointFolder:
    """Checkpoints of one run with their hashes beside them; the newest two are kept.

    `epoch_0007.pt` was saved after 7 epochs, `epoch_0007_step_00123.pt` 123 steps later.

    Args:
        folder: made on the first save.
        keep: how many to keep.
    """

    def __init__(self, folder: str | Path, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def save(self, epoch: int, content: Mapping[str, Any], steps: int = 0) -> Path:
        """Write a checkpoint; then remove the oldest, and damaged ones that were newer.

        Args:
            epoch: number of finished epochs.
            content: tensors and plain values.
            steps: number of further steps.
        """
        path = self.folder / (f"epoch_{epoch:04d}" + (f"_step_{steps:05d}" if steps else "") + ".pt")
        write_atomic(path, lambda file: torch.save(dict(content), file))
        write_json(path.with_suffix(".json"), {"epoch": epoch, "steps": steps, "sha256": sha256_of(path)})
        found = self._newest_first()
        saved = found.index(path)
        for old in (*found[:saved], *found[saved + self.keep :]):
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        return path

    def latest(self) -> dict[str, Any] | None:
        """Content of the newest undamaged checkpoint, None if there is none; damaged ones are logged."""
        remove_temporaries(self.folder)
        damaged: list[str] = []
        for path in self._newest_first():
            content = _undamaged(path)
            if content is None:
                damaged.append(path.name)
                continue
            if damaged:
                logger.warning("%s: damaged or incomplete, resuming from %s", ", ".join(damaged), path)
            return content
        if damaged:
            logger.warning("%s: damaged or incomplete, training from the start", self.folder / damaged[0])
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("epoch_*.pt"), key=lambda path: path.stem, reverse=True)


def _undamaged(path: Path) -> dict[str, Any] | None:
    """Content of a checkpoint; None if it differs from its hash, or has none."""
    try:
        if sha256_of(path) == json.loads(path.with_suffix(".json").read_text())["sha256"]:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
