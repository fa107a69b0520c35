"""Pairs of dates with a known change: a phantom, and the same with a grown tumor, lying otherwise, with other noise."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

__all__ = ["write_date"]

DEGREES, SHIFT_MM, NOISE = 5.0, 6.0, 0.02


def write_date(
    scan: Path, mask: Path, target: Path, growth: float = 1.0, seed: int = 0, moved: bool = True, thick: int = 1
) -> tuple[float, np.ndarray]:
    """Write a scan of a phantom on another date.

    The head moves before it is cut into slices, as in a scanner, so that both dates are equally sharp.

    Args:
        scan: NIfTI of the phantom.
        mask: its tumor, codes above 0.
        target: file of the scan.
        growth: factor of the tumor's volume.
        seed: of movement and noise.
        moved: let the head lie otherwise.
        thick: slices of the phantom in one of the scan, which is their mean.

    Returns:
        The true change of volume in ml, and the true tumor on the phantom's grid.
    """
    image, rng = nib.Nifti1Image.from_filename(scan), np.random.default_rng(seed)
    values, tumor = (
        np.asarray(image.dataobj, dtype=np.float32),
        np.asarray(nib.Nifti1Image.from_filename(mask).dataobj) > 0,
    )
    steps = np.abs(np.diag(image.affine)[:3])
    middle = np.argwhere(tumor).mean(axis=0)
    reach = float(np.linalg.norm((np.argwhere(tumor) - middle) * steps, axis=1).max()) * 1.8
    places = np.indices(values.shape).reshape(3, -1).T.astype(np.float64)
    angles, shift = rng.normal(0, DEGREES, 3) * moved, rng.normal(0, SHIFT_MM, 3) * moved
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    center = (np.array(values.shape) - 1) / 2
    lying = ((places - center) * steps) @ turn.T / steps + center + shift / steps
    away = np.linalg.norm((lying - middle) * steps, axis=1)
    scale = growth ** (-1 / 3)  # of lengths within the tumor; 1 from `reach` on
    pull = np.where(away < reach, scale + (1 - scale) * (away / reach) ** 3, 1.0)
    source = (middle + (lying - middle) * pull[:, None]).T
    there = ndimage.map_coordinates(values, source, order=1).reshape(values.shape)
    grown = ndimage.map_coordinates(tumor.astype(np.float32), source, order=1).reshape(values.shape) > 0.5
    depth = values.shape[2] // thick
    cut = there[..., : depth * thick].reshape(*values.shape[:2], depth, thick).mean(axis=3)
    noisy = np.where(cut > 0, cut + rng.normal(0, NOISE * float(values.max()), cut.shape), 0).clip(0)
    affine = image.affine @ np.diag([1.0, 1.0, thick, 1.0])
    affine[:3, 3] += image.affine[:3, 2] * (thick - 1) / 2
    nib.save(nib.Nifti1Image(noisy.astype(np.int16), affine), target)
    return (float(grown.sum()) - float(tumor.sum())) * float(np.prod(steps)) / 1000, grown
