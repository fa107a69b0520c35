"""Scores of one mask against its reference, distances in mm, with defined values for empty masks.

| reference | prediction | dice, iou | hd95_mm | surface_dice, boundary_f | lesion_dice, its HD95 | lesions_false |
|-----------|------------|-----------|---------|--------------------------|-----------------------|---------------|
| empty     | empty      | NaN       | NaN     | NaN                      | NaN, NaN              | 0             |
| empty     | not empty  | NaN       | NaN     | NaN                      | NaN, NaN              | counted       |
| not empty | empty      | 0         | 374     | 0                        | 0, 374                | 0             |

Cases with an empty reference are left out of the means; their predicted masks count as false positives. Lesion-wise
scores are also NaN if all lesions are too small to be scored.

A mask is an array of 2 or 3 dimensions whose values above 0 are tumor; outside the array there is none. Every function
raises ValueError when the two shapes differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage
from scipy.spatial import KDTree

__all__ = [
    "MISS_MM",
    "UNITS",
    "boundary_f",
    "hd95_mm",
    "lesion_wise",
    "overlap_scores",
    "segmentation_scores",
    "surface_dice",
]

UNITS: dict[str, Literal["1", "mm"]] = {  # of each score; a share is without unit
    **dict.fromkeys(("dice", "iou", "lesion_dice"), "1"),
    **dict.fromkeys(("surface_dice_1mm", "surface_dice_2mm", "boundary_f_1mm", "boundary_f_2mm"), "1"),
    **dict.fromkeys(("hd95_mm", "lesion_hd95_mm"), "mm"),
}
MISS_MM = 374.0  # BraTS's penalty: about the diagonal of its 240 x 240 x 155 mm grid
TOLERANCES_MM = (1.0, 2.0)
SMALL_VOXELS = 50  # a lesion of at most so many voxels is not scored
DILATIONS = 3


def segmentation_scores(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Compute all scores of one case.

    A volume of one slice is scored in 2-D: in 3-D all its voxels would be surface.

    Args:
        prediction: mask (H, W) or (H, W, D) of any number type, tumor above 0.
        reference: mask of the same shape.
        spacing_mm: size of a voxel along each axis.

    Returns:
        dice, iou, hd95_mm, surface_dice_1mm, surface_dice_2mm, boundary_f_1mm, boundary_f_2mm, lesion_dice,
        lesion_hd95_mm, lesions, lesions_found and lesions_false; see the module for empty masks.

    Raises:
        ValueError: when the shapes differ, or the spacing is not one size above 0 for each axis.
    """
    prediction, reference = _masks(prediction, reference)
    # a rotated grid's 1 mm may be 1.0000001 mm, and a step of one voxel is within a tolerance of 1 mm all the same
    spacing_mm = [round(float(size), 6) for size in spacing_mm]
    if len(spacing_mm) != reference.ndim or not all(math.isfinite(size) and size > 0 for size in spacing_mm):
        raise ValueError(f"spacing_mm must be {reference.ndim} sizes above 0, not {spacing_mm}")
    if reference.ndim == 3 and 1 in reference.shape:
        thin = reference.shape.index(1)
        prediction, reference = prediction.squeeze(thin), reference.squeeze(thin)
        spacing_mm = [size for axis, size in enumerate(spacing_mm) if axis != thin]
    prediction, reference = _crop(prediction, reference)  # each measure crops again, a smaller array
    scores = {**overlap_scores(prediction, reference), "hd95_mm": hd95_mm(prediction, reference, spacing_mm)}
    for name, measure in (("surface_dice", surface_dice), ("boundary_f", boundary_f)):
        for tolerance in TOLERANCES_MM:
            scores[f"{name}_{tolerance:g}mm"] = measure(prediction, reference, spacing_mm, tolerance)
    return {**scores, **lesion_wise(prediction, reference, spacing_mm)}


