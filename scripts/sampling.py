"""What the network sees in training, as a pure function of (seed, epoch, draw): independent of workers and restarts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import DataLoader
from torch.utils.data import Dataset, Sampler

from .slice_store import SliceStore
from .transforms import BACKGROUND

__all__ = ["BalancedSampler", "Draw", "SliceDataset", "SourceLoader", "balanced_weights"]

Record = Mapping[str, Any]


class Draw(NamedTuple):
    """One draw of an epoch: its number, and the record that it shows."""

    epoch: int
    number: int
    index: int


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of a store as dicts.

    An item has "image" float32 (C, H, W), "mask" float32 (1, H, W) where there is one, "foreground" float32 (1, H, W) of
    0 and 1, "cls" (1.0, 0.0, NaN for unknown), and "statistics", "case", "source" and "index" for those who ask.

    Args:
        data: records from `slice_records`.
        store: where their slices are.
        transform: MONAI transform on the dict, reseeded for every draw.
        seed: of the random transforms.
    """

    def __init__(
        self,
        data: Sequence[Record],
        store: SliceStore,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.data, self.store, self.transform, self.seed = list(data), store, transform, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        draw = key if isinstance(key, Draw) else Draw(0, int(key), int(key))
        record = self.data[draw.index]
        image, mask = self.store.read(record["case"], record["position"])
        item: dict[str, Any] = {name: record[name] for name in ("case", "source", "index")}
        item["cls"] = np.float32(record["cls"])
        item["statistics"] = np.asarray(record["statistics"], dtype=np.float32)
        item["image"] = torch.from_numpy(image)
        item["foreground"] = torch.from_numpy((image > BACKGROUND).any(axis=0, keepdims=True).astype(np.float32))
        if mask is not None:
            item["mask"] = torch.from_numpy(mask.astype(np.float32))
        if self.transform is None:
            return item
        if hasattr(self.transform, "set_random_state"):
            entropy = np.random.SeedSequence((self.seed, draw.epoch, draw.number))
            self.transform.set_random_state(seed=int(entropy.generate_state(1)[0]))
        return self.transform(item)  # type: ignore[no-any-return]


def balanced_weights(records: Sequence[Record], tumor_fraction: float) -> np.ndarray:
    """Probability of each record such that no patient, source or cluster is seen more than another.

    Volumes: patients alike; within a patient `tumor_fraction` of the draws show a slice with a class of 1. Images:
    sources alike, within a source both classes alike (so the source tells nothing about the class), within a class the
    clusters alike.

    Returns:
        float64 (len(records),), sum 1.
    """
    weights = np.ones(len(records))
    shares = {True: tumor_fraction, False: 1 - tumor_fraction}

    def has_tumor(record: Record) -> bool:
        return bool(record["cls"] != 0.0)  # slices with too few pixels for a class do show some

    def divide(indices: list[int], levels: Sequence[Callable[[Record], Any]], share: float) -> None:
        if not levels:
            weights[indices] = share / len(indices)
            return
        parts: dict[Any, list[int]] = defaultdict(list)
        for index in indices:
            parts[levels[0](records[index])].append(index)
        total = sum(shares[part] for part in parts) if levels[0] is has_tumor else len(parts)
        for part, members in parts.items():
            own = shares[part] if levels[0] is has_tumor else 1.0
            divide(members, levels[1:], share * own / total)

    if records and records[0]["kind"] == "volume":
        divide(list(range(len(records))), [lambda r: r["group"], has_tumor], 1.0)
    elif records:
        shares = {True: 0.5, False: 0.5}
        divide(list(range(len(records))), [lambda r: r["source"], has_tumor, lambda r: r["group"]], 1.0)
    return weights


class BalancedSampler(Sampler[Draw]):
    """Draw records by weight; the order is a function of (seed, epoch) and of the records' identities alone.

    Args:
        records: of the data set.
        chosen: indices to draw from.
        num_samples: draws an epoch, over all processes.
        tumor_fraction: see `balanced_weights`.
        seed: of the order.
        rank: this process.
        world_size: processes; each takes every world_size-th draw.
    """

    def __init__(
        self,
        records: Sequence[Record],
        chosen: Sequence[int],
        num_samples: int,
        tumor_fraction: float,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.chosen = sorted(chosen, key=lambda i: (records[i]["case"], records[i]["index"]))
        self.weights = balanced_weights([records[i] for i in self.chosen], tumor_fraction)
        self.num_samples = num_samples - num_samples % world_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch = 0

    def __len__(self) -> int:
        return self.num_samples // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self.seed, self.epoch))
        drawn = rng.choice(len(self.chosen), size=self.num_samples, p=self.weights)
        for number in range(self.rank, self.num_samples, self.world_size):
            yield Draw(self.epoch, number, self.chosen[drawn[number]])


class SourceLoader:
    """Batches of volumes' slices and of images, in turn or side by side.

    Args:
        dataset: of all training slices.
        kinds: what to draw: ["volume"] or ["volume", "image"].
        order: "alternating" gives a batch of each kind in turn, "mixed" gives them together, as a list.
        batch_size: slices of each kind in a batch.
        samples_per_epoch: slices of each kind in an epoch.
        tumor_fraction: share of draws from volumes that show tumour.
        seed: of the order.
        num_workers: processes that read and augment.

    Raises:
        ValueError: for an unknown order, or a kind of which there is no slice.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        kinds: Sequence[str],
        order: str = "alternating",
        batch_size: int = 8,
        samples_per_epoch: int = 1000,
        tumor_fraction: float = 0.65,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        if order not in ("alternating", "mixed"):
            raise ValueError(f"order is '{order}', choose alternating or mixed")
        self.mixed = order == "mixed"
        self.loaders = []
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, world = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if distributed else (0, 1)
        for kind in kinds:
            chosen = [i for i, record in enumerate(dataset.data) if record["kind"] == kind]
            if not chosen:
                raise ValueError(f"no {kind} to train on")
            sampler = BalancedSampler(
                dataset.data, chosen, samples_per_epoch, tumor_fraction, seed, rank=rank, world_size=world
            )
            self.loaders.append(
                DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, drop_last=True)
            )
        self.batch_size = batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose which epoch the next iteration draws."""
        for loader in self.loaders:
            loader.sampler.epoch = epoch

    def __len__(self) -> int:
        batches = min(len(loader) for loader in self.loaders)
        return batches if self.mixed else batches * len(self.loaders)

    def __iter__(self) -> Iterator[Any]:
        for batches in zip(*self.loaders, strict=True):
            if self.mixed:
                yield list(batches)
            else:
                yield from batches
