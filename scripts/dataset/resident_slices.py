"""Training slices that stay on the device: read once, then drawn and augmented there in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..transforms.preprocessing import TISSUE
from .sampling import Sample, SliceDataset, SourceLoader

__all__ = ["ResidentLoader"]

UNKNOWN = 255  # in a mask of bytes
KINDS = ("volume", "image")


class Resident(NamedTuple):
    """The labeled slices of a data set on a device, in the order of `rows`.

    Args:
        images: float16 (N, C, H, W), as the store holds them.
        masks: uint8 (N, R, H, W) of 0 and 1, `UNKNOWN` for slices without one.
        cls: float32 (N,), NaN for unknown.
        statistics: float32 (N, 2, C).
        rows: of each record's index, its place.
    """

    images: Tensor
    masks: Tensor
    cls: Tensor
    statistics: Tensor
    rows: dict[int, int]


class ResidentLoader(SourceLoader):
    """The batches of `SourceLoader`, drawn alike, from slices that stay on a device and are augmented there.

    Args:
        dataset: of all training slices, without a transform.
        augmentation: (batch, seed) -> batch, see `BatchAugmentation`.
        device: that holds the slices.
        settings: further arguments of `SourceLoader`.

    Raises:
        ValueError: for slices of several sequences; see also `SourceLoader`.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        augmentation: Callable[[dict[str, Any], int], dict[str, Any]],
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        if dataset.sizes[0] > 1:
            raise ValueError("slices of several sequences are not augmented in batches; train without gpu_train.yaml")
        super().__init__(dataset, **settings)
        self.dataset, self.augmentation, self.device = dataset, augmentation, device

    @cached_property
    def resident(self) -> Resident:
        """All slices that can be drawn, read at first use."""
        chosen = sorted({int(index) for loader in self.loaders for index in loader.sampler.chosen})
        items = [self.dataset[index] for index in chosen]
        blank = torch.full((self.dataset.sizes[1], *items[0]["image"].shape[1:]), torch.nan)
        masks = torch.stack([item.get("mask", blank) for item in items]).nan_to_num(UNKNOWN)
        return Resident(
            torch.stack([item["image"] for item in items]).half().to(self.device),
            masks.to(torch.uint8).to(self.device),
            torch.tensor([float(item["cls"]) for item in items], device=self.device),
            torch.stack([torch.as_tensor(item["statistics"]) for item in items]).to(self.device),
            {index: row for row, index in enumerate(chosen)},
        )

    def __iter__(self) -> Iterator[Any]:
        done = 0 if self.mixed else self.first % len(self.loaders)  # batches of the first round
        for batches in zip(*map(self._batches, self.loaders), strict=False):
            if self.mixed:
                yield list(batches)
            else:
                yield from batches[done:]
            done = 0

    def _batches(self, loader: Any) -> Iterator[dict[str, Any]]:
        samples = iter(loader.sampler)
        while len(drawn := list(islice(samples, loader.batch_size))) == loader.batch_size:
            yield self._batch(drawn, loader.sampler.seed)

    def _batch(self, drawn: list[Sample], seed: int) -> dict[str, Any]:
        """A batch as `prepare_batch` takes it; its augmentation depends on the seed and its first sample."""
        held, records = self.resident, [self.dataset.data[sample.record] for sample in drawn]
        rows = torch.tensor([held.rows[int(sample.record)] for sample in drawn], device=self.device)
        image, mask = held.images[rows].float(), held.masks[rows].float()
        batch = {
            "image": image,
            "mask": torch.where(mask == UNKNOWN, torch.nan, mask),
            "foreground": (image > TISSUE).any(dim=1, keepdim=True).float(),
            "statistics": held.statistics[rows],
            "cls": held.cls[rows],
            **{name: [record[name] for record in records] for name in ("case", "source", "kind", "index")},
        }
        if "tumor_type" in records[0]:
            batch["tumor_type"] = torch.tensor([int(record["tumor_type"]) for record in records], device=self.device)
        first, kind = drawn[0], KINDS.index(records[0]["kind"])
        draws = np.random.SeedSequence((seed, first.epoch, first.number, kind)).generate_state(1, np.uint32)
        return self.augmentation(batch, int(draws[0]))