def overlap_scores(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Dice and IoU of two masks of any equal shape; NaN where the reference is empty.

    >>> overlap_scores(np.array([1, 1, 0]), np.array([0, 1, 1]))
    {'dice': 0.5, 'iou': 0.3333333333333333}
    """
    prediction, reference = _masks(prediction, reference)
    shared, total = int((prediction & reference).sum()), int(prediction.sum()) + int(reference.sum())
    if not reference.any():
        return {"dice": math.nan, "iou": math.nan}
    return {"dice": 2 * shared / total, "iou": shared / (total - shared)}


def hd95_mm(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Hausdorff distance at the 95th percentile: the larger of both directions.

    Distances run from each surface voxel of one mask to the nearest of the other; a surface is the set of mask voxels
    with a face on the outside. The percentile interpolates linearly.

    Args:
        prediction: see `segmentation_scores`.
        reference: the same.
        spacing_mm: the same.

    Returns:
        Distance in mm; NaN where the reference is empty, `MISS_MM` where only the prediction is.

    Reference:
        Huttenlocher et al., Comparing images using the Hausdorff distance, IEEE TPAMI 15, 1993.

    >>> hd95_mm(np.array([[1, 0, 0]]), np.array([[0, 0, 1]]), spacing_mm=(1.0, 3.0))
    6.0
    """
    prediction, reference = _masks(prediction, reference)
    if not reference.any():
        return math.nan
    if not prediction.any():
        return MISS_MM
    masks, spacing = _one_case(prediction, reference), [*spacing_mm]
    return float(compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=spacing))


