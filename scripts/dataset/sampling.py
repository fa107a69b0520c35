"""Sampling of training slices as a function of (seed, epoch, sample): independent of workers and restarts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader, get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, Sampler

from ..transforms.channels import filled, missing_channels
from ..transforms.preprocessing import tissue_of
from .balance import balanced_weights
from .label_studies import Studies
from .slice_store import SliceStore

__all__ = ["BalancedSampler", "BatchesInOrder", "Sample", "SliceDataset", "SourceLoader"]

Record = Mapping[str, Any]
FEWEST = 32  # samples of an epoch


class Sample(NamedTuple):
    """One sample of an epoch: its number, and the index of its record."""

    epoch: int
    number: int
    record: int


class SliceDataset(Dataset[dict[str, Any]]):
    """Slices of a store as dicts.

    An item has "image" float32 (C, H, W), "mask" float32 (R, H, W) if there is one (with a transform always; NaN if
    unknown, so that batches can contain both), "foreground" float32 (1, H, W) of 0 and 1, "cls" (1.0, 0.0, NaN for
    unknown), "tumor_type" (its number, -1 for unknown), if the records have it, "statistics", "case", "source",
    "kind" (volume or image), "index" and "skull"; for the transform, where the store has it, the brain of a volume with
    a skull: "brain" float32 (1, H, W) of 0 and 1, and "brain_statistics" (2, C).

    In a store of several sequences, an image of unknown sequence has one channel for the transform, and NaN in the
    others afterwards; for the transform "missing" are the channels without tissue, boolean (C,).

    Args:
        data: records from `SliceRecords`.
        store_dir: the slice store of the records.
        transform: MONAI transform of the dict, or a `Compose` of them; reseeded for every sample.
        seed: of the random transforms.
        studies: converts pairs of files to records, if `data` contains pairs.
    """

    def __init__(
        self,
        data: Sequence[Record],
        store_dir: str | Path,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        studies: Studies | None = None,
    ) -> None:
        self.studies = studies if studies is not None and studies.are_given(data) else None
        if self.studies is not None:
            data, store_dir = self.studies.records(data), self.studies.folder
        self.data, self.store_dir, self.transform, self.seed = data, store_dir, transform, seed

    @cached_property
    def store(self) -> SliceStore:
        """The slice store, opened at first use."""
        return SliceStore(self.store_dir)

    @property
    def of_studies(self) -> bool:
        """Whether MONAI Label passed pairs of files instead of records."""
        return self.studies is not None

    def weights_path(self, output_dir: str | Path) -> str:
        """Path of the trained weights: in the bundle's `models/` for MONAI Label, else in the output folder."""
        return str(self.studies.weights_path if self.studies is not None else Path(output_dir) / "model.pt")

    def parent_weights(self, initial_weights: str | Path | None) -> str | Path | None:
        """Path of the initial weights: MONAI Label loads the bundle's own weights, if there are any."""
        own = self.studies.weights_path if self.studies is not None and initial_weights is None else None
        return own if own is not None and own.is_file() else initial_weights

    def epoch_of(self, samples: int) -> int:
        """Samples of an epoch; of studies of MONAI Label at most their number of slices, since a user waits."""
        return min(samples, max(len(self.data), FEWEST)) if self.of_studies else samples

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | Sample) -> dict[str, Any]:
        sample = key if isinstance(key, Sample) else Sample(0, int(key), int(key))
        record = self.data[sample.record]
        image, mask = self.store.read(record["case"], record["position"])
        item: dict[str, Any] = {name: record[name] for name in ("case", "source", "kind", "index")}
        item["skull"] = bool(record.get("skull", True))
        item["cls"] = np.float32(record["cls"])
        item["statistics"] = np.asarray(record["statistics"], dtype=np.float32)
        item["image"] = torch.from_numpy(image)
        item["foreground"] = tissue_of(item["image"])[None].float()
        item |= {"tumor_type": int(record["tumor_type"])} if "tumor_type" in record else {}
        if mask is not None:
            item["mask"] = torch.from_numpy(mask.astype(np.float32))
        if self.transform is None:
            return filled(item, *self.sizes)
        if len(image) > 1:
            item["missing"] = missing_channels(item["image"])
        brain = self.store.read_brain(record["case"], record["position"]) if record.get("brain_statistics") else None
        if brain is not None:
            item["brain"] = torch.from_numpy(brain).float()
            item["brain_statistics"] = np.asarray(record["brain_statistics"], dtype=np.float32)
        _seed(self.transform, (self.seed, sample.epoch, sample.number, record["kind"] == "image"))
        with _untracked():
            item = self.transform(item)
        item.setdefault("mask", torch.full((1, *item["image"].shape[1:]), torch.nan))  # a batch holds both kinds
        item.pop("missing", None)
        return filled(item, *self.sizes)

    @cached_property
    def sizes(self) -> list[int]:
        """Channels and masks of the network that the store is made for."""
        return [len(self.store.index.get("settings", {}).get(key, ("",))) for key in ("modalities", "regions")]


def _seed(transform: Callable[[Any], Any], entropy: Sequence[int]) -> None:
    """Give all random transforms one new state; a state for each would take a quarter of the augmentation's time."""
    state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))
    for step in transform.transforms if isinstance(transform, Compose) else [transform]:
        if isinstance(step, Randomizable):
            step.set_random_state(state=state)


