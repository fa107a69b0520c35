"""Augmentation of lesions: paste lesions of other patients, add synthetic cores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from scipy import ndimage

from ..core.tumor_types import UNKNOWN
from ..dataset.sampling import SliceDataset
from ..transforms.channels import known_channels

__all__ = ["RandLesionCored", "RandPasteLesiond"]

BLUR = 1.5  # pixels, of a pasted lesion's edge
MARGIN = 4  # pixels around a lesion that are pasted with it
CORES = (-3.5, 1.5)  # brightness of a core in FLAIR, from cyst to solid tumor, in standard deviations of tissue
LARGEST, WAVINESS = 1.2, 0.3  # longest semi-axis of a core per lesion radius; amplitude of its wavy edge per semi-axis
LIKE_TISSUE = (-1.2, 0.6)  # brightness of healthy tissue: such a core stays inside the lesion


class RandPasteLesiond(RandomizableTransform, MapTransform):
    """Paste a lesion of another scan into a slice; update its mask, of the whole tumor alone, and its class.

    The class of the slice then depends on the lesion only, not on source or style. The lesion is rotated by multiples
    of 90 degrees and flipped at random, centered anywhere in the tissue, and cut at the tissue's edge.

    Args:
        keys: slices (C, H, W) in standard deviations of their tissue, as the donors.
        donors: slices without random transforms; their lesions are pasted.
        min_tumor_pixels: of class 1; with fewer pixels the class is unknown.
        prob: probability of the transform.
        mask_key: updated if present.
        foreground_key: foreground (1, H, W) of 0 and 1.
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
        self.case_of = {  # by index of the donor
            i: record["case"]
            for i, record in enumerate(donors.data)
            if record["kind"] == "volume" and record["cls"] == 1
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        others = [i for i, case in self.case_of.items() if case != d["case"]]
        if not others:
            return d
        donor = self.donors[others[self.R.randint(len(others))]]
        tissue = np.asarray(d[self.foreground_key][0]) > 0.5
        middles = np.argwhere(tissue)
        if not len(middles):
            return d
        shown = known_channels(torch.as_tensor(donor["image"]))
        channels = len(d[self.first_key(d)])
        if channels == 1 < len(shown):  # an image of unknown sequence gets the lesion of any
            shown = shown[[self.R.randint(len(shown))]]
        if len(shown) != channels:
            return d
        patch, lesion = self._turned(np.asarray(shown), np.asarray(donor["mask"])[0] > 0.5)
        share, pasted = _placed(lesion, middles[self.R.randint(len(middles))], tissue.shape, patch)
        weight = torch.from_numpy(share * tissue)[None]
        for key in self.key_iterator(d):
            d[key] = d[key] * (1 - weight) + torch.from_numpy(pasted) * weight
        new = weight > 0.5
        known = bool(d["cls"] == 1) or int(new.sum()) >= self.min_tumor_pixels
        d["cls"] = np.float32(1.0 if known else np.nan if bool(new.any()) else d["cls"])
        if "tumor_type" in d and bool(new.any()):
            d["tumor_type"] = UNKNOWN  # of two tumors
        if self.mask_key in d:
            d[self.mask_key] = torch.maximum(d[self.mask_key][:1], new.float())
        return d

    def _turned(self, image: np.ndarray, lesion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lesion's bounding box in the image (C, h, w) and its mask (h, w), rotated and flipped at random."""
        rows, columns = (np.flatnonzero(lesion.any(axis=axis)) for axis in (1, 0))
        box = tuple(slice(max(0, line[0] - MARGIN), line[-1] + 1 + MARGIN) for line in (rows, columns))
        patch, mask = image[(slice(None), *box)], lesion[box]
        turns, mirrored = self.R.randint(4), self.R.randint(2)
        patch, mask = np.rot90(patch, turns, axes=(1, 2)), np.rot90(mask, turns)
        return (patch[:, :, ::-1], mask[:, ::-1]) if mirrored else (patch, mask)


def _placed(
    lesion: np.ndarray, middle: np.ndarray, shape: tuple[int, ...], patch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight (H, W) of the lesion and its image (C, H, W) on an empty plane, centered at a pixel."""
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
    """Add a core to a lesion: a blob of another brightness inside it, or partly outside if healthy tissue differs.

    In FLAIR edema is bright; solid, necrotic and cystic parts of a tumor are not, but belong to the whole tumor. Their
    appearance varies between patients: a network trained on few patients segments the edema only. A core with the
    brightness of healthy tissue stays inside the lesion, since outside it could not be distinguished from tissue. A
    lesion with known regions, (R, H, W), is not changed: the core would belong to another region than its place tells.

    Args:
        keys: slices (C, H, W) in standard deviations of their tissue.
        prob: probability for slices with a lesion.
        mask_key: the core is added to this mask.
        foreground_key: foreground (1, H, W) of 0 and 1.
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
        if not self._do_transform or not len(lesion) or len(d[self.mask_key]) > 1:
            return d
        radius, middle = np.sqrt(len(lesion) / np.pi), lesion[self.R.randint(len(lesion))]
        tissue = np.asarray(d[self.foreground_key][0]) > 0.5
        reach = int(np.ceil(LARGEST * (1 + WAVINESS) * radius + 5 * BLUR))  # pixels farther away are not changed
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
            grain = texture - torch.nn.functional.avg_pool2d(texture, 7, 1, 3)  # high frequencies only
            plane[:, *box] = plane[:, *box] * (1 - weight) + (level + grain.clamp(-1.0, 1.0) * strength) * weight
            d[key] = plane
        d[self.mask_key] = torch.as_tensor(d[self.mask_key]).clone()
        d[self.mask_key][0][box] = torch.maximum(d[self.mask_key][0][box], torch.from_numpy(core).float())
        return d

    def _blob(self, middle: np.ndarray, radius: float, shape: tuple[int, ...]) -> np.ndarray:
        """An ellipse with a wavy edge, about as large as the lesion or smaller: boolean (H, W)."""
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        y, x = rows - middle[0], columns - middle[1]
        turn, waves = self.R.uniform(0, np.pi), self.R.randint(2, 6)
        long, short = radius * self.R.uniform(0.3, LARGEST, size=2)
        u, v = (x * np.cos(turn) + y * np.sin(turn)) / long, (y * np.cos(turn) - x * np.sin(turn)) / short
        edge = 1 + self.R.uniform(0, WAVINESS) * np.sin(waves * np.arctan2(v, u) + self.R.uniform(0, 2 * np.pi))
        blob: np.ndarray = np.hypot(u, v) < edge
        return blob
