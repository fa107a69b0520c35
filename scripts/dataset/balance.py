"""Sampling probability of each slice, balanced over patients, sources and classes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["balanced_weights"]

Record = Mapping[str, Any]
Level = tuple[
    Callable[[Record], Any], Mapping[Any, float]
]  # function from a record to its part, and shares of the parts


def balanced_weights(
    records: Sequence[Record],
    tumor_fraction: float,
    tumor_free_fraction: float = 0.1,
    chosen: Sequence[int] | None = None,
) -> np.ndarray:
    """Sampling probability of each record or each chosen one, balanced over patients, sources, classes and clusters.

    Volumes: patients without a tumor `tumor_free_fraction` together; of the others sources by the square root of their
    number of patients (so that a small source keeps a share), within a source patients equally; of the samples of a
    patient with a tumor `tumor_fraction` show it. Images: single images and slices of volumes half each; single images
    by source, slices of volumes by sequence, all sources or sequences equally; within one both classes equally (so that
    it does not predict the class), within a class the types of tumors equally, if the network tells them apart, then
    the clusters or patients equally.

    Returns:
        float64, one for each record, or each chosen one, sum 1.
    """
    free = {True: tumor_free_fraction, False: 1.0 - tumor_free_fraction}
    shown = {True: tumor_fraction, False: 1.0 - tumor_fraction}
    chosen = range(len(records)) if chosen is None else chosen
    weights = np.zeros(len(records))
    of_kind: dict[str, list[int]] = defaultdict(list)
    for i in chosen:
        of_kind[records[i]["kind"]].append(i)
    patients = {(records[i]["source"], records[i]["group"]) for i in of_kind["volume"]}
    roots = {source: count**0.5 for source, count in Counter(source for source, _ in patients).items()}
    for kind, levels in (
        ("volume", ((_tumor_free, free), (_source, roots), (_group, {}), (_has_tumor, shown))),
        ("image", ((_of_volume, {}), (_sequence_or_source, {}), (_has_tumor, {}), (_tumor_type, {}), (_group, {}))),
    ):
        _divide(weights, records, of_kind[kind], levels, 1.0)
    return weights[np.asarray(chosen)] / weights.sum()


def _divide(
    weights: np.ndarray, records: Sequence[Record], members: list[int], levels: Sequence[Level], share: float
) -> None:
    """Divide a share over the parts of the first level (by its shares, or equally), then over the next level."""
    if not levels:
        weights[members] = share / max(1, len(members))
        return
    part_of, shares = levels[0]
    parts: dict[Any, list[int]] = defaultdict(list)
    for index in members:
        parts[part_of(records[index])].append(index)
    total = sum(shares.get(part, 1.0) for part in parts)
    for part, chosen in parts.items():
        mine = shares.get(part, 1.0) / total if total else 1.0 / len(parts)  # all shares are 0
        _divide(weights, records, chosen, levels[1:], share * mine)


def _group(record: Record) -> str:
    return str(record["group"])


def _source(record: Record) -> str:
    return str(record["source"])


def _sequence_or_source(record: Record) -> str:
    """Sequence of a volume's slice: patients of large and small sources have equal weight."""
    return str(record.get("sequence") or record["source"])


def _tumor_free(record: Record) -> bool:
    return bool(record.get("tumor_free", False))


def _of_volume(record: Record) -> bool:
    return bool(record.get("of_volume", False))


def _tumor_type(record: Record) -> int | None:
    return record.get("tumor_type")


def _has_tumor(record: Record) -> bool:
    return bool(record["cls"] != 0.0)  # also with too few tumor pixels for a class
