"""The regions of a predicted tumor: one mask with a code for each, and how large each one is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..core.documents import Kind
from ..core.geometry import pixel_mm2, voxel_mm3
from ..core.messages import flag
from ..core.regions import REGIONS, WHOLE_TUMOR, TumorRegion, as_labels, codes_of
from .flags import thickness_is_plausible

__all__ = ["LabelRegionsd", "described_regions", "sizes_of"]


class LabelRegionsd(MapTransform):
    """Put the masks of a tumor's regions into one mask of codes, see `regions.as_labels`.

    A region lies within the one before it: what is predicted outside is left out. Where a sequence is missing or
    unknown, the whole tumor alone is given, with a flag. The item gets the codes of the given regions by their names,
    "regions". The mask of the whole tumor alone, (1, H, W, D), is not changed.

    Args:
        keys: masks (R, H, W, D) of 0 and 1, which become (1, H, W, D).
        regions: of the network, from `regions.REGIONS`.
        image_key: the network's input, whose metadata name missing sequences.
    """

    def __init__(self, keys: KeysCollection, regions: Sequence[str] = WHOLE_TUMOR, image_key: str = "image") -> None:
        super().__init__(keys)
        self.regions, self.image_key = tuple(regions), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if len(self.regions) == 1:
            return d
        meta, given = d[self.image_key].meta, self.regions
        if meta.get("missing_sequences") or meta.get("sequence_unknown"):
            given, notes = self.regions[:1], d.get("sequence_notes", [])
            d["sequence_notes"] = [*notes, flag("regions_withheld")]
        codes = codes_of(self.regions)
        d["regions"] = {name: codes[name] for name in given}
        for key in self.key_iterator(d):
            masks = np.asarray(d[key].as_tensor()[: len(given)].cpu()) > 0
            labels = torch.from_numpy(as_labels(masks, self.regions)[None]).float()
            d[key] = MetaTensor(labels).copy_meta_from(d[key])
            d[key].meta["highest_code"] = max(codes["wt"])
        return d


def described_regions(mask: MetaTensor, regions: Mapping[Any, Sequence[int]], kind: Kind) -> list[TumorRegion]:
    """Title, codes and size of each region in a mask of codes (1, H, W, D).

    Args:
        mask: see `LabelRegionsd`.
        regions: codes of each region.
        kind: of scan.
    """
    labels = np.asarray(mask.as_tensor().cpu())
    found: list[TumorRegion] = []
    for name, codes in regions.items():
        region: TumorRegion = {"name": name, "title": REGIONS[name].title, "codes": list(codes)}
        sizes = sizes_of(mask, float(np.isin(labels, codes).sum()), kind)
        found.append({**region, **sizes})  # type: ignore[typeddict-item]
    return found


def sizes_of(mask: MetaTensor, voxels: float, kind: Kind) -> dict[str, float]:
    """Volume in ml, and of an image area in mm2, of voxels of a mask (1, H, W, D), where the file tells them."""
    sizes: dict[str, float] = {}
    if mask.meta.get("spacing_used"):
        affine = mask.meta["original_affine"]
        if mask.meta.get("thickness_known", True) and thickness_is_plausible(mask):
            sizes["volume_ml"] = round(voxels * voxel_mm3(affine) / 1000.0, 4)
        if kind == "image":
            sizes["area_mm2"] = round(voxels * pixel_mm2(affine, mask.meta["spatial_shape"]), 4)
    return sizes
