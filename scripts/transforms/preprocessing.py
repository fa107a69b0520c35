"""Transforms between a decoded scan and the network, and back.

One convention for both kinds of source: a scan is (C, H, W, D) with rows running to posterior, columns to the patient's
left (as radiology displays it) and slices to superior; a picture is a volume of one slice.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TraceKeys
from torch.nn.functional import interpolate

from ..core.geometry import same_grid, slices_together, turned_grid
from .background import darker_share, has_bright_border, level_surroundings
from .head import border_share, fill_planes, find_head, tissue_level
from .intensities import BACKGROUND, BRIGHTEST, DARKEST, TISSUE

__all__ = [
    "BACKGROUND",
    "BRIGHTEST",
    "DARKEST",
    "TISSUE",
    "FitHeadd",
    "NormalizeForegroundd",
    "RequireSameGridd",
    "foreground_statistics",
    "normalize",
    "tissue_of",
    "tissue_pixels",
]

# No background was found where so much of the border seems to be head (in 1,437 pictures at most 0.7, but for two), or
# where so much of the head is darker than the background (in 57 volumes at most 0.0001).
FRAME_FILLED, DARKER_THAN_BACKGROUND = 0.9, 0.02


def tissue_of(image: torch.Tensor) -> torch.Tensor:
    """Tissue in any channel of a network's input (..., C, H, W): boolean (..., H, W)."""
    tissue = image > TISSUE
    return tissue[..., 0, :, :] if image.shape[-3] == 1 else tissue.any(dim=-3)


def tissue_pixels(slices: torch.Tensor) -> torch.Tensor:
    """Pixels of tissue in each slice of a network's input: (N, C, H, W) -> (N,), whole numbers in float32.

    Fastest for contiguous slices; PyTorch sums floats several times faster than booleans.
    """
    return tissue_of(slices).float().sum(dim=(1, 2))


