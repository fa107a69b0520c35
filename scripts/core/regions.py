"""The regions of a tumor: their names, what they need to be seen, their codes in a predicted mask, their colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict

__all__ = [
    "REGIONS",
    "WHOLE_TUMOR",
    "Region",
    "RegionScores",
    "TumorRegion",
    "as_labels",
    "codes_of",
    "masks_of",
    "parts_of",
    "require_regions",
]


@dataclass(frozen=True)
class Region:
    """A region of a tumor, as BraTS scores them.

    Args:
        title: in words.
        part: what is in this region and in none within it, in words.
        code: of this part in a predicted mask.
        color: in pictures; red, green and blue, 0 to 255. Color-blind readers can tell them apart.
        color_name: in words.
        needs: the sequence without which it is not seen, if any.
    """

    title: str
    part: str
    code: int
    color: tuple[int, int, int]
    color_name: str
    needs: str | None = None


class TumorRegion(TypedDict):
    """A region in a prediction's JSON, of weights that segment several."""

    name: Literal["wt", "tc", "et"]
    title: str  # whole tumor, tumor core, enhancing tumor
    codes: list[int]  # of its voxels in the mask; the first is of those in no region within it
    volume_ml: NotRequired[float]
    area_mm2: NotRequired[float]


class RegionScores(TypedDict):
    """Dice of one region, of the patients that have it."""

    title: str
    n: int
    dice: float | None
    ci95: list[float] | None  # None where there are too few patients


WHOLE_TUMOR = ("wt",)  # the regions of a network that segments the whole tumor alone
REGIONS = {  # each within the one before it; the codes are those of BraTS 2017 to 2021
    "wt": Region("whole tumor", "edema", 2, (255, 159, 28), "orange"),
    "tc": Region("tumor core", "necrotic or non-enhancing core", 1, (86, 180, 233), "blue", needs="t1ce"),
    "et": Region("enhancing tumor", "enhancing tumor", 4, (224, 110, 190), "pink", needs="t1ce"),
}


def require_regions(regions: Sequence[str], modalities: Sequence[str]) -> None:
    """Refuse regions that are none of `REGIONS` from the first on, and those that the sequences do not show.

    Raises:
        ValueError: naming the region.
    """
    if not regions or list(regions) != list(REGIONS)[: len(regions)]:
        raise ValueError(f"regions are {', '.join(regions) or 'none'}; choose wt, or wt, tc, or wt, tc, et")
    for name in regions:
        if REGIONS[name].needs not in (None, *modalities):
            raise ValueError(f"{name} ({REGIONS[name].title}) needs {REGIONS[name].needs} among the modalities")


def codes_of(regions: Sequence[str]) -> dict[str, list[int]]:
    """Codes of each region in a predicted mask: its own, then those of the regions within it.

    >>> codes_of(["wt"]), codes_of(["wt", "tc", "et"])
    ({'wt': [1]}, {'wt': [2, 1, 4], 'tc': [1, 4], 'et': [4]})
    """
    own = [REGIONS[name].code for name in regions] if len(regions) > 1 else [1]
    return {name: own[number:] for number, name in enumerate(regions)}


def parts_of(regions: Sequence[str]) -> dict[int, str]:
    """What each code of a predicted mask means, by the regions of the network.

    >>> parts_of(["wt", "tc"])
    {2: 'edema', 1: 'tumor core'}
    """
    codes = codes_of(regions)
    parts = {codes[name][0]: REGIONS[name].part for name in regions}
    return {**parts, codes[regions[-1]][0]: REGIONS[regions[-1]].title}


def masks_of(labels: np.ndarray, regions: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Masks of a predicted mask's regions by their names, boolean, of the same shape.

    Args:
        labels: the predicted mask.
        regions: "regions" of the prediction's JSON; empty for the whole tumor alone.
    """
    return {one["name"]: np.isin(labels, one["codes"]) for one in regions} or {WHOLE_TUMOR[0]: np.asarray(labels > 0)}


def as_labels(masks: np.ndarray, regions: Sequence[str]) -> np.ndarray:
    """One mask with the codes of `codes_of`, uint8 (...), of the masks of the first regions, boolean (R, ...).

    What is not in a region is in none of those within it.
    """
    labels, inside = np.zeros(masks.shape[1:], np.uint8), np.ones(masks.shape[1:], bool)
    for mask, codes in zip(masks, codes_of(regions).values(), strict=False):
        inside = inside & mask
        labels[inside] = codes[0]
    return labels
