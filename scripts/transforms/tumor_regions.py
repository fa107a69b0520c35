"""From a mask's codes to the regions of the tumor."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..core.label_codes import codes_in, regions_of
from ..core.regions import WHOLE_TUMOR, require_regions

__all__ = ["TumorRegionsd"]


class TumorRegionsd(MapTransform):
    """Reduce a mask's codes to the tumor's regions: (R, H, W, D), 1 where there is the region, else 0.

    Of a mask whose codes do not tell the regions it is the whole tumor alone, (1, H, W, D); see `regions_of`. The tumor
    codes are the item's `tumor_codes`, or those of the data set that its `id` names. The mask's metadata get
    `label_codes`, the voxels of each code.

    Args:
        keys: masks (1, H, W, D).
        regions: names from `regions.REGIONS`, first the whole tumor, the one region that FLAIR shows.
        modalities: sequences that are read.

    Raises:
        ValueError: when the sequences do not show a region, the codes are not known, or the mask was interpolated
            between several.
    """

    def __init__(
        self,
        keys: KeysCollection,
        regions: Sequence[str] = WHOLE_TUMOR,
        modalities: Sequence[str] = ("flair",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        require_regions(regions, modalities)
        self.regions = tuple(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            values = torch.as_tensor(d[key]).numpy()[0]
            masks = torch.from_numpy(regions_of(values, d, self.regions)).to(torch.uint8)
            d[key] = MetaTensor(masks).copy_meta_from(d[key]) if isinstance(d[key], MetaTensor) else masks
            if isinstance(d[key], MetaTensor):
                d[key].meta["label_codes"] = {str(code): count for code, count in codes_in(values).items()}
        return d
