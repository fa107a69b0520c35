"""What weights have seen is known by name, content, look and patient, in every source and spelling."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.dataset.known_cases import known_cases

SEEN = {
    "brats/TCGA-DU-7294": {"sha256": "a", "group": "brats/TCGA-DU-7294", "subset": "train", "phash": None},
    "brats/P01_flair": {"sha256": "b", "group": "brats/P01", "subset": "val", "phash": None},
    "kaggle/yes/1.jpg": {"sha256": "c", "group": "cluster/00ff", "subset": "train", "phash": "00000000000000ff"},
}


def case(id: str, group: str, sha256: str = "z", phash: str | None = None) -> dict[str, Any]:
    return {"id": id, "group": group, "sha256": {"image": sha256}, "phash": phash}


@pytest.mark.parametrize(
    ("asked", "by"),
    [
        (case("brats/TCGA-DU-7294", "brats/TCGA-DU-7294"), "name"),
        (case("lgg/TCGA_DU_7294_19890104", "TCGA-DU-7294"), "patient"),  # another set, another spelling, a visit
        (case("lgg/TCGA_DU_7295_19890104", "TCGA-DU-7295"), None),
        (case("other/P01_flair", "other/P01"), None),  # such numbers mean nothing in another source
        (case("other/x", "other/x", "b"), "hash"),
        (case("k/no/7.png", "cluster/1", "z", "00000000000000fe"), "perceptual hash"),
        (case("k/no/8.png", "cluster/00ff", "z", "f0f0f0f0f0f0f0f0"), "patient"),
        (case("k/no/9.png", "cluster/1", "z", "f0f0f0f0f0f0f0f0"), None),
    ],
)
def test_a_training_case_is_found_by_id_patient_hash_or_look(asked: dict[str, Any], by: str | None) -> None:
    assert known_cases([asked], SEEN) == ({asked["id"]: by} if by else {})


def test_only_the_subsets_that_are_asked_for_count() -> None:
    asked = case("brats/P01_flair", "brats/P01")
    assert known_cases([asked], SEEN, {"train"}) == {} and known_cases([asked], SEEN, {"val"})