def surface_dice(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Surface Dice: share of both surfaces' voxels that lie within a tolerance of the other surface.

    Args:
        prediction: see `segmentation_scores`.
        reference: the same.
        spacing_mm: the same.
        tolerance_mm: largest distance that counts as agreement.

    Returns:
        Share from 0 to 1; NaN where the reference is empty, 0 where only the prediction is.

    Reference:
        Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy,
        arXiv:1809.04430; here each surface voxel counts the same, as in Seidlitz et al., arXiv:2111.05408.

    >>> surface_dice(np.array([[1, 0, 0]]), np.array([[1, 0, 1]]), spacing_mm=(1.0, 1.0), tolerance_mm=1.0)
    0.6666666865348816
    """
    prediction, reference = _masks(prediction, reference)
    if not reference.any():
        return math.nan
    if not prediction.any():
        return 0.0
    masks, spacing = _one_case(prediction, reference), [*spacing_mm]
    return float(compute_surface_dice(*masks, [tolerance_mm], include_background=True, spacing=spacing))


def boundary_f(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float
) -> float:
    """Boundary F-measure: harmonic mean of how much of each surface lies within a tolerance of the other.

    A surface is the set of mask voxels with a face on the outside. NaN where the reference is empty, 0 where only the
    prediction is.

    Args:
        prediction: mask, any number of dimensions.
        reference: mask of the same shape.
        spacing_mm: size of a voxel along each axis.
        tolerance_mm: largest distance that counts as agreement.

    Reference:
        Csurka et al., What is a good evaluation measure for semantic segmentation?, BMVC 2013.
    """
    prediction, reference = _masks(prediction, reference)
    if not reference.any():
        return math.nan
    if not prediction.any():
        return 0.0
    surfaces = [_surface_mm(mask, spacing_mm) for mask in _crop(prediction, reference)]
    shares = [_share_within(tolerance_mm, own, other) for own, other in (surfaces, surfaces[::-1])]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) > 0 else 0.0


def lesion_wise(prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Dice and HD95 of each lesion on its own, by the rules of BraTS 2023.

    The reference is dilated three times by the 18-neighborhood (in 2-D by all 8 neighbors), and the components of
    that (26-neighborhood, in 2-D 8) are the lesions, so that fragments close to each other are one. A lesion's own
    voxels are those of the undilated reference; one of at most 50 is not scored. Every component of the prediction
    (26-neighborhood, undilated, however small) that touches a dilated lesion belongs to it as a whole, and to several
    lesions if it touches several. One that touches none is a false positive; one that touches only a lesion too small
    to be scored is neither.

    Args:
        prediction: see `segmentation_scores`.
        reference: the same.
        spacing_mm: the same.

    Returns:
        - lesion_dice: mean over lesions and false positives, 0 for each lesion missed and each false positive.
        - lesion_hd95_mm: the same mean, `MISS_MM` for each of these.
        - lesions, lesions_found: how many are scored, and to how many of them a predicted component belongs.
        - lesions_false: false positives.

        Without a lesion to score both means are NaN, whatever was predicted, and lesions and lesions_found are 0;
        lesions_false still counts. (The challenge says 1 and 0 mm without false positives, 0 and 374 mm with.)

    Reference:
        Saluja et al., BraTS 2023 lesion-wise performance metrics, github.com/rachitsaluja/BraTS-2023-Metrics. It takes
        the 50 in mm3, the same on its grid of 1 mm, and weighs the HD95's surfaces by area.
    """
    # cropping separates no lesions: two that meet outside the crop also meet where its edge is nearest to that place
    prediction, reference = _crop(*_masks(prediction, reference))
    touching = ndimage.generate_binary_structure(reference.ndim, reference.ndim)
    growing = ndimage.generate_binary_structure(reference.ndim, 2)
    components, count = ndimage.label(prediction, touching)
    lesions, _ = ndimage.label(ndimage.binary_dilation(reference, growing, DILATIONS), touching)
    meeting = prediction & (lesions > 0)
    pairs = np.unique(np.stack([lesions[meeting], components[meeting]]), axis=1)  # (2, P): lesion, component
    lesion_boxes, component_boxes = ndimage.find_objects(lesions), ndimage.find_objects(components)
    scored = np.flatnonzero(np.bincount(lesions[reference]) > SMALL_VOXELS)
    dice, distances = [], []
    for lesion in scored:
        own = pairs[1, pairs[0] == lesion]
        window = _around([lesion_boxes[lesion - 1], *(component_boxes[component - 1] for component in own)])
        masks = np.isin(components[window], own), reference[window] & (lesions[window] == lesion)
        dice.append(overlap_scores(*masks)["dice"])
        distances.append(hd95_mm(*masks, spacing_mm))
    false = count - len(np.unique(pairs[1]))
    weight = len(scored) + false
    return {
        "lesion_dice": sum(dice) / weight if len(scored) else math.nan,
        "lesion_hd95_mm": (sum(distances) + false * MISS_MM) / weight if len(scored) else math.nan,
        "lesions": len(scored),
        "lesions_found": int(np.isin(scored, pairs[0]).sum()),
        "lesions_false": false,
    }


def _masks(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as booleans; they must have one shape, since arrays of others might be broadcast in silence."""
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction {prediction.shape} and reference {reference.shape} differ in shape")
    return prediction > 0, reference > 0


def _crop(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both cut to their common bounding box and, where the array has it, one voxel around."""
    boxes = ndimage.find_objects((prediction | reference).astype(np.uint8))
    window = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in boxes[0]) if boxes else ()
    return prediction[window], reference[window]


def _around(boxes: Iterable[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around boxes."""
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))


def _one_case(prediction: np.ndarray, reference: np.ndarray) -> list[torch.Tensor]:
    """The cropped masks as MONAI takes them: (B, C, H, W[, D]) of one case and one channel."""
    return [torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in _crop(prediction, reference)]


def _surface_mm(mask: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Where the surface's voxels are: (N, dimensions) in mm."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, border_value=0)) * np.asarray(spacing_mm, dtype=np.float64)


def _share_within(tolerance_mm: float, own: np.ndarray, other: np.ndarray) -> float:
    """Share of points with one of the others within the tolerance; with slack for rounding."""
    distances, _ = KDTree(other).query(own, distance_upper_bound=tolerance_mm + 1e-6)  # infinite beyond
    return float((distances <= tolerance_mm + 1e-9).mean())
