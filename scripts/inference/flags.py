"""What to know before believing a prediction: flags, each a code and a sentence of `core.messages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor

from ..core.documents import Kind
from ..core.messages import Message, flag
from .decision import Decision, kind_of
from .out_of_distribution import OODDetector

__all__ = ["flags_of_distance", "flags_of_mask", "flags_of_report", "flags_of_scan"]

PLAUSIBLE_SHARE = 0.5  # of the tissue; a mask that is larger is shown as it is, never turned around, and flagged
DEEP = 0.2  # of the head's depth; what outlines reach it is in docs/results/outlines.json
COLORED_SHARE = 0.05  # of a picture's pixels; of 1,416 scans from the web none had more than 0.04


def flags_of_scan(
    decision: Decision, probability: float, kind: Kind, has_mask: bool, meta: Mapping[str, Any]
) -> list[Message]:
    """What the scan and the two outputs give cause to flag."""
    state = decision.state(probability, kind)
    found = {
        "spacing_implausible": meta.get("spacing_known") and not meta.get("spacing_used", True),
        "background_missing": not meta.get("background_found", True),
        "image_colored": meta.get("colored_share", 0.0) > COLORED_SHARE,
        "too_little_brain": not np.isfinite(probability),
        "tumor_without_mask": state == "tumor" and not has_mask,
        "mask_without_tumor": state == "no_tumor" and has_mask and np.isfinite(probability),
    }
    read = str(meta.get("flags", "")).split()  # what the reader noticed of the file
    return [flag(code) for code in (*read, *(code for code, holds in found.items() if holds))]


def flags_of_report(model: Mapping[str, Any]) -> list[Message]:
    """Whether the report beside the weights is another's."""
    return [flag("report_of_other_weights")] if (model.get("report") or {}).get("code") == "of_other_weights" else []


def flags_of_mask(mask: MetaTensor, share: float | None, depth: float | None) -> list[Message]:
    """What makes a mask hard to believe; share and depth are what `SplitPackedd` measured of it, if anything."""
    flags = [flag("mask_too_large")] if share is not None and share > PLAUSIBLE_SHARE else []
    at_edge = depth is not None and depth < DEEP and bool((mask > 0).any())
    return [*flags, flag("mask_at_head_edge")] if at_edge else flags


def flags_of_distance(
    ood_detector: OODDetector | None, distances: np.ndarray | None, slice_logits: np.ndarray
) -> list[Message]:
    """Whether a scan is far from the training data; wherever nobody measured that, it is said."""
    looked_at = np.isfinite(slice_logits)
    if not looked_at.any():
        return []
    if ood_detector is None or distances is None or np.isnan(distances[looked_at]).any():
        return [flag("ood_score_missing")]
    far = ood_detector.is_out_of_distribution(distances, kind_of(slice_logits))
    return [flag("out_of_distribution")] if far else []
