"""Counts of a slice store by source: masks, volumes without tumor, classes, skipped files; and what it can teach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.label_codes import label_set_of
from ..io.datalists import Case, Cases

__all__ = ["count_cases", "is_tumor_free", "left_out_codes", "taught_by", "untold_types"]


def count_cases(cases: Sequence[Case], stored: Iterable[Case]) -> dict[str, dict[str, Any]]:
    """Count the listed and the stored cases.

    Args:
        cases: from `gather_cases`.
        stored: the cases in the store, with tumor_pixels and label_codes; read once, so that it may be a generator.

    Returns:
        By source: with_mask, without_mask and without_tumor (a mask that is empty), yes, no, skipped (files by
        reason), and left_out: number of masks by code of another structure than tumor.
    """
    counts = (cases if isinstance(cases, Cases) else Cases(cases)).counts()
    free: dict[str, int] = {}
    left_out: dict[str, Counter[str]] = {}
    for case in stored:
        if case["kind"] == "volume" and "tumor_pixels" in case:
            free[case["source"]] = free.get(case["source"], 0) + is_tumor_free(case)
            left_out.setdefault(case["source"], Counter()).update(left_out_codes(case))
    for source, counted in counts.items():
        if source in free:
            counted["without_tumor"] = free[source]
        if left_out.get(source):
            counted["left_out"] = dict(left_out[source])
    return counts


def is_tumor_free(case: Mapping[str, Any]) -> bool:
    """Whether a stored case is a volume whose mask is empty: a patient without a tumor."""
    drawn = sum(case.get("tumor_pixels", [1])) + case.get("tumor_pixels_left_out", 0)
    return case["kind"] == "volume" and not drawn


def left_out_codes(case: Mapping[str, Any]) -> list[str]:
    """Codes of other structures than tumor in a stored case's mask, in words."""
    codes = [int(code) for code in case.get("label_codes", {})]
    name = str(case["id"]).partition("/")[2]
    if "tumor_codes" in case:
        return [f"code {code}" for code in codes if code not in case["tumor_codes"]]
    known = label_set_of(name)
    return [f"code {code}, {known.other[code]}" for code in codes if code in known.other] if known else []


def taught_by(records: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What slices can teach.

    Args:
        records: of slices, see `SliceRecords`.

    Returns:
        "kinds": volume where one has a mask, image where there are any. "tasks": segmentation where a mask has a tumor,
        classification where there are slices or images with a tumor and without.
    """
    kinds: set[str] = set()
    classes: set[float] = set()
    masked = False
    for record in records:
        if record["has_mask"] or record["kind"] == "image":
            kinds.add(record["kind"])
            classes.add(record["cls"])
            masked |= record["kind"] == "volume" and record["cls"] == 1.0
    return {
        "kinds": [kind for kind in ("volume", "image") if kind in kinds],
        "tasks": [*(["segmentation"] if masked else []), *(["classification"] if {0.0, 1.0} <= classes else [])],
    }


def untold_types(cases: Iterable[Mapping[str, Any]], types: Sequence[str]) -> list[str]:
    """Types of tumors that no case tells.

    >>> untold_types([{"class_name": "glioma"}, {"cls": 1}], ["glioma", "pituitary"])
    ['pituitary']
    """
    told = {case.get("class_name") for case in cases}
    return [name for name in types if name not in told]
