"""What is counted of cases: found, stored, without a tumor, and codes that are no tumor."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.dataset.case_counts import count_cases, left_out_codes, taught_by
from scripts.io.datalists import Cases, counts_in_words


def stored(name: str, pixels: list[int], **more: Any) -> dict[str, Any]:
    return {"id": f"v/{name}", "source": "v", "kind": "volume", "label": "x", "tumor_pixels": pixels, **more}


def test_masks_empty_masks_classes_and_what_was_skipped_are_counted_by_source() -> None:
    bare = {"id": "v/C", "source": "v", "kind": "volume"}
    images = [{"id": f"k/{n}", "source": "k", "kind": "image", "cls": n % 2} for n in range(3)]
    volumes = [
        stored("A", [3, 0]),
        stored("B", [0, 0], tumor_pixels_left_out=0),
        stored("D", [0], tumor_pixels_left_out=7),
    ]
    counts = count_cases(Cases([*volumes, bare, *images], {"v": {"adc": 2}}), iter(volumes))
    assert counts["v"] == {"with_mask": 3, "without_mask": 1, "skipped": {"adc": 2}, "without_tumor": 1}
    assert counts["k"] == {"no": 2, "yes": 1, "skipped": {}}
    assert counts_in_words(counts["v"]) == "3 with mask, 1 without mask, 1 without tumor; skipped: adc 2"


def test_codes_of_other_structures_are_named() -> None:
    codes = {"1": 5, "4": 7}
    assert left_out_codes(stored("BraTS-GLI-02405-100", [1], label_codes=codes)) == ["code 4, resection cavity"]
    assert left_out_codes(stored("BraTS20_Training_001", [1], label_codes=codes)) == []
    assert left_out_codes(stored("CASE_1", [1], label_codes=codes, tumor_codes=[4])) == ["code 1"]
    counts = count_cases(
        [stored("BraTS-GLI-02405-100", [1], label_codes=codes)], [stored("BraTS-GLI-02405-100", [1], label_codes=codes)]
    )
    assert counts["v"]["left_out"] == {"code 4, resection cavity": 1}


@pytest.mark.parametrize(
    ("slices", "kinds", "tasks"),
    [
        ("v1 v0 i1 i0", ["volume", "image"], ["segmentation", "classification"]),
        ("v1 v0", ["volume"], ["segmentation", "classification"]),
        ("v1 v?", ["volume"], ["segmentation"]),
        ("v0 i1", ["volume", "image"], ["classification"]),
        ("i1 i0 u?", ["image"], ["classification"]),
        ("v0 u?", ["volume"], []),
        ("u?", [], []),
    ],
)
def test_what_slices_teach(slices: str, kinds: list[str], tasks: list[str]) -> None:
    """v: of a volume with a mask, u: without, i: an image; 1: tumor, 0: none, ?: neither."""
    codes = {"1": 1.0, "0": 0.0, "?": float("nan")}
    records = [
        {"kind": "image" if kind == "i" else "volume", "has_mask": kind == "v", "cls": codes[code]}
        for kind, code in slices.split()
    ]
    assert taught_by(records) == {"kinds": kinds, "tasks": tasks}
