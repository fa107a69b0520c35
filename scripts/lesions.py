"""Lesions of one patient in the head of another: more tumours than there are patients to learn from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage

from .sampling import SliceDataset

__all__ = ["RandPasteLesiond"]

BLUR = 1.5  # pixels: how softly a lesion's edge goes over into its new surroundings
MARGIN = 4  # pixels around a lesion that come with it


class RandPasteLesiond(RandomizableTransform, MapTransform):
    """Put a lesion of another patient into a slice: its mask grows, its class becomes "tumour".

    A picture without a tumour gets one that nothing but the lesion tells, neither its source nor its style. The lesion
    is turned and mirrored at random, lies with its middle anywhere in the tissue, and is cut at the tissue's edge.

    Args:
        keys: slices (C, H, W) in standard deviations of their tissue, as the donors are.
        donors: slices without random transforms; those that show a tumour lend theirs.
        min_tumor_pixels: a class 1 needs this many; fewer make the class unknown.
        prob: of doing so.
        kinds: which slices get one: "volume", "image".
        mask_key: changed where there is one.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        donors: SliceDataset,
        min_tumor_pixels: int,
        prob: float = 0.2,
        kinds: tuple[str, ...] = ("volume", "image"),
        mask_key: str = "mask",
        foreground_key: str = "foreground",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.donors, self.min_tumor_pixels, self.kinds = donors, min_tumor_pixels, tuple(kinds)
        self.mask_key, self.foreground_key = mask_key, foreground_key
        self.lenders = [i for i, record in enumerate(donors.data) if record["kind"] == "volume" and record["cls"] == 1]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        kind = "volume" if self.mask_key in d else "image"
        if not self._do_transform or kind not in self.kinds:
            return d
        others = [i for i in self.lenders if self.donors.data[i]["case"] != d["case"]]
        if not others:
            return d
        donor = self.donors[others[self.R.randint(len(others))]]
        tissue = np.asarray(d[self.foreground_key][0]) > 0.5
        middles = np.argwhere(tissue)
        if not len(middles):
            return d
        patch, lesion = self._turned(np.asarray(donor["image"]), np.asarray(donor["mask"])[0] > 0.5)
        share, picture = _placed(lesion, middles[self.R.randint(len(middles))], tissue.shape, patch)
        weight = torch.from_numpy(share * tissue)[None]
        for key in self.key_iterator(d):
            d[key] = d[key] * (1 - weight) + torch.from_numpy(picture) * weight
        new = weight > 0.5
        known = bool(d["cls"] == 1) or int(new.sum()) >= self.min_tumor_pixels
        d["cls"] = np.float32(1.0 if known else np.nan if bool(new.any()) else d["cls"])
        if self.mask_key in d:
            d[self.mask_key] = torch.maximum(d[self.mask_key], new.float())
        return d

    def _turned(self, image: np.ndarray, lesion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lesion's surroundings (C, h, w) and its mask (h, w), turned by quarters and mirrored."""
        rows, columns = (np.flatnonzero(lesion.any(axis=axis)) for axis in (1, 0))
        box = tuple(slice(max(0, line[0] - MARGIN), line[-1] + 1 + MARGIN) for line in (rows, columns))
        patch, mask = image[(slice(None), *box)], lesion[box]
        turns, mirrored = self.R.randint(4), self.R.randint(2)
        patch, mask = np.rot90(patch, turns, axes=(1, 2)), np.rot90(mask, turns)
        return (patch[:, :, ::-1], mask[:, ::-1]) if mirrored else (patch, mask)


def _placed(
    lesion: np.ndarray, middle: np.ndarray, shape: tuple[int, ...], patch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (H, W) of the lesion, and its picture (C, H, W), on an empty plane with its middle at a pixel."""
    weight = np.zeros(shape, dtype=np.float32)
    pasted = np.zeros((len(patch), *shape), dtype=np.float32)
    start = np.asarray(middle) - np.array(lesion.shape) // 2
    low, high = np.maximum(start, 0), np.minimum(start + lesion.shape, shape)
    there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
    weight[there] = ndimage.gaussian_filter(lesion.astype(np.float32), BLUR)[here]
    pasted[(slice(None), *there)] = patch[(slice(None), *here)]
    return weight, pasted
