"""Repeat a measurement on the same scan, a little moved and with a little more noise: how much it varies on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["disturbed", "noise_of"]

DEGREES, MILLIMETERS = 4.0, 4.0  # standard deviations of each angle and shift: a head that lies down again
LAPLACIAN = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def disturbed(image: MetaTensor, rng: np.random.Generator) -> MetaTensor:
    """A copy of a scan, moved rigidly and with noise as strong as its own.

    Args:
        image: (C, H, W, D) with its affine; the value of its first voxel is the background.
        rng: of the movement and the noise.
    """
    affine, found = np.asarray(image.affine, dtype=np.float64), image.clone()
    step = _moved(affine, image.shape[1:], rng)
    for channel in range(len(image)):
        values = image[channel].as_tensor().numpy().astype(np.float32)
        background = float(values.flat[0])
        moved = ndimage.affine_transform(values, step[:3, :3], step[:3, 3], order=1, mode="constant", cval=background)
        noise = rng.normal(0.0, noise_of(values), values.shape).astype(np.float32)
        found[channel] = found.as_tensor().new_tensor(np.where(moved == background, moved, moved + noise))
    return found


def noise_of(values: np.ndarray) -> float:
    """Standard deviation of the noise in the slices of a scan (H, W, D), by a filter that cancels smooth structure.

    Edges raise it a little.

    Reference: Immerkær, Fast noise variance estimation, Computer Vision and Image Understanding 64(2), 1996.

    >>> noise = np.random.default_rng(0).normal(0, 3, (64, 64, 4))
    >>> bool(abs(noise_of(noise + 100) - 3) < 0.1)
    True
    """
    head = values != values.flat[0]
    inner = ndimage.binary_erosion(head, np.ones((3, 3, 1)))
    if not inner.any():
        return 0.0
    filtered = ndimage.convolve(values.astype(np.float64), LAPLACIAN[..., None])
    return float(np.median(np.abs(filtered[inner])) / 0.6745 / np.sqrt((LAPLACIAN**2).sum()))


def _moved(affine: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """From indices of the moved scan to those of the scan, (4, 4): a rotation around its middle and a shift."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", rng.normal(0.0, DEGREES, 3), degrees=True).as_matrix()
    turn[:3, 3] = rng.normal(0.0, MILLIMETERS, 3)
    middle = np.eye(4)
    middle[:3, 3] = (affine @ [*((side - 1) / 2 for side in shape), 1.0])[:3]
    return np.asarray(np.linalg.inv(affine) @ middle @ turn @ np.linalg.inv(middle) @ affine)
