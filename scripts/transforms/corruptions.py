"""Corrupt a scan as patients, scanners and exports do, at severities from 0 (unchanged) to 5.

Artifacts of the acquisition are TorchIO's. They are made within the slices, as most brain MRI is acquired slice by
slice; `thickness` alone works across them. Where they arise, at which time and with which sign, depends on a seed and
not on the severity, so that severities of one scan differ in strength only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image

from ..core.geometry import slice_axis

__all__ = ["CORRUPTIONS", "OF_TORCHIO", "WORST", "applies", "corrupt", "visible_part"]

WORST = 5
LEVELS: Mapping[str, Sequence[float]] = {  # by severity 1 to 5
    "motion": (1.0, 2.0, 4.0, 7.0, 10.0),  # degrees and mm, of two movements
    "ghosting": (0.2, 0.4, 0.6, 0.8, 1.0),  # share that every fifth line of k-space loses
    "spikes": (0.05, 0.1, 0.2, 0.4, 0.8),  # of the largest value of k-space
    "bias_field": (0.1, 0.2, 0.4, 0.6, 0.8),  # coefficients of the polynomial in the exponent
    "noise": (0.02, 0.05, 0.1, 0.15, 0.2),  # standard deviation, of the bright tissue
    "thickness": (1.5, 2.0, 3.0, 4.0, 6.0),  # times the distance between slices
    "jpeg": (50.0, 30.0, 20.0, 10.0, 5.0),  # quality
    "looks_like_t1": (0.2, 0.4, 0.6, 0.8, 1.0),  # share of the turned contrast
    "looks_like_t2": (0.2, 0.4, 0.6, 0.8, 1.0),
    "cropping": (0.05, 0.1, 0.15, 0.2, 0.25),  # of each side of a slice, cut off at both ends
}
CORRUPTIONS = tuple(LEVELS)
OF_TORCHIO = ("motion", "ghosting", "spikes", "bias_field", "noise", "thickness")
BRIGHT, AIR = 99.5, 0.1  # percentile of bright tissue; intensities below this share of it are air or bone

Planes = np.ndarray  # float32 (C, D, H, W), slices first


def applies(name: str, image: MetaTensor) -> bool:
    """Whether a scan (C, H, W, D) can be corrupted so: a single slice has no other thickness."""
    return name != "thickness" or min(image.shape[1:]) > 1


def visible_part(name: str, severity: int, image: MetaTensor) -> tuple[slice, ...]:
    """Indices along (H, W, D) of the part of a scan that is left: all of it, unless it is cropped."""
    axis, _ = slice_axis(np.asarray(image.affine), image.shape[1:])
    share = LEVELS[name][severity - 1] if name == "cropping" and severity else 0.0
    ends = [0 if number == axis else round(share * side) for number, side in enumerate(image.shape[1:])]
    return tuple(slice(end, side - end) for end, side in zip(ends, image.shape[1:], strict=True))


def corrupt(image: MetaTensor, name: str, severity: int, seed: Sequence[int]) -> MetaTensor:
    """Corrupt a scan as it was read, before any preprocessing.

    Args:
        image: (C, H, W, D), any intensities, with the affine of its file; not changed.
        name: one of `CORRUPTIONS`.
        severity: 0 to 5; 0 gives an equal copy.
        seed: of place, time and sign; the same for all severities.

    Returns:
        The scan on its grid with its own smallest intensity; a cropped one on `visible_part` of it.

    Raises:
        ValueError: for an unknown corruption or severity.
        ModuleNotFoundError: without torchio, for those in `OF_TORCHIO`.
    """
    if name not in LEVELS or severity not in range(WORST + 1):
        raise ValueError(f"no corruption '{name}' of severity {severity}")
    if severity == 0:
        return image.clone()
    if name == "cropping":
        return _cropped(image, visible_part(name, severity, image))
    axis, _ = slice_axis(np.asarray(image.affine), image.shape[1:])
    values = np.moveaxis(image.as_tensor().cpu().numpy().astype(np.float32), 1 + axis, 1)
    size = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    spacing = [size[axis], *np.delete(size, axis)]
    made = WAYS[name](values, LEVELS[name][severity - 1], np.random.default_rng(seed), spacing)
    made = np.maximum(made, values.min())
    corrupted = image.clone()
    corrupted[...] = torch.as_tensor(np.ascontiguousarray(np.moveaxis(made, 1, 1 + axis))).to(image.dtype)
    return corrupted


def _cropped(image: MetaTensor, part: tuple[slice, ...]) -> MetaTensor:
    """A part of a scan, at its place in space."""
    start = np.eye(4)
    start[:3, 3] = [one.start for one in part]
    meta = {**image.meta, "affine": torch.as_tensor(np.asarray(image.affine) @ start)}
    cropped = MetaTensor(image.as_tensor()[(slice(None), *part)].clone(), meta=meta)
    cropped.meta["original_affine"] = np.asarray(image.meta.get("original_affine", image.affine)) @ start
    if "spatial_shape" in image.meta:
        sides = len(image.meta["spatial_shape"])
        cropped.meta["spatial_shape"] = np.array(cropped.shape[1 : 1 + sides])
    return cropped


def _bright(values: Planes) -> float:
    """Intensity of bright tissue above the darkest one; 1 for a scan without contrast."""
    return float(np.percentile(values, BRIGHT) - values.min()) or 1.0


def _by_torchio(values: Planes, spacing: Sequence[float], *transforms: Any) -> Planes:
    import torchio

    scan = torchio.ScalarImage(tensor=torch.as_tensor(values.copy()), affine=np.diag([*spacing, 1.0]))
    for transform in transforms:
        scan = transform(scan)
    return np.asarray(scan.data.numpy(), dtype=np.float32)


def _motion(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    import torchio

    signs, shifts = rng.choice([-1.0, 1.0], 2), rng.uniform(-1.0, 1.0, (2, 2))
    degrees = np.array([[sign * level, 0.0, 0.0] for sign in signs])  # about the normal of the slices
    translation = np.array([[0.0, *(level * shift)] for shift in shifts])
    times = np.sort(rng.uniform(0.2, 0.8, 2))
    return _by_torchio(values, spacing, torchio.Motion(degrees, translation, times, "linear"))


def _ghosting(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    import torchio

    return _by_torchio(values, spacing, torchio.Ghosting(5, int(rng.integers(1, 3)), level, 0.02))


def _spikes(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    import torchio

    place = np.array([[0.5, *(0.5 + rng.choice([-1.0, 1.0], 2) * rng.uniform(0.05, 0.3, 2))]])  # alike in all slices
    return _by_torchio(values, spacing, torchio.Spike(place, level))


def _bias_field(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    import torchio

    order = 2
    count = (order + 1) * (order + 2) * (order + 3) // 6
    return _by_torchio(values, spacing, torchio.BiasField((level * rng.uniform(-1.0, 1.0, count)).tolist(), order))


def _noise(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    import torchio

    return _by_torchio(values, spacing, torchio.Noise(0.0, level * _bright(values), int(rng.integers(2**31))))


def _thickness(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    """Average over thicker slices, fewer of them, and interpolate between these."""
    import torchio

    average = torchio.Blur((level * spacing[0] / np.sqrt(12.0), 0.0, 0.0))  # standard deviation of a slice profile
    return _by_torchio(values, spacing, average, torchio.RandomAnisotropy(0, (level, level)))


def _jpeg(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    low, made = float(values.min()), values.copy()
    scale = 255.0 / (float(values.max()) - low or 1.0)
    for place in np.ndindex(values.shape[:2]):
        buffer = io.BytesIO()
        gray = np.rint((values[place] - low) * scale).astype(np.uint8)
        Image.fromarray(gray).save(buffer, "JPEG", quality=int(level))
        with Image.open(buffer) as decoded:
            made[place] = np.asarray(decoded, dtype=np.float32) / scale + low
    return made


def _looks_like_t1(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    """Dark and bright tissue exchanged: a lesion that is bright in FLAIR is dark."""
    return _turned(values, level, lambda shade: 1.0 + AIR - shade)


def _looks_like_t2(values: Planes, level: float, rng: np.random.Generator, spacing: Sequence[float]) -> Planes:
    """What is darker than most of the brain becomes the brightest, as fluid is."""

    def turn(shade: np.ndarray) -> np.ndarray:
        middle = float(np.median(shade)) if shade.size else 0.0
        return np.where(shade < middle, middle + 1.5 * (middle - shade), shade)

    return _turned(values, level, turn)


def _turned(values: Planes, level: float, turn: Callable[[np.ndarray], np.ndarray]) -> Planes:
    """Tissue with a share of another contrast; air stays."""
    low, bright = float(values.min()), _bright(values)
    shade = np.clip((values - low) / bright, 0.0, 1.0)
    inside, made = shade > AIR, values.copy()
    made[inside] = low + bright * ((1.0 - level) * shade[inside] + level * turn(shade[inside]))
    return made


WAYS: Mapping[str, Callable[[Planes, float, np.random.Generator, Sequence[float]], Planes]] = {
    "motion": _motion,
    "ghosting": _ghosting,
    "spikes": _spikes,
    "bias_field": _bias_field,
    "noise": _noise,
    "thickness": _thickness,
    "jpeg": _jpeg,
    "looks_like_t1": _looks_like_t1,
    "looks_like_t2": _looks_like_t2,
}
