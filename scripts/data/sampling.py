"""What the network sees in training, as a pure function of (seed, epoch, draw): independent of workers and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import DataLoader, get_track_meta, set_track_meta
from torch.utils.data import Dataset, Sampler

from ..transforms.preprocessing import tissue_of
from .balance import balanced_weights
from .label_studies import Studies
from .slice_store import SliceStore

__all__ = ["BalancedSampler", "BatchesInOrder", "Draw", "SliceDataset", "SourceLoader"]

Record = Mapping[str, Any]
FEWEST = 32  # draws of an epoch


class Draw(NamedTuple):
    """One draw of an epoch: its number, and the record that it shows."""

    epoch: int
    number: int
    record: int


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of a store as dicts.

    An item has "image" float32 (C, H, W), "mask" float32 (1, H, W) where there is one (NaN where a transform is given
    and there is none, so that batches hold both), "foreground" float32 (1, H, W) of 0 and 1, "cls" (1.0, 0.0, NaN for
    unknown), and "statistics", "case", "source", "index" and
    "skull" for those who ask.

    Args:
        data: records from `slice_records`.
        store_dir: the slice store that they are records of.
        transform: MONAI transform on the dict, reseeded for every draw.
        seed: of the random transforms.
        studies: what makes records of pairs of files, should `data` be such.
    """

    def __init__(
        self,
        data: Sequence[Record],
        store_dir: str | Path,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        studies: Studies | None = None,
    ) -> None:
        self.of_studies = studies is not None and studies.are_given(data)
        if studies is not None and self.of_studies:
            data, store_dir = studies.records(data), studies.folder
        self.data, self.store_dir, self.transform, self.seed = list(data), store_dir, transform, seed

    @cached_property
    def store(self) -> SliceStore:
        """Where the slices are; an empty list needs none."""
        return SliceStore(self.store_dir)

    def epoch_of(self, samples: int) -> int:
        """Draws of an epoch: as many as asked for, but of studies not more than their slices: a person waits."""
        return min(samples, max(len(self.data), FEWEST)) if self.of_studies else samples

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | Draw) -> dict[str, Any]:
        draw = key if isinstance(key, Draw) else Draw(0, int(key), int(key))
        record = self.data[draw.record]
        image, mask = self.store.read(record["case"], record["position"])
        item: dict[str, Any] = {name: record[name] for name in ("case", "source", "index")}
        item["skull"] = bool(record.get("skull", True))
        item["cls"] = np.float32(record["cls"])
        item["statistics"] = np.asarray(record["statistics"], dtype=np.float32)
        item["image"] = torch.from_numpy(image)
        item["foreground"] = tissue_of(item["image"])[None].float()
        if mask is not None:
            item["mask"] = torch.from_numpy(mask.astype(np.float32))
        if self.transform is None:
            return item
        if hasattr(self.transform, "set_random_state"):
            entropy = np.random.SeedSequence((self.seed, draw.epoch, draw.number, record["kind"] == "image"))
            self.transform.set_random_state(seed=int(entropy.generate_state(1)[0]))
        with _untracked():
            item = self.transform(item)
        item.setdefault("mask", torch.full((1, *item["image"].shape[1:]), torch.nan))  # a batch holds both kinds
        return item


@contextmanager
def _untracked() -> Iterator[None]:
    """Plain tensors for a while: no training slice is inverted, and metadata cost 40 % of its augmentation."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


def _teaches(record: Record) -> bool:
    """Whether there is anything to learn from a slice: a mask or a class."""
    return bool(record["has_mask"] or record["kind"] == "image")


class BalancedSampler(Sampler[Draw]):
    """Draw records by weight; the order is a function of (seed, epoch) and of the records' identities alone.

    Args:
        records: of the data set.
        chosen: indices to draw from.
        num_samples: draws an epoch, over all processes.
        tumor_fraction: see `balanced_weights`.
        tumor_free_fraction: see `balanced_weights`.
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
        tumor_free_fraction: float = 0.1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.chosen = sorted(chosen, key=lambda i: (records[i]["case"], records[i]["index"]))
        self.weights = balanced_weights([records[i] for i in self.chosen], tumor_fraction, tumor_free_fraction)
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
        tumor_fraction: share of draws from volumes with a tumor that show it.
        tumor_free_fraction: share of draws from volumes that are of patients without a tumor, if there are any.
        seed: of the order.
        num_workers: processes that read and augment.

    Raises:
        ValueError: for an unknown order, a kind of which there is no slice, or an epoch of less than a batch.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        kinds: Sequence[str],
        order: str = "alternating",
        batch_size: int = 8,
        samples_per_epoch: int = 1000,
        tumor_fraction: float = 0.65,
        tumor_free_fraction: float = 0.1,
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
            chosen = [i for i, record in enumerate(dataset.data) if record["kind"] == kind and _teaches(record)]
            if not chosen:
                raise ValueError(f"no {kind} to train on")
            shares = {"tumor_fraction": tumor_fraction, "tumor_free_fraction": tumor_free_fraction}
            sampler = BalancedSampler(
                dataset.data, chosen, samples_per_epoch, **shares, seed=seed, rank=rank, world_size=world
            )
            if len(sampler) < batch_size:
                raise ValueError(f"an epoch of {len(sampler)} slices holds no batch of {batch_size}")
            self.loaders.append(
                DataLoader(
                    dataset,
                    batch_size=batch_size,
                    sampler=sampler,
                    num_workers=num_workers,
                    persistent_workers=num_workers > 0,
                    generator=torch.Generator(),  # its own: drawing workers' seeds must not move the network's dropout
                    drop_last=True,
                )
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


class BatchesInOrder(Sampler[list[int]]):
    """All records in order, in batches that never mix slices with and without a mask.

    Args:
        records: of the data set.
        batch_size: most slices in a batch.
    """

    def __init__(self, records: Sequence[Record], batch_size: int) -> None:
        halves = [[i for i, record in enumerate(records) if record["has_mask"] is has] for has in (True, False)]
        self.batches = [half[i : i + batch_size] for half in halves for i in range(0, len(half), batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