@contextmanager
def _untracked() -> Iterator[None]:
    """Do not track metadata: training slices are never inverted, and tracking takes 40 % of the augmentation's time."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


def _ignore_interrupts(worker: int) -> None:
    """Let the training process alone decide when to end: Ctrl-C is sent to all processes of a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_labeled(record: Record) -> bool:
    """Whether a slice has a mask or a class."""
    return bool(record["has_mask"] or record["kind"] == "image")


class BalancedSampler(Sampler[Sample]):
    """Sample records by weight; the order depends on (seed, epoch) and on the records' ids only.

    Args:
        records: of the data set.
        chosen: indices to sample from.
        num_samples: samples per epoch, over all processes.
        tumor_fraction: see `balanced_weights`.
        tumor_free_fraction: see `balanced_weights`.
        seed: of the order.
        rank: of this process.
        world_size: number of processes; each takes every world_size-th sample.

    `epoch` is the epoch of the next iteration; `first` its first sample, to resume within an epoch.
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
        self.weights = balanced_weights(records, tumor_fraction, tumor_free_fraction, self.chosen)
        self.num_samples = num_samples - num_samples % world_size
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return self.num_samples // self.world_size

    def __iter__(self) -> Iterator[Sample]:
        rng = np.random.default_rng((self.seed, self.epoch))
        sampled = rng.choice(len(self.chosen), size=self.num_samples, p=self.weights)
        for number in range(self.first + self.rank, self.num_samples, self.world_size):
            yield Sample(self.epoch, number, self.chosen[sampled[number]])


class SourceLoader:
    """Batches of volumes' slices and of images, alternating or mixed.

    Args:
        dataset: of all training slices.
        kinds: of the samples: ["volume"] or ["volume", "image"].
        order: "alternating": batches of each kind in turn; "mixed": one batch of each kind together, as a list.
        batch_size: slices of each kind in a batch, over all processes.
        samples_per_epoch: slices of each kind in an epoch.
        tumor_fraction: share of tumor slices in samples of volumes with a tumor.
        tumor_free_fraction: share of samples from patients without a tumor in samples of volumes, if there are any.
        seed: of the order.
        num_workers: processes that read and augment.

    Raises:
        ValueError: for an unknown order, a kind without slices, an epoch smaller than a batch, or a batch that the
            processes cannot share evenly.
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
        rank, world = idist.get_rank(), idist.get_world_size()
        if batch_size % world:
            raise ValueError(f"batch_size is {batch_size}, choose a multiple of the {world} processes")
        self.mixed, self.batch_size, self.first = order == "mixed", batch_size, 0
        self.loaders = []
        for kind in kinds:
            chosen = [i for i, record in enumerate(dataset.data) if record["kind"] == kind and _is_labeled(record)]
            if not chosen:
                raise ValueError(f"no {kind} to train on")
            shares = {"tumor_fraction": tumor_fraction, "tumor_free_fraction": tumor_free_fraction}
            sampler = BalancedSampler(
                dataset.data, chosen, samples_per_epoch, **shares, seed=seed, rank=rank, world_size=world
            )
            if samples_per_epoch < batch_size:
                raise ValueError(f"an epoch of {samples_per_epoch} slices is smaller than a batch of {batch_size}")
            self.loaders.append(
                DataLoader(
                    dataset,
                    batch_size=batch_size // world,
                    sampler=sampler,
                    num_workers=num_workers,
                    worker_init_fn=_ignore_interrupts,
                    persistent_workers=num_workers > 0,
                    generator=torch.Generator(),  # so that seeding workers does not change the dropout
                    drop_last=True,
                )
            )

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Set the epoch of the next iteration, and its first batch."""
        self.first = first
        for loader in self.loaders:
            loader.sampler.epoch = epoch
            loader.sampler.first = self._rounds_before(first) * self.batch_size

    def _rounds_before(self, batch: int) -> int:
        """Number of batches of each kind that all come before a batch."""
        return batch if self.mixed else batch // len(self.loaders)

    def __len__(self) -> int:
        batches = min(len(loader) for loader in self.loaders)
        return batches if self.mixed else batches * len(self.loaders)

    def __iter__(self) -> Iterator[Any]:
        done = 0 if self.mixed else self.first % len(self.loaders)  # batches of the first round
        for batches in zip(*self.loaders, strict=True):
            if self.mixed:
                yield list(batches)
            else:
                yield from batches[done:]
            done = 0


class BatchesInOrder(Sampler[list[int]]):
    """All records in order, in batches that never mix slices with and without a mask.

    Several processes share the batches; if there are fewer batches than processes, each takes all.

    Args:
        records: of the data set.
        batch_size: largest number of slices in a batch.
    """

    def __init__(self, records: Sequence[Record], batch_size: int) -> None:
        halves = [[i for i, record in enumerate(records) if record["has_mask"] is has] for has in (True, False)]
        batches = [half[i : i + batch_size] for half in halves for i in range(0, len(half), batch_size)]
        world = idist.get_world_size()
        self.batches = batches if len(batches) < world else batches[idist.get_rank() :: world]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
