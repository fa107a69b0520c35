"""Lesions of one patient in the head of another, and cores of lesions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scripts.training.lesion_augmentation import RandLesionCored, RandPasteLesiond
from scripts.transforms.preprocessing import BACKGROUND


class Donors:
    """A data set of one slice with a bright lesion of 12 by 20 pixels, and of one without."""

    data = ({"kind": "volume", "cls": 1.0, "case": "brats/a"}, {"kind": "volume", "cls": 0.0, "case": "brats/b"})

    def __getitem__(self, number: int) -> dict[str, Any]:
        assert number == 0, "the slice without a lesion lends none"
        image, mask = torch.zeros(1, 64, 64), torch.zeros(1, 64, 64)
        image[:, 30:42, 10:30], mask[:, 30:42, 10:30] = 4.0, 1.0
        return {"image": image, "mask": mask}


def item(masked: bool, cls: float = 0.0, case: str = "kaggle/x") -> dict[str, Any]:
    """A gray head in an empty plane."""
    image, foreground = torch.full((1, 64, 64), BACKGROUND), torch.zeros(1, 64, 64)
    image[:, 8:56, 8:56], foreground[:, 8:56, 8:56] = -0.5, 1.0
    found = {"image": image, "foreground": foreground, "cls": np.float32(cls), "case": case}
    return {**found, "mask": torch.zeros(1, 64, 64)} if masked else found


def pasted(data: dict[str, Any], seed: int = 0, **settings: Any) -> dict[str, Any]:
    transform = RandPasteLesiond("image", Donors(), **{"min_tumor_pixels": 50, "prob": 1.0, **settings})
    return dict(transform.set_random_state(seed)(data))


@pytest.mark.parametrize("seed", range(8))
def test_a_volume_gets_lesion_and_mask_at_one_place(seed: int) -> None:
    before, after = item(masked=True), pasted(item(masked=True), seed)
    changed = (after["image"] - before["image"]).abs() > 0.5 * 4.5
    assert torch.equal(changed, after["mask"] > 0.5) and after["cls"] == 1.0
    assert set(after["mask"].unique().tolist()) == {0.0, 1.0} and 50 <= int(after["mask"].sum()) <= 12 * 20
    assert not (after["mask"] * (1 - before["foreground"])).any(), "nothing is pasted beside the head"
    assert torch.equal(after["image"][before["foreground"] == 0], before["image"][before["foreground"] == 0])


def test_a_picture_without_a_tumor_becomes_one_with() -> None:
    before, after = item(masked=False), pasted(item(masked=False))
    assert after["cls"] == 1.0 and "mask" not in after and not torch.equal(after["image"], before["image"])


def test_a_too_small_pasted_lesion_makes_the_class_unknown() -> None:
    assert np.isnan(pasted(item(masked=False), min_tumor_pixels=1000)["cls"])
    assert pasted(item(masked=False, cls=1.0), min_tumor_pixels=1000)["cls"] == 1.0, "there was a tumor before"


def test_pasting_depends_only_on_the_seed() -> None:
    first, again, other = (pasted(item(masked=True), seed) for seed in (3, 3, 4))
    assert torch.equal(first["image"], again["image"]) and not torch.equal(first["image"], other["image"])


def test_no_patient_gets_its_own_lesion() -> None:
    before = item(masked=True, case="brats/a")
    assert pasted(before)["image"] is before["image"]


def test_at_probability_zero_nothing_is_pasted() -> None:
    before = item(masked=False)
    after = pasted(before, prob=0.0)
    assert after["image"] is before["image"] and after["cls"] == 0.0


def test_a_plane_without_tissue_is_unchanged(tmp_path: Path) -> None:
    data = item(masked=True)
    data["foreground"] = torch.zeros(1, 64, 64)
    assert pasted(data)["image"] is data["image"]


def with_core(data: dict[str, Any], seed: int = 0, prob: float = 1.0) -> dict[str, Any]:
    return dict(RandLesionCored("image", prob).set_random_state(seed)(data))


def lesioned() -> dict[str, Any]:
    """A gray head with a bright lesion of 16 by 16 pixels."""
    data = item(masked=True, cls=1.0)
    data["image"][:, 20:36, 24:40], data["mask"][:, 20:36, 24:40] = 3.0, 1.0
    return data


@pytest.mark.parametrize("seed", range(8))
def test_a_core_changes_the_lesions_look_and_only_adds_to_its_mask(seed: int) -> None:
    before, after = lesioned(), with_core(lesioned(), seed)
    assert (after["mask"] >= before["mask"]).all() and set(after["mask"].unique().tolist()) == {0.0, 1.0}
    assert not (after["mask"] * (1 - before["foreground"])).any(), "a core lies in the head"
    changed = (after["image"] - before["image"]).abs()[before["foreground"] > 0] > 1.0
    assert changed.any() and not (changed & (after["mask"][before["foreground"] > 0] == 0)).any()
    assert after["image"].isfinite().all() and after["cls"] == 1.0


def test_cores_are_repeatable_and_differ_by_seed() -> None:
    first, again, other = (with_core(lesioned(), seed)["image"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("data", [item(masked=True), item(masked=False)], ids=["no lesion", "no mask"])
def test_without_a_lesion_no_core_is_added(data: dict[str, Any]) -> None:
    after = with_core(data)
    assert torch.equal(after["image"], data["image"]) and with_core(lesioned(), prob=0.0)["mask"].sum() == 256
