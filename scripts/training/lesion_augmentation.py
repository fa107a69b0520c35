"""More tumors than there are patients to learn from: lesions lent from head to head, and cores for lesions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage

from ..data.sampling import SliceDataset

__all__ = ["RandLesionCored", "RandPasteLesiond"]

BLUR = 1.5  # pixels: how softly a lesion's edge goes over into its new surroundings
MARGIN = 4  # pixels around a lesion that come with it
CORES = (-3.5, 1.5)  # brightness of a core in FLAIR, from cyst to solid tumor, in standard deviations of tissue
LARGEST, WAVINESS = 1.2, 0.3  # a core's longest half axis, of the lesion's radius; how far its edge waves, of the axis
LIKE_TISSUE = (-1.2, 0.6)  # brightness of healthy tissue: a core like it beside a lesion could not be told from it


class RandPasteLesiond(RandomizableTransform, MapTransform):
    """Put a lesion of another scan into a slice: its mask grows, its class becomes "tumor".

    A picture without a tumor gets one that nothing but the lesion tells, neither its source nor its style. The lesion
    is turned and mirrored at random, lies with its middle anywhere in the tissue, and is cut at the tissue's edge.

    Args:
        keys: slices (C, H, W) in standard deviations of their tissue, as the donors are.
        donors: slices without random transforms; those that show a tumor lend theirs.
        min_tumor_pixels: a class 1 needs this many; fewer make the class unknown.
        prob: of doing so.
        mask_key: changed where there is one.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        donors: SliceDataset,
        min_tumor_pixels: int,
        prob: float = 0.2,
        mask_key: str = "mask",
        foreground_key: str = "foreground",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.donors, self.min_tumor_pixels = donors, min_tumor_pixels
        self.mask_key, self.foreground_key = mask_key, foreground_key
        self.lenders = [i for i, record in enumerate(donors.data) if record["kind"] == "volume" and record["cls"] == 1]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
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


class RandLesionCored(RandomizableTransform, MapTransform):
    """Give a lesion a core: a blob of another brightness within it, or reaching out of it where healthy tissue differs.

    Oedema is bright in FLAIR, the solid, necrotic and cystic parts of a tumor are not, and belong to the whole tumor
    all the same. How they look differs more between patients than a handful of them can show; a network that has seen
    few draws the oedema alone. A core that looks like healthy tissue stays within the lesion: beside it, it would teach
    that whatever is near a lesion is tumor.

    Args:
        keys: slices (C, H, W) in standard deviations of their tissue.
        prob: of doing so where there is a lesion.
        mask_key: grows by what of the core lies beside the lesion.
        foreground_key: where there is tissue, (1, H, W) of 0 and 1.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.3, mask_key: str = "mask", foreground_key: str = "foreground"
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.mask_key, self.foreground_key = mask_key, foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        lesion = np.argwhere(np.asarray(d[self.mask_key][0]) > 0.5) if self.mask_key in d else ()
        if not self._do_transform or not len(lesion):
            return d
        radius, middle = np.sqrt(len(lesion) / np.pi), lesion[self.R.randint(len(lesion))]
        tissue = np.asarray(d[self.foreground_key][0]) > 0.5
        reach = int(np.ceil(LARGEST * (1 + WAVINESS) * radius + 5 * BLUR))  # beyond it nothing is changed
        box = tuple(slice(max(0, m - reach), m + reach + 1) for m in middle)
        core = self._blob(middle - [line.start for line in box], radius, tissue[box].shape) & tissue[box]
        level = self.R.uniform(*CORES)
        if self.R.rand() < 0.5 or LIKE_TISSUE[0] < level < LIKE_TISSUE[1]:
            core &= np.asarray(d[self.mask_key][0][box]) > 0.5
        weight = torch.from_numpy(ndimage.gaussian_filter(core.astype(np.float32), self.R.uniform(0.5, BLUR)))[None]
        offset, strength = tuple(self.R.randint(-20, 21, size=2)), self.R.uniform(0.3, 1.0)
        for key in self.key_iterator(d):
            plane = torch.as_tensor(d[key]).clone()
            texture = torch.roll(plane, offset, dims=(1, 2))[:, *box]
            grain = texture - torch.nn.functional.avg_pool2d(texture, 7, 1, 3)  # without the brightness it lies on
            plane[:, *box] = plane[:, *box] * (1 - weight) + (level + grain.clamp(-1.0, 1.0) * strength) * weight
            d[key] = plane
        d[self.mask_key] = torch.as_tensor(d[self.mask_key]).clone()
        d[self.mask_key][0][box] = torch.maximum(d[self.mask_key][0][box], torch.from_numpy(core).float())
        return d

    def _blob(self, middle: np.ndarray, radius: float, shape: tuple[int, ...]) -> np.ndarray:
        """A wavy ellipse about as large as the lesion, or smaller: boolean (H, W)."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        y, x = rows - middle[0], columns - middle[1]
        turn, waves = self.R.uniform(0, np.pi), self.R.randint(2, 6)
        long, short = radius * self.R.uniform(0.3, LARGEST, size=2)
        u, v = (x * np.cos(turn) + y * np.sin(turn)) / long, (y * np.cos(turn) - x * np.sin(turn)) / short
        edge = 1 + self.R.uniform(0, WAVINESS) * np.sin(waves * np.arctan2(v, u) + self.R.uniform(0, 2 * np.pi))
        blob: np.ndarray = np.hypot(u, v) < edge
        return blob
