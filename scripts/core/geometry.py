"""A scan's grid: voxel size, slice axis and orientation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import nibabel as nib
import numpy as np

__all__ = [
    "Plane",
    "as_displayed",
    "box_around",
    "displayed_mm",
    "first_shown",
    "pixel_mm2",
    "plane_of",
    "same_grid",
    "shown_affine",
    "slice_axis",
    "slices_together",
    "turned_grid",
    "voxel_mm3",
]

Plane = Literal["axial", "coronal", "sagittal"]
PERPENDICULAR: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # to right-left, back-front, inferior-superior
# Which world axis stands in for right-left, back-front and inferior-superior where a slice is shown: a sagittal one has
# the front at its left, a coronal one the patient's left at its right, and either the top of the head at its top.
STAND_IN = {"sagittal": (1, 2, 0), "coronal": (0, 2, 1), "axial": (0, 1, 2)}

SAME_PLACE = 0.1  # voxels, at a grid's corners: float32 matrices, and those of four decimals, are rounded by less


def voxel_mm3(affine: Any) -> float:
    """Volume of a voxel of a grid (4, 4)."""
    return float(np.abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])))


def pixel_mm2(affine: Any, shape: Sequence[int] | None = None) -> float:
    """Area of a pixel of the slices of a grid (4, 4), see `slice_axis`."""
    first, second = np.delete(np.asarray(affine, dtype=np.float64)[:3, :3], slice_axis(affine, shape)[0], axis=1).T
    return float(np.linalg.norm(np.cross(first, second)))


def plane_of(shape: Sequence[int], affine: np.ndarray) -> Plane:
    """The plane of a single slice; a volume is read in axial slices.

    Args:
        shape: of the file, 2 or 3 axes.
        affine: (4, 4) from indices to RAS+ millimeters.
    """
    sides = (*(int(side) for side in shape), 1)[:3]
    orientation = nib.io_orientation(np.asarray(affine, dtype=np.float64))
    flat = [axis for axis, side in enumerate(sides) if side == 1]
    if len(flat) != 1 or np.isnan(orientation[flat[0], 0]):
        return "axial"
    return PERPENDICULAR[int(orientation[flat[0], 0])]


def shown_affine(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """The affine (4, 4) that orients a scan for display: a single slice as if its plane were axial."""
    stand_in = STAND_IN[plane_of(shape, affine)]
    return np.asarray(affine, dtype=np.float64)[[*stand_in, 3]]


def slice_axis(affine: np.ndarray, shape: Sequence[int] | None = None) -> tuple[int, bool]:
    """File axis that is nearest to inferior-superior, and whether it runs upwards; of a single slice its own.

    Args:
        affine: (4, 4) from indices to RAS+ millimeters.
        shape: of the file; None where it is known to be no single slice.

    Raises:
        ValueError: when no axis runs along the body.

    >>> slice_axis(np.diag([-1.0, -1.0, -2.0, 1.0]))
    (2, False)
    """
    orientation = nib.io_orientation(np.asarray(affine if shape is None else shown_affine(shape, affine)))
    axes = np.flatnonzero(orientation[:, 0] == 2)
    if not len(axes):
        raise ValueError("none of its axes runs along the body")
    return int(axes[0]), bool(orientation[axes[0], 1] > 0)


def as_displayed(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Reorient a volume from its file's axes to (rows to posterior, columns to the left, slices to superior).

    A single slice that is sagittal or coronal: see `shown_affine`.
    """
    orientation = nib.io_orientation(shown_affine(volume.shape, affine))
    wanted = nib.orientations.axcodes2ornt(("P", "L", "S"))
    return np.asarray(nib.apply_orientation(volume, nib.orientations.ornt_transform(orientation, wanted)))


def displayed_mm(shape: Sequence[int], affine: np.ndarray) -> tuple[float, float, float]:
    """Distances of rows, columns and slices of a volume that is oriented by `as_displayed`, mm.

    >>> displayed_mm((4, 5, 6), np.diag([-1.0, 2.0, 3.0, 1.0]))
    (2.0, 1.0, 3.0)
    """
    orientation = nib.io_orientation(shown_affine(shape, affine))
    sides = nib.affines.voxel_sizes(np.asarray(affine, dtype=np.float64))
    rows, columns, slices = (float(sides[np.flatnonzero(orientation[:, 0] == world)[0]]) for world in (1, 0, 2))
    return rows, columns, slices


def same_grid(affine: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> bool:
    """Whether two affines (4, 4) put all 8 corners of a grid of 2 or 3 axes in one place, to a tenth of a voxel."""
    sides = [(-0.5, side - 0.5) for side in (*shape, 1)[:3]]
    corners = np.array([(*corner, 1.0) for corner in product(*sides)]).T  # (4, 8)
    moved = np.linalg.inv(np.asarray(affine)) @ np.asarray(other) @ corners
    return bool(np.abs(moved - corners).max() <= SAME_PLACE)


def turned_grid(shape: Sequence[int], affine: np.ndarray, like: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape and affine of a grid whose axes are put in the order and direction of another's.

    >>> shape, affine = turned_grid((2, 3, 4), np.diag([-1.0, 1, 1, 1]), np.eye(4)[[1, 0, 2, 3]])
    >>> shape, affine[:3, 3].tolist()
    ((3, 2, 4), [-1.0, 0.0, 0.0])
    """
    sides = (*(int(side) for side in shape), 1)[:3]
    orientations = (nib.io_orientation(np.asarray(grid, dtype=np.float64)) for grid in (affine, like))
    turn = nib.orientations.ornt_transform(*orientations)
    order = np.argsort(turn[:, 0])
    turned = np.asarray(affine) @ nib.orientations.inv_ornt_aff(turn, sides)
    return tuple(sides[int(axis)] for axis in order), turned


def box_around(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box that holds all true values of a boolean array; None without any.

    >>> box_around(np.eye(3, dtype=bool)[:, 1:])
    (slice(1, 3, None), slice(0, 2, None))
    """
    from scipy import ndimage

    found = ndimage.find_objects(mask.astype(np.uint8))
    return found[0] if found else None


def first_shown(channels: np.ndarray) -> np.ndarray:
    """The first channel (H, W, D) of a scan (C, H, W, D) that is not zero, as those of missing sequences are.

    >>> first_shown(np.stack([np.zeros((1, 1, 1)), np.full((1, 1, 1), 7.0)])).item()
    7.0
    """
    shown: np.ndarray = next((channel for channel in channels if channel.any()), channels[0])
    return shown


def slices_together(shape: Sequence[int], value: float = 0.0) -> np.ndarray:
    """An array (C, H, W, D) of one float32 value in whose memory the slices lie one after another, as they are read.

    >>> slices_together((1, 2, 3, 4)).transpose(3, 0, 1, 2).flags.c_contiguous
    True
    """
    channels, height, width, depth = (int(side) for side in shape)
    return np.full((depth, channels, height, width), value, np.float32).transpose(1, 2, 3, 0)
