"""Which cases weights have seen: by id, content, patient, or the look of a picture."""

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
    """Cases that weights have seen in any of the subsets, and what they are known by.

    Args:
        cases: id, and as far as they are known group, sha256 of the image, phash.
        trained_on: see `networks.weights.trained_on`.
        subsets: of the training: "train", "val".

    Returns:
        By id: "name", "content", "look" or "patient". Copies of another size or quality are known by their look, which
        differs in a few bits; other crops and edits are not known.
    """
    seen = {id: entry for id, entry in trained_on.items() if entry["subset"] in subsets}
    contents = {entry["sha256"] for entry in seen.values()}
    pictures = {entry["phash"] for entry in seen.values() if entry.get("phash")}
    groups = {canonical_group(entry["group"]) for entry in seen.values() if entry.get("group")}
    found = {}
    for case in cases:
        if case["id"] in seen:
            found[case["id"]] = "name"
        elif case.get("sha256", {}).get("image") in contents:
            found[case["id"]] = "content"
        elif case.get("phash") and any(same_picture(case["phash"], picture) for picture in pictures):
            found[case["id"]] = "look"
        elif case.get("group") and canonical_group(case["group"]) in groups:  # a patient, or a cluster of pictures
            found[case["id"]] = "patient"
    return found
