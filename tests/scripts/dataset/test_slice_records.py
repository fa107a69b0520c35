"""Records of slices: one for each slice of each case, in order, and little memory for many volumes."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.core.files import write_json
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore

SLICES = 130


def volume(name: str, tumor: list[int]) -> dict[str, Any]:
    """A stored case."""
    count = len(tumor)
    case = {"id": f"brats/{name}", "source": "brats", "kind": "volume", "group": f"brats/{name}"}
    case |= {"sha256": {"image": 64 * "a"}, "slices": list(range(5, 5 + count)), "tumor_pixels": tumor}
    case |= {"brain_pixels": [9000] * count, "own_statistics": [[[0.1 * i], [1.0 + i]] for i in range(count)]}
    return case | {"crc32": {"image": [4 * 10**9 + i for i in range(count)]}}


def test_records_are_those_of_the_cases_in_order() -> None:
    cases = [volume("A", [0, 20, 60]), volume("B", [0])]
    records = SliceRecords(cases, 50)
    assert len(records) == 4
    assert [(r["case"], r["position"], r["index"]) for r in records] == [
        *(("brats/A", i, 5 + i) for i in range(3)),
        ("brats/B", 0, 5),
    ]
    assert [r["cls"] for r in records][::2] == [0.0, 1.0] and math.isnan(records[1]["cls"])
    assert [r["tumor_free"] for r in records] == [False, False, False, True]
    assert records[2]["statistics"] == [[0.2], [3.0]]
    assert records[-1] == records[3] and records[1:3][1] == records[2]
    for beyond in (4, -5):
        with pytest.raises(IndexError):
            records[beyond]


def test_no_cases_have_no_records() -> None:
    assert len(SliceRecords([], 50)) == 0 and list(SliceRecords([], 50)) == []


def test_a_volume_needs_less_than_10_kb(tmp_path: Path) -> None:
    """With 100,000 volumes less than 1 GB; a dict for each slice would be 13 GB."""
    names = [f"P{number:03d}" for number in range(100)]
    for name in names:
        case = volume(name, [300] * SLICES)
        write_json(tmp_path / "cases" / case["id"] / "case.json", case)
    write_json(tmp_path / "store.json", {"schema_version": 1, "cases": [f"brats/{name}" for name in names]})
    store = SliceStore(tmp_path)
    store.case(f"brats/{names[0]}")
    tracemalloc.start()
    records = SliceRecords(store.cases(), 50)
    needed = tracemalloc.get_traced_memory()[0] / len(names)
    tracemalloc.stop()
    assert len(records) == 100 * SLICES and records[SLICES]["case"] == "brats/P001"
    assert isinstance(records.cases[0]["own_statistics"], np.ndarray)
    assert needed < 10_000
