"""Sequences that are left out in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose

from scripts.training.augmentation import KeepBackgroundd
from scripts.training.sequence_dropout import RandDropSequencesd
from scripts.transforms.preprocessing import BACKGROUND


def item(missing: list[bool]) -> dict[str, Any]:
    """A slice whose missing channels hold what augmentation left in them."""
    image = torch.arange(1.0, len(missing) + 1)[:, None, None].repeat(1, 4, 4) / 10
    foreground = torch.ones(1, 4, 4)
    foreground[:, 0] = 0
    return {"image": image, "foreground": foreground, "missing": torch.tensor(missing)}


@given(missing=st.lists(st.booleans(), min_size=1, max_size=5), seed=st.integers(0, 2**20), prob=st.floats(0, 1))
def test_some_of_the_sequences_stay_and_missing_ones_are_background(
    missing: list[bool], seed: int, prob: float
) -> None:
    steps = [RandDropSequencesd("image", prob), KeepBackgroundd("image")]
    steps[0].set_random_state(seed)
    before = item(missing)
    found = Compose(steps)(before)
    kept = ~(found["image"] == BACKGROUND).flatten(1).all(dim=1)
    assert bool((kept <= ~torch.tensor(missing)).all()), "a missing sequence stays missing"
    assert bool(kept.any()) == (not all(missing)), "not all are left out"
    assert torch.equal(found["image"][kept][:, 1:], before["image"][kept][:, 1:])
    assert before["missing"].tolist() == missing and set(found) == {"image"}


def test_every_number_of_sequences_is_as_likely() -> None:
    drop = RandDropSequencesd("image", 1.0)
    drop.set_random_state(0)
    counts = np.bincount([int((~drop(item([False] * 4))["missing"]).sum()) for _ in range(600)], minlength=5)
    assert counts[0] == counts[4] == 0 and counts[1:4].min() > 150


def test_a_single_sequence_changes_no_random_number() -> None:
    drop = RandDropSequencesd("image", 1.0)
    drop.set_random_state(0)
    state = drop.R.get_state()[1].copy()
    one = {name: value for name, value in item([False]).items() if name != "missing"}
    assert drop(one) == one and drop(item([True, False]))["missing"].tolist() == [True, False]
    assert np.array_equal(drop.R.get_state()[1], state)


def test_what_is_noted_beside_weights() -> None:
    drop = RandDropSequencesd("image", 0.5)
    assert drop.noted(["flair"], ["volume"]) == {}
    assert drop.noted(["flair", "t1"], ["volume"]) == {"missing_sequences": True, "unknown_sequences": False}
    never = RandDropSequencesd("image", 0.0).noted(["flair", "t1"], ["volume", "image"])
    assert never == {"missing_sequences": False, "unknown_sequences": True}
