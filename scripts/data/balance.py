"""How often each slice is drawn, such that no patient, source or class is seen more than another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["balanced_weights"]

Record = Mapping[str, Any]
Level = tuple[Callable[[Record], Any], Mapping[Any, float]]  # which part a record is in, and the parts' shares


def balanced_weights(records: Sequence[Record], tumor_fraction: float, tumor_free_fraction: float = 0.1) -> np.ndarray:
    """Probability of each record such that no patient, source or cluster is seen more than another.

    Volumes: patients alike, but those without a tumor `tumor_free_fraction` of the draws together; within a patient
    `tumor_fraction` of the draws show tumor. Images: those of their own as often as slices of volumes; in each half
    sources alike, within a source both classes alike (so that the source tells nothing about the class), within a class
    the clusters or patients alike.

    Returns:
        float64 (len(records),), sum 1.
    """
    free = {True: tumor_free_fraction, False: 1.0 - tumor_free_fraction}
    shown = {True: tumor_fraction, False: 1.0 - tumor_fraction}
    weights = np.zeros(len(records))
    for kind, levels in (
        ("volume", ((_tumor_free, free), (_group, {}), (_has_tumor, shown))),
        ("image", ((_of_volume, {}), (_source, {}), (_has_tumor, {}), (_group, {}))),
    ):
        members = [i for i, record in enumerate(records) if record["kind"] == kind]
        _divide(weights, records, members, levels, 1.0)
    return weights / weights.sum()


def _divide(
    weights: np.ndarray, records: Sequence[Record], members: list[int], levels: Sequence[Level], share: float
) -> None:
    """Give members a share in all: divide it over the parts of the first level (by its shares, or alike), and so on."""
    if not levels:
        weights[members] = share / max(1, len(members))
        return
    part_of, shares = levels[0]
    parts: dict[Any, list[int]] = defaultdict(list)
    for index in members:
        parts[part_of(records[index])].append(index)
    total = sum(shares.get(part, 1.0) for part in parts)
    for part, chosen in parts.items():
        mine = shares.get(part, 1.0) / total if total else 1.0 / len(parts)  # none of the kind that is wanted
        _divide(weights, records, chosen, levels[1:], share * mine)


def _group(record: Record) -> str:
    return str(record["group"])


def _source(record: Record) -> str:
    return str(record["source"])


def _tumor_free(record: Record) -> bool:
    return bool(record.get("tumor_free", False))


def _of_volume(record: Record) -> bool:
    return bool(record.get("of_volume", False))


def _has_tumor(record: Record) -> bool:
    return bool(record["cls"] != 0.0)  # a slice with too few tumor pixels for a class shows some
