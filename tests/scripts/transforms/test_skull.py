from __future__ import annotations

import numpy as np
import pytest

from scripts.transforms.image_edits import add_fake_skull
from scripts.transforms.preprocessing import BACKGROUND, TISSUE
from scripts.transforms.skull import depth_profile, has_skull, skull_state


def brain(contrast: float = 1.0, radius: int = 60) -> np.ndarray:
    """A brain alone, (H, W): gray matter around white, with some texture and two dark ventricles."""
    y, x = np.mgrid[-100:100, -100:100]
    depth = radius - np.hypot(y * 0.9, x * 1.1)
    plane = np.where(depth > 8, -0.2, 0.2) * contrast + np.random.default_rng(1).normal(0, 0.3, depth.shape)
    plane[(np.hypot(y, x - 10) < 6) | (np.hypot(y, x + 10) < 6)] = -2.5
    return np.where(depth > 0, plane, BACKGROUND).astype(np.float32)


def head() -> np.ndarray:
    plane = brain()
    return np.asarray(add_fake_skull(plane[None], (plane > TISSUE)[None], 0.15, 2.0))[0]


@pytest.mark.parametrize("slices", [1, 2, 30])
def test_a_stripped_brain_and_a_head_with_skull_are_distinguished(slices: int) -> None:
    assert not has_skull(np.stack([brain()] * slices), TISSUE)
    assert has_skull(np.stack([head()] * slices), TISSUE)


def test_inverted_contrast_changes_nothing() -> None:
    """T1 and T2 show the same head with opposite contrast."""
    for plane, expected in ((brain(), False), (head(), True)):
        assert has_skull(np.where(plane > TISSUE, -plane, BACKGROUND)[None], TISSUE) is expected


def test_profile_is_the_brightness_at_each_depth() -> None:
    y, x = np.mgrid[-50:50, -50:50]
    depth = 40 - np.hypot(y, x)
    plane = np.where(depth > 0, depth / 10, BACKGROUND)
    assert depth_profile(plane, TISSUE) == pytest.approx(np.arange(3, 25, 2) / 10, abs=0.08)


def test_empty_and_tiny_images_have_no_skull() -> None:
    assert not has_skull(np.full((3, 40, 40), BACKGROUND), TISSUE)
    assert not has_skull(np.pad(np.zeros((1, 5, 5)), ((0, 0), (9, 9), (9, 9)), constant_values=BACKGROUND), TISSUE)


def test_a_volume_has_a_skull_state_and_score() -> None:
    off, on = (skull_state(np.stack([plane] * 30), TISSUE) for plane in (brain(), head()))
    assert (off["state"], on["state"]) == ("off", "on") and off["score"] < 0.1 and on["score"] > 0.9


def test_a_picture_without_skull_features_is_unknown() -> None:
    """Thin skulls of T2 pictures are as dark as air."""
    assert skull_state(brain()[None], TISSUE) == {"state": "unknown", "score": 0.5}
    assert skull_state(head()[None], TISSUE)["state"] == "on"


@pytest.mark.parametrize("slices", [0, 3])
def test_the_skull_state_of_an_empty_image_is_unknown(slices: int) -> None:
    assert skull_state(np.full((slices, 40, 40), BACKGROUND), TISSUE)["state"] == "unknown"
