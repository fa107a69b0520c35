"""Flags of a prediction: warnings with the codes and texts of `core.messages`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import MetaTensor
from scipy import ndimage

from ..core.documents import Kind
from ..core.geometry import box_around, pixel_mm2, slice_axis, voxel_mm3
from ..core.messages import Message, flag
from .decision import Decision, kind_of
from .out_of_distribution import OODDetector

__all__ = [
    "flags_of_distance",
    "flags_of_learned",
    "flags_of_mask",
    "flags_of_report",
    "flags_of_scan",
    "mask_depth",
    "thickness_is_plausible",
]

PLAUSIBLE_SHARE = 0.5  # of the tissue; a larger mask is flagged, and never inverted
DEEP = 0.2  # of the head's depth; depths of held-out masks are in docs/results/mask_depths.json
GAP_MM, LARGEST_EXTENT_MM = (0.05, 50.0), 1000.0  # of slices, and of all of them
COLORED_SHARE = 0.05  # of an image's pixels; at most 0.04 in 1,416 scans from the web


def flags_of_scan(decision: Decision, probability: float, kind: Kind, mask: MetaTensor) -> list[Message]:
    """Flags of the scan, and of disagreement between mask (1, H, W, D) and class."""
    state, meta, has_mask = decision.state(probability, kind), mask.meta, _has_voxels(mask)
    thickness_known = meta.get("spacing_used", False) and meta.get("thickness_known", True)
    conditions = {
        "spacing_implausible": meta.get("spacing_known") and not meta.get("spacing_used", True),
        "thickness_implausible": thickness_known and not thickness_is_plausible(mask),
        "background_missing": not meta.get("background_found", True),
        "image_inverted": meta.get("white_background", False),
        "image_colored": meta.get("colored_share", 0.0) > COLORED_SHARE,
        "too_little_brain": not np.isfinite(probability),
        "tumor_without_mask": state == "tumor" and not has_mask,
        "mask_without_tumor": state == "no_tumor" and has_mask and np.isfinite(probability),
    }
    of_file = str(meta.get("flags", "")).split()  # flags that the reader raised
    return [flag(code) for code in (*of_file, *(code for code, holds in conditions.items() if holds))]


def thickness_is_plausible(mask: MetaTensor) -> bool:
    """Whether the distance between the slices of a mask (1, H, W, D) and their extent fit a head."""
    affine, shape = mask.meta["original_affine"], mask.shape[1:]
    gap_mm = voxel_mm3(affine) / pixel_mm2(affine, shape)
    slices = shape[slice_axis(affine, shape)[0]]
    return GAP_MM[0] <= gap_mm <= GAP_MM[1] and gap_mm * slices <= LARGEST_EXTENT_MM


def flags_of_report(model: Mapping[str, Any]) -> list[Message]:
    """Flag of a report that belongs to other weights."""
    return [flag("report_of_other_weights")] if (model.get("report") or {}).get("code") == "of_other_weights" else []


def flags_of_mask(mask: MetaTensor, share: float | None, depth: float | None) -> list[Message]:
    """Flags of an implausible or incomplete mask (1, H, W, D), by the share and depth that `SplitPackedd` measured."""
    conditions = {
        "mask_too_large": share is not None and share > PLAUSIBLE_SHARE,
        "mask_at_head_edge": depth is not None and depth < DEEP and _has_voxels(mask),
        "mask_cut_off": _reaches_edge(mask),
    }
    return [flag(code) for code, holds in conditions.items() if holds]


def _has_voxels(mask: MetaTensor) -> bool:
    """Whether a mask of 0 and 1 is not empty."""
    return bool(mask.as_tensor().max() > 0)


def mask_depth(mask: np.ndarray, tissue: np.ndarray) -> float | None:
    """75th percentile of the mask's depth in the head, as a share of the largest depth.

    Args:
        mask: boolean (H, W), within the head.
        tissue: boolean (H, W); holes in it belong to the head.

    Returns:
        In [0, 1], None for an empty mask.
    """
    if not mask.any():
        return None
    box = box_around(tissue)
    depth = ndimage.distance_transform_edt(np.pad(ndimage.binary_fill_holes(tissue[box]), 1))[1:-1, 1:-1]
    return float(np.percentile(depth[mask[box]], 75) / depth.max())


def _reaches_edge(mask: MetaTensor) -> bool:
    """Whether a mask (1, H, W, D) has a voxel in the outermost rows, columns or slices; a single slice is none."""
    voxels = mask.as_tensor()[0]
    axes = [axis for axis, side in enumerate(voxels.shape) if side > 1]
    return any(bool((voxels.select(axis, end) > 0).any()) for axis in axes for end in (0, -1))


def flags_of_distance(
    ood_detector: OODDetector | None, distances: np.ndarray | None, slice_logits: np.ndarray
) -> list[Message]:
    """Flags of the OOD score: out of distribution, or not computed or without a limit for this kind of scan."""
    predicted = np.isfinite(slice_logits)
    if not predicted.any():
        return []
    kind = kind_of(slice_logits)
    if ood_detector is None or kind not in ood_detector.limits:
        return [flag("ood_score_missing")]
    if distances is None or not np.isfinite(distances[predicted]).all():
        return [flag("ood_score_missing")]
    far = ood_detector.is_out_of_distribution(distances, kind)
    return [flag("out_of_distribution")] if far else []


def flags_of_learned(learned: Sequence[str], seen: bool, flags: Sequence[Message]) -> list[Message]:
    """The flags of a scan, with one for the task that the weights did not learn, without those that it alone raises.

    Args:
        learned: tasks of the weights.
        seen: whether the scan shows enough brain.
        flags: of the scan.
    """
    if "segmentation" not in learned:
        return [*(found for found in flags if found["code"] != "tumor_without_mask"), flag("mask_not_learned")]
    if "classification" not in learned:
        kept = [found for found in flags if found["code"] != "too_little_brain" or not seen]
        return [*kept, flag("class_not_learned")]
    return list(flags)
