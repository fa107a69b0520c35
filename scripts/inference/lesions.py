"""A table of a mask's lesions: volume, diameters, slices, centroid, probability.

A lesion is a connected component of the mask (26-connectivity, in a single slice 8). The largest comes first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from ..core.documents import Lesion
from ..core.geometry import box_around, pixel_mm2, slice_axis, voxel_mm3
from ..core.weights_report import learned_of
from .flags import thickness_is_plausible

__all__ = ["DescribeLesionsd", "diameters_mm", "lesion_table"]


class DescribeLesionsd(MapTransform):
    """Add `lesions` to `result`, see `lesion_table`; none for weights that were not trained on masks.

    Args:
        keys: the mask on the scan's own grid, MetaTensor (1, H, W, D) of 0 and 1.
        probability_key: the mask's probability on the same grid, in [0, 1]; it is taken out of the item.
    """

    def __init__(self, keys: KeysCollection, probability_key: str = "mask_probability") -> None:
        super().__init__(keys)
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        probability = d.pop(self.probability_key)
        for key in self.key_iterator(d):
            if "segmentation" in learned_of(d["result"].get("model", {})):
                d["result"] = {**d["result"], "lesions": list(_of_scan(d[key], probability))}
        return d


def _of_scan(mask: MetaTensor, probability: MetaTensor) -> Iterator[Lesion]:
    """The lesions of a predicted mask; sizes and places in millimeters only where the file tells them."""
    used = bool(mask.meta.get("spacing_used"))
    thick = used and mask.meta.get("thickness_known", True) and thickness_is_plausible(mask)
    shape = [int(side) for side in mask.meta["spatial_shape"]]
    affine = np.asarray(mask.meta["original_affine"], dtype=np.float64)
    voxels = np.asarray(mask.as_tensor()[0]) > 0
    for lesion in lesion_table(voxels, affine, np.asarray(probability.as_tensor()[0]), shape):
        if not thick or len(shape) == 2:
            lesion.pop("volume_ml")
        if not used:
            for key in ("area_mm2", "longest_mm", "perpendicular_mm"):
                lesion.pop(key)  # type: ignore[misc]
        if not (thick and mask.meta.get("spacing_known", True)):
            lesion.pop("centroid_mm")
        yield lesion


def lesion_table(
    mask: np.ndarray, affine: np.ndarray, probability: np.ndarray | None = None, shape: list[int] | None = None
) -> list[Lesion]:
    """Describe every lesion of a mask.

    Args:
        mask: boolean (H, W, D), in the file's order of axes.
        affine: (4, 4) from indices to RAS+ millimeters.
        probability: of each voxel, in [0, 1], of the same shape.
        shape: of the file, if it has two axes.

    Returns:
        From the largest to the smallest: number from 1; voxels; volume in ml; slices, [first, last] along the slice
        axis, from 0; the slice with the longest diameter, its area in mm2, this diameter and the one perpendicular to
        it in mm; centroid in indices and in RAS+ mm; mean probability of its voxels, None without.
    """
    shape = list(mask.shape) if shape is None else shape
    axis = slice_axis(affine, shape)[0]
    around = box_around(mask)
    if around is None:
        return []
    labels, _ = ndimage.label(mask[around], np.ones((3,) * mask.ndim))
    boxes, sizes = ndimage.find_objects(labels), np.bincount(labels.ravel())[1:]
    corner = np.array([side.start for side in around])
    found: list[Lesion] = []
    for number, label in enumerate(np.argsort(-sizes, kind="stable"), start=1):
        box = boxes[label]
        lesion = labels[box] == label + 1
        start = corner + [side.start for side in box]
        centroid = np.argwhere(lesion).mean(axis=0) + start
        steps_mm = np.delete(affine[:3, :3], axis, axis=1)
        widest, (longest, across) = _widest_slice(np.moveaxis(lesion, axis, 0), steps_mm)
        pixels = float(np.take(lesion, widest, axis).sum())
        values = None if probability is None else probability[around][box][lesion]
        voxels = int(sizes[label])
        found.append(
            {
                "number": number,
                "voxels": voxels,
                "volume_ml": round(voxels * voxel_mm3(affine) / 1000.0, 4),
                "slices": [int(start[axis]), int(start[axis]) + lesion.shape[axis] - 1],
                "widest_slice": int(start[axis]) + widest,
                "area_mm2": round(pixels * pixel_mm2(affine, shape), 4),
                "longest_mm": round(longest, 2),
                "perpendicular_mm": round(across, 2),
                "centroid": [round(float(place), 2) for place in centroid],
                "centroid_mm": [round(float(place), 2) for place in (affine @ [*centroid, 1.0])[:3]],
                "probability": None if values is None else round(float(values.mean()), 4),
            }
        )
    return found


def _widest_slice(planes: np.ndarray, axes_mm: np.ndarray) -> tuple[int, tuple[float, float]]:
    """The first slice with the longest diameter, and its diameters; only slices whose box may hold it are measured.

    Args:
        planes: boolean (D, H, W), none of them empty.
        axes_mm: see `diameters_mm`.
    """
    sides = [
        there.shape[1] - there.argmax(axis=1) - there[:, ::-1].argmax(axis=1)
        for there in (np.asarray(planes.any(axis=axis)) for axis in (2, 1))
    ]
    (rows, columns), (down, right) = sides, axes_mm.T[:, :, None]
    diagonals = [np.linalg.norm(rows * down + sign * columns * right, axis=0) for sign in (1, -1)]
    limits = np.max(diagonals, axis=0) * (1 + 1e-9)  # of the diameters, by the box of each slice
    widest, longest = 0, diameters_mm(planes[0], axes_mm)
    for index in np.argsort(-limits, kind="stable"):
        if limits[index] < longest[0]:
            break
        found = diameters_mm(planes[index], axes_mm)
        if found[0] > longest[0] or (found[0] == longest[0] and index < widest):
            widest, longest = int(index), found
    return widest, longest


def diameters_mm(plane: np.ndarray, axes_mm: np.ndarray) -> tuple[float, float]:
    """Longest diameter of a mask in a slice, and its width perpendicular to it.

    A pixel reaches half of its size to each side of its center, so that one pixel of 1 mm has a diameter of 1 mm.

    Args:
        plane: boolean (H, W).
        axes_mm: (3, 2), the step of one pixel along each axis.

    Returns:
        Both in mm; 0 for an empty mask.

    >>> diameters_mm(np.ones((4, 2), bool), np.array([[1.0, 0], [0, 1.0], [0, 0]]))[0].__round__(2)
    4.12
    """
    edge = plane & ~ndimage.binary_erosion(plane, border_value=0)
    halves = np.array([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.5], [0.0, -0.5]])
    points = (np.argwhere(edge)[:, None] + halves).reshape(-1, 2)
    if not len(points):
        return 0.0, 0.0
    places = points @ np.linalg.qr(axes_mm)[1].T  # in millimeters, in the plane of the slice
    hull = places[ConvexHull(places).vertices]
    distances = cdist(hull, hull)
    first, second = np.unravel_index(int(distances.argmax()), distances.shape)
    along = hull[second] - hull[first]
    across = hull @ np.array([-along[1], along[0]]) / np.linalg.norm(along)
    return float(distances[first, second]), float(np.ptp(across))
