"""Find training cases of weights: by id, content hash, patient, or perceptual hash."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from ..io.datalists import Case
from ..io.patients import canonical_group
from .near_duplicates import same_picture

__all__ = ["known_cases"]


def known_cases(
    cases: Sequence[Case], trained_on: Mapping[str, Mapping[str, Any]], subsets: Container[str] = ("train", "val")
) -> dict[str, str]:
    """Find cases that are training or validation cases of weights.

    Args:
        cases: id, and if known group, sha256 of the image, phash.
        trained_on: see `networks.weights.trained_on`.
        subsets: of the training: "train", "val".

    Returns:
        By id how the case was recognized: "name", "hash", "perceptual hash" or "patient". The perceptual hash finds
        copies of another size or quality, with a few different bits; other crops and edits are not found.
    """
    seen = {id: entry for id, entry in trained_on.items() if entry["subset"] in subsets}
    hashes = {entry["sha256"] for entry in seen.values()}
    pictures = {entry["phash"] for entry in seen.values() if entry.get("phash")}
    groups = {canonical_group(entry["group"]) for entry in seen.values() if entry.get("group")}
    found = {}
    for case in cases:
        if case["id"] in seen:
            found[case["id"]] = "name"
        elif case.get("sha256", {}).get("image") in hashes:
            found[case["id"]] = "hash"
        elif case.get("phash") and any(same_picture(case["phash"], picture) for picture in pictures):
            found[case["id"]] = "perceptual hash"
        elif case.get("group") and canonical_group(case["group"]) in groups:  # a patient, or a near-duplicate cluster
            found[case["id"]] = "patient"
    return found
