"""Cut the brain out of a head with the two networks of deepbet (MIT licence), if it is installed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from scipy import ndimage
from torch.nn.functional import interpolate

from .channels import shown_channel
from .preprocessing import BACKGROUND, TISSUE, NormalizeForegroundd
from .skull import skull_state

__all__ = ["ExtractBraind", "FindBraind", "brain_mask"]

# deepbet 1.0.2: a first network finds the brain's box on a coarse grid, a second one its mask on a fine grid of the box
COARSE, FINE = (128, 128, 128), (256, 256, 256)
RANGE = (0.005, 0.995)  # quantiles of the coarse volume that become 0 and 1
CENTER, SPREAD = 0.449, 0.226  # mean and standard deviation of the networks' input
MARGIN = 0.1  # of the box's size, on each side
BOX_SHARE = 0.02  # of a plane: as much brain belongs to the box


class ExtractBraind(MapTransform):
    """Set everything but the brain of a volume to background, unless its skull is gone already.

    The result's metadata say so (`brain_extracted`). Single slices stay as they are: the networks know volumes only.

    Args:
        keys: images (C, H, W, D) as `FitHeadd` leaves them: 1 mm a pixel, background zero, rows to posterior, columns
            to the left, slices to superior.

    Raises:
        ValueError: when deepbet is not installed, or no brain is found; the message names the file.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)
        self.normalize = NormalizeForegroundd(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        normalized = self.normalize(d)
        for key in self.key_iterator(d):
            image: MetaTensor = d[key]
            if image.shape[-1] == 1 or skull_state(_planes_of(normalized[key]), TISSUE)["state"] == "off":
                continue
            try:
                shown = next((channel for channel in image.as_tensor() if channel.any()), image.as_tensor()[0])
                brain = brain_mask(shown.numpy())
            except ValueError as error:
                raise ValueError(f"{image.meta.get('filename_or_obj', 'scan')}: {error}") from None
            d[key] = MetaTensor(image.as_tensor() * torch.from_numpy(brain)).copy_meta_from(image)
            d[key].meta["brain_extracted"] = True
        return d


class FindBraind(Transform):
    """Add the brain of a volume with a skull, so that training can also show the head without it.

    Single slices, and volumes without a skull, get none.

    Args:
        image_key: image (C, H, W, D) as `NormalizeForegroundd` leaves it.
        brain_key: the brain, boolean (H, W, D).

    Raises:
        ValueError: when deepbet is not installed, or no brain is found; the message names the file.
    """

    def __init__(self, image_key: str = "image", brain_key: str = "brain") -> None:
        self.image_key, self.brain_key = image_key, brain_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image: MetaTensor = d[self.image_key]
        if image.shape[-1] > 1 and skull_state(_planes_of(image), TISSUE)["state"] != "off":
            try:
                d[self.brain_key] = brain_mask(_before_normalization(image))
            except ValueError as error:
                raise ValueError(f"{image.meta.get('filename_or_obj', 'scan')}: {error}") from None
        return d


def _before_normalization(normalized: MetaTensor) -> np.ndarray:
    """First channel with tissue (H, W, D) in the scan's own units, background zero."""
    number = next((n for n, channel in enumerate(normalized.as_tensor()) if bool((channel > TISSUE).any())), 0)
    scores = normalized.as_tensor()[number].numpy()
    mean, std = (values[number] for values in normalized.meta["foreground_statistics"])
    values: np.ndarray = np.where(scores > TISSUE, (scores * std + mean).clip(0), 0)
    return values


def _planes_of(normalized: MetaTensor) -> np.ndarray:
    """First channel with tissue of the slices with a head (D, H, W)."""
    planes = shown_channel(normalized.as_tensor()).movedim(-1, 0).numpy()
    found: np.ndarray = planes[(planes > BACKGROUND).any(axis=(1, 2))]
    return found


def brain_mask(volume: np.ndarray) -> np.ndarray:
    """Where the brain is.

    Args:
        volume: (H, W, D), any range, rows to posterior, columns to the left, slices to superior.

    Returns:
        Boolean (H, W, D), one component without holes.

    Raises:
        ValueError: when deepbet is not installed, or no brain is found.
    """
    find_box, find_brain = _networks()
    values = torch.from_numpy(np.ascontiguousarray(_turned(volume), dtype=np.float32))  # axes to right, front and top
    coarse = interpolate(values[None, None], COARSE, mode="nearest-exact")[0, 0]
    low, high = coarse.quantile(RANGE[0]), coarse.quantile(RANGE[1])
    with torch.inference_mode():
        box = _box_of(_largest_part(find_box(_standardized(coarse, low, high))[0, 1].numpy() > 0.5), values.shape)
        fine = interpolate(values[box][None, None], FINE, mode="nearest-exact")[0, 0]
        found = find_brain(_standardized(fine, low, high))[:, 1:2]
    mask = np.zeros(values.shape, dtype=bool)
    mask[box] = interpolate(found, values[box].shape, mode="nearest-exact")[0, 0].numpy() > 0.5
    return np.ascontiguousarray(_turned(ndimage.binary_fill_holes(_largest_part(mask))))


def _turned(volume: np.ndarray) -> np.ndarray:
    """Rows to posterior and columns to the left into axes to right and to anterior, and back."""
    return volume.transpose(1, 0, 2)[::-1, ::-1]


def _standardized(volume: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """A volume as deepbet's networks expect it, (1, 1, ...)."""
    clipped = ((volume - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
    return (SPREAD * (clipped - clipped.mean()) / clipped.std().clamp_min(1e-6) + CENTER)[None, None]


def _largest_part(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        raise ValueError("no brain is found to cut out: predict it without --strip")
    largest: np.ndarray = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return largest


def _box_of(coarse: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box of a mask on the coarse grid, with a margin, in voxels of the volume."""
    spans = []
    for axis, side in enumerate(shape):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(coarse.mean(axis=others) > BOX_SHARE)
        if len(inside) == 0:
            raise ValueError("no brain is found to cut out: predict it without --strip")
        scale = side / coarse.shape[axis]
        center = round((inside[-1] + 1 + inside[0]) / 2 * scale)
        half = round((inside[-1] + 1 - inside[0]) * scale * (1 + 2 * MARGIN)) / 2
        spans.append(slice(max(0, int(center - half)), min(side, int(center + half))))
    return tuple(spans)


@cache
def _networks() -> tuple[Any, Any]:
    """Deepbet's networks for the box and for the mask, TorchScript (1, 1, ...) -> (1, 2, ...) probabilities."""
    try:
        installed = files("deepbet") or []
    except PackageNotFoundError:
        raise ValueError("--strip needs deepbet: pip install deepbet") from None
    paths = {file.name: file.locate() for file in installed if file.suffix == ".pt"}
    loaded = [torch.jit.load(str(paths[name]), map_location="cpu").eval() for name in ("bbox_model.pt", "model.pt")]
    return loaded[0], loaded[1]
