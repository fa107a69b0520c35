"""Read cases of a folder with preprocessing: their properties and problems."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np

from ..core.filenames import first_file
from ..core.label_codes import LabelError
from ..dataset.slice_store import content_hash, reason_in_one_line
from ..inference.check_sequence import assess_sequence
from ..inference.sequence_by_look import LOOKS, SequenceClassifier
from ..io.datalists import Case
from ..io.notices import Notice
from ..transforms.channels import shown_channel
from ..transforms.preprocessing import TISSUE, tissue_of
from ..transforms.skull import skull_state

__all__ = ["LookedAt", "look_into", "notices_of_case"]

WHOLE = 0.6  # of the tissue: more is a mask of the brain
OUTSIDE = 0.2  # of a tumor outside the head
SMALL = 96  # pixels of a picture's shorter side
COLORED = 0.05  # of a picture's pixels


@dataclass
class LookedAt:
    """What one case holds.

    Args:
        case: as it was listed, with "sha256" where it could be read.
        notices: what is wrong with it.
        facts: shape, spacing_mm, orientation, skull, codes, looks, tumor_share, negative.
        picture: the network's input of an image (H, W), to compare it with others.
    """

    case: Case
    notices: list[Notice] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    picture: np.ndarray | None = None


def look_into(
    cases: Sequence[Case],
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    min_brain_pixels: int,
    modalities: Sequence[str],
    looks: SequenceClassifier | None,
    seconds: float,
) -> list[LookedAt]:
    """Look into cases, evenly spread over the list, until the time is over; at least one of each source and kind.

    Args:
        cases: of `gather_cases`.
        transform: of preprocessing, from paths to "image" and "label".
        min_brain_pixels: a slice with less tissue shows no brain.
        modalities: that the image's channels are.
        looks: classifier of sequences.
        seconds: to spend.
    """
    ends, found = time.monotonic() + seconds, []
    kinds: set[tuple[str, str]] = set()
    for case in _spread(cases):
        kind = (case["source"], case["kind"])
        if time.monotonic() < ends or kind not in kinds:
            kinds.add(kind)
            found.append(_look(case, transform, min_brain_pixels, modalities, looks))
    return found


def _spread(cases: Sequence[Case]) -> Iterator[Case]:
    """All cases, the first of them spread over the whole list: by the bits of their numbers, read backwards."""
    bits = max(1, (len(cases) - 1).bit_length())
    order = sorted(range(len(cases)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return (cases[i] for i in order)


def _look(
    case: Case,
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    min_brain_pixels: int,
    modalities: Sequence[str],
    looks: SequenceClassifier | None,
) -> LookedAt:
    looked = LookedAt({**case})
    try:
        looked.case["sha256"] = {"image": content_hash(case["image"])}
        data = transform(case)
    except Exception as error:
        reason = reason_in_one_line(error, case)
        code = "label_codes" if _is_label_error(error) else "unreadable"
        if code == "unreadable" and "label" in case and _readable({**case}, transform):
            code = "mask_unusable"
        looked.notices.append(Notice(code, "error", reason, (case["id"],)))
        return looked
    looked.facts = _facts(data, min_brain_pixels, looks)
    if case["kind"] == "image":
        looked.picture = data["image"].as_tensor()[0, :, :, 0].numpy()
    looked.notices += notices_of_case(case, data, looked.facts, min_brain_pixels, modalities, looks)
    return looked


def _is_label_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, LabelError):
            return True
        error = error.__cause__
    return False


def _readable(case: Case, transform: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> bool:
    del case["label"]
    try:
        transform(case)
    except Exception:
        return False
    return True


def _facts(data: Mapping[str, Any], min_brain_pixels: int, looks: SequenceClassifier | None) -> dict[str, Any]:
    image = data["image"]
    affine = np.asarray(image.meta["original_affine"], dtype=np.float64)
    facts: dict[str, Any] = {
        "shape": [int(n) for n in image.meta["spatial_shape"]],
        "orientation": "".join(str(code) for code in nib.aff2axcodes(affine)),
        "looks": looks.look(image) if looks and len(image) == 1 else None,
    }
    if image.meta.get("spacing_known", True):
        facts["spacing_mm"] = [round(float(s), 3) for s in np.linalg.norm(affine[:3, :3], axis=0)]
    tissue = tissue_of(image.as_tensor().movedim(-1, 0))  # (D, H, W)
    seen = tissue.sum(dim=(1, 2)) >= min_brain_pixels
    facts["skull"] = skull_state(shown_channel(image.as_tensor()).movedim(-1, 0)[seen].numpy(), TISSUE)["state"]
    if "label" in data:
        tissue, tumor = tissue.movedim(0, -1), data["label"].as_tensor()[0] > 0  # (H, W, D)
        facts["codes"] = data["label"].meta.get("label_codes", {})
        facts["negative"] = not bool(tumor.any())
        facts["tumor_share"] = float((tumor & tissue).sum() / tissue.sum().clamp_min(1))
        facts["outside_share"] = float((tumor & ~tissue).sum() / tumor.sum().clamp_min(1))
    return facts


def notices_of_case(
    case: Case,
    data: Mapping[str, Any],
    facts: Mapping[str, Any],
    min_brain_pixels: int,
    modalities: Sequence[str],
    looks: SequenceClassifier | None,
) -> Iterator[Notice]:
    """Notices about a case that was read."""
    image, about = data["image"], (case["id"],)
    name = first_file(case["image"])
    brain = tissue_of(image.as_tensor().movedim(-1, 0)).sum(dim=(1, 2))
    if int(brain.max()) < min_brain_pixels:
        text = f"{name}: no slice shows at least {min_brain_pixels} pixels of brain"
        yield Notice("no_brain", "error", text, about)
    if image.meta.get("spacing_known", True) and not image.meta.get("spacing_used", True):
        text = f"{name}: the pixel spacing {facts['spacing_mm'][:2]} mm is implausible for a head"
        yield Notice("spacing", "warning", text, about)
    if image.meta.get("colored_share", 0.0) > COLORED:
        yield Notice("colored", "warning", f"{name}: has colors, it may be no scan", about)
    if case["kind"] == "image" and min(facts["shape"][:2]) < SMALL:
        shape = "x".join(map(str, facts["shape"]))
        yield Notice("small_picture", "warning", f"{name}: has {shape} pixels only", about)
    if facts.get("tumor_share", 0.0) > WHOLE:
        text = f"{case['label']}: marks {facts['tumor_share']:.0%} of the head: is it a mask of the brain?"
        yield Notice("mask_of_brain", "error", text, about)
    elif facts.get("outside_share", 0.0) > OUTSIDE:
        text = f"{case['label']}: {facts['outside_share']:.0%} of the mask is outside the head"
        yield Notice("mask_outside", "error", text, about)
    told = str(image.meta.get("sequence_told", ""))
    taken, flags, _ = assess_sequence(told, facts["looks"], case["kind"], modalities, looks)
    flags = [found for found in flags if looks is not None or found["code"] != "sequence_unchecked"]
    if len(modalities) == 1 and flags:
        seen = LOOKS.get(str(taken.get("looks_like")), taken["sequence"])
        yield Notice("looks_otherwise", "warning", f"{name}: {flags[0]['text']} (looks like {seen})", about)