class FitHeadd(MapTransform, InvertibleTransform):
    """Center the head on a square canvas, in one size for every source, its aspect ratio kept.

    With a known pixel spacing the canvas has one millimeter per pixel (a file of 1 mm pixels is cropped and
    padded, never interpolated). Without one (PNG, JPEG), or if the spacing would make the head implausibly
    large or small, the longer side of the head's box becomes `head_size` pixels. The background's level is subtracted,
    after padding and constant backgrounds are set to it (see `level_surroundings`); white frames, margins and
    burnt-in text become zero. The head is searched on the brightest value along the slices, of every channel that is
    not zero, as those of missing sequences are. The result's metadata have
    whether the spacing was used (`spacing_used`) and whether a background was found (`background_found`).

    Args:
        keys: images (C, H, W, D), MetaTensor float32.
        canvas_size: height and width of the result, pixels.
        head_size: longer side of the head's box where the spacing is unknown, pixels.
        plausible_mm: smallest and largest longer side of a head for a plausible spacing, millimeters.
    """

    def __init__(
        self,
        keys: KeysCollection,
        canvas_size: int = 256,
        head_size: int = 192,
        plausible_mm: Sequence[float] = (64.0, 250.0),
    ) -> None:
        super().__init__(keys)
        self.canvas_size, self.head_size, self.plausible_mm = canvas_size, head_size, tuple(plausible_mm)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._fit(d[key])
        return d

    def _fit(self, image: MetaTensor) -> MetaTensor:
        channels = image.as_tensor().numpy()
        given = [n for n, channel in enumerate(channels) if len(channels) == 1 or channel.any()]  # not missing
        given = given or list(range(len(channels)))
        shown = [level_surroundings(channels[n]) for n in given]
        heads, backgrounds = zip(*(find_head(channel.max(axis=2)) for channel in shown), strict=True)
        head = np.logical_or.reduce(heads)
        rows, columns = (np.flatnonzero(head.any(axis=axis)) for axis in (1, 0))
        if len(rows) == 0:  # only background: keep the whole frame
            rows, columns = (np.arange(side) for side in head.shape)
        box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        zoom, spacing_used = self._zoom(image, box)
        sides = [max(1, round((box[i + 2] - box[i]) * zoom[i])) for i in (0, 1)]
        placement = {"box": box, "sides": sides, "offset": [(self.canvas_size - side) // 2 for side in sides]}

        cut, paste = (window[1:] for window in _windows(placement))
        canvas = slices_together((len(channels), self.canvas_size, self.canvas_size, channels.shape[3]))
        for n, channel, background in zip(given, shown, backgrounds, strict=True):
            inside = channel[cut] - np.float32(background)
            np.maximum(inside, 0, out=inside)
            inside *= head[cut][..., None]
            canvas[n][paste] = _resize_planes(torch.from_numpy(inside)[None], sides)[0].numpy()

        fitted = MetaTensor(torch.from_numpy(canvas)).copy_meta_from(image)
        darker = max(darker_share(*found) for found in zip(shown, heads, backgrounds, strict=True))
        found = border_share(head) < FRAME_FILLED and darker < DARKER_THAN_BACKGROUND
        found = found and not (channels.shape[3] > 1 and any(has_bright_border(channel) for channel in shown))
        fitted.meta |= {"spacing_used": spacing_used, "background_found": found}
        return self.push_transform(
            fitted, affine=_canvas_to_source(placement), orig_size=tuple(channels.shape[1:]), extra_info=placement
        )

    def _zoom(self, image: MetaTensor, box: tuple[int, int, int, int]) -> tuple[tuple[float, float], bool]:
        """Canvas pixels per source pixel along rows and columns, and whether they are from the file's spacing."""
        known = bool(image.meta.get("spacing_known", True))
        millimeters = (float(image.pixdim[0]), float(image.pixdim[1])) if known else (1.0, 1.0)
        longer = max((box[2] - box[0]) * millimeters[0], (box[3] - box[1]) * millimeters[1])
        if known and self.plausible_mm[0] <= longer <= self.plausible_mm[1]:
            return millimeters, True
        scale = self.head_size / longer
        return (millimeters[0] * scale, millimeters[1] * scale), False

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put (C, canvas, canvas, D) back on the grid it came from, zero outside the head's box."""
        d = dict(data)
        for key in self.key_iterator(d):
            trace = self.pop_transform(d[key])
            placement = trace[TraceKeys.EXTRA_INFO]
            cut, paste = _windows(placement)
            box = placement["box"]
            values = _resize_planes(d[key].as_tensor()[paste], (box[2] - box[0], box[3] - box[1]))
            source = slices_together((len(values), *trace[TraceKeys.ORIG_SIZE]))
            source[cut] = values.numpy()
            affine = d[key].affine.numpy() @ np.linalg.inv(_canvas_to_source(placement))
            d[key] = MetaTensor(torch.from_numpy(source)).copy_meta_from(d[key])
            d[key].affine = torch.as_tensor(affine)
        return d


def _windows(placement: Mapping[str, Any]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The head's box in the source and on the canvas, as slices of (C, H, W)."""
    (top, left, bottom, right), (height, width) = placement["box"], placement["sides"]
    y, x = placement["offset"]
    everything = slice(None)
    return (
        (everything, slice(top, bottom), slice(left, right)),
        (everything, slice(y, y + height), slice(x, x + width)),
    )


def _canvas_to_source(placement: Mapping[str, Any]) -> np.ndarray:
    """Matrix (4, 4) from an index on the canvas to the index in the source, pixel centers on whole numbers."""
    matrix = np.eye(4)
    for axis in (0, 1):
        step = (placement["box"][axis + 2] - placement["box"][axis]) / placement["sides"][axis]
        matrix[axis, axis] = step
        matrix[axis, 3] = placement["box"][axis] + (0.5 - placement["offset"][axis]) * step - 0.5
    return matrix


def _resize_planes(values: torch.Tensor, sides: Sequence[int]) -> torch.Tensor:
    """Resize the planes of (C, H, W, D) to (C, *sides, D), bilinear, smoothed where they shrink."""
    if tuple(values.shape[1:3]) == tuple(sides):
        return values
    planes = values.permute(3, 0, 1, 2)  # (D, C, H, W)
    planes = interpolate(planes, size=tuple(sides), mode="bilinear", align_corners=False, antialias=True)
    return planes.permute(1, 2, 3, 0)


def foreground_statistics(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tissue of an image whose background is zero, and its mean and standard deviation.

    Args:
        image: (C, H, W, D), background zero.

    Returns:
        Boolean tissue (C, H, W, D), dark places inside it (fluid, necrosis) included; mean and standard deviation (C,)
        of what is brighter than the background, the latter 1 for a channel without contrast.
    """
    mean, std = torch.zeros(len(image)), torch.ones(len(image))
    tissue = np.empty_like(image.numpy(), dtype=bool)
    for index, channel in enumerate(image.numpy()):
        planes = channel.transpose(2, 0, 1)  # the order of the memory
        bright = planes > tissue_level(planes, 0.0)
        tissue[index] = bright.transpose(1, 2, 0)
        values = planes[bright].astype(np.float64)
        if values.size > 0:
            largest = float(values.max())
            mean[index] = float(values.mean())
            values -= values.mean()
            deviation = float(np.sqrt(values @ values / max(1, values.size - 1)))
            if deviation > 1e-6 * largest:
                std[index] = deviation
    return torch.from_numpy(fill_planes(tissue)), mean, std


def normalize(
    image: torch.Tensor, tissue: torch.Tensor, mean: torch.Tensor | float, std: torch.Tensor | float
) -> torch.Tensor:
    """Standard deviations from the mean where there is tissue, `BACKGROUND` elsewhere.

    Values are rounded to float16, so that a store of half the size holds them without loss.
    """
    scores = image - mean
    scores /= std
    scores = scores.clamp(DARKEST, BRIGHTEST)
    return torch.where(tissue, scores, BACKGROUND).half().float()


class NormalizeForegroundd(MapTransform):
    """Z-score of the foreground.

    A volume is normalized by the statistics of the volume, a picture (a volume of one slice) by its own.
    Channels are normalized separately. The result is float32 in [-3.9, 5] where there is tissue and -4 elsewhere; its
    metadata have the mean and the standard deviation of every channel's foreground (`foreground_statistics`). What
    the keys name are images (C, H, W, D) with background zero, as `FitHeadd` leaves them.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[key]
            box, scores = _box_above_zero(image.as_tensor()), torch.from_numpy(slices_together(image.shape, BACKGROUND))
            inside = image.as_tensor()[box]
            tissue, mean, std = foreground_statistics(inside)
            scores[box] = normalize(inside, tissue, _per_channel(mean), _per_channel(std))
            d[key] = MetaTensor(scores).copy_meta_from(image)
            d[key].meta["foreground_statistics"] = (mean.tolist(), std.tolist())
        return d


def _box_above_zero(image: torch.Tensor) -> tuple[slice, ...]:
    """The smallest box of rows and columns, as slices of (C, H, W, D), outside of which nothing is above zero."""
    brightest = image.amax(dim=(0, 3))
    rows, columns = (torch.nonzero(brightest.amax(dim=axis) > 0).flatten().tolist() for axis in (1, 0))
    spans = (slice(found[0], found[-1] + 1) if found else slice(0, 1) for found in (rows, columns))
    return (slice(None), *spans)


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    """(C,) -> (C, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


class RequireSameGridd(MapTransform):
    """Refuse a mask on another grid than its image; the order of the axes may differ.

    Args:
        keys: masks as they were read, MetaTensor.
        image_key: their image, whose metadata have its grid.

    Raises:
        ValueError: when, with the axes in one order, the shapes differ, or the places of any corner by more than a
            tenth of the image's voxel.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        grid = d[self.image_key].meta
        for key in self.key_iterator(d):
            own, path = d[key].meta, d[key].meta["filename_or_obj"]
            place, shape = np.asarray(grid["original_affine"]), tuple(int(n) for n in grid["spatial_shape"])
            turned, affine = turned_grid(own["spatial_shape"], own["original_affine"], place)
            if turned != (*shape, 1)[:3]:
                own_shape = tuple(int(n) for n in own["spatial_shape"])
                raise ValueError(f"{path}: mask of shape {own_shape} on an image of shape {shape}")
            if not same_grid(place, affine, shape):
                raise ValueError(f"{path}: the mask is at another place than its image (their affines differ)")
        return d
