from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.training.contrast_augmentation import RandTissueContrastd


def head(levels: tuple[float, ...] = (-2.0, -0.5, 0.5, 2.0)) -> dict[str, torch.Tensor]:
    """Four tissues in quarters of a disc, with some noise."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    tissue = y**2 + x**2 < 0.9
    quarter = (y > 0) * 2 + (x > 0)
    image = np.where(tissue, np.choose(quarter, levels) + np.random.default_rng(0).normal(0, 0.05, y.shape), -4.0)
    return {"image": torch.tensor(image, dtype=torch.float32)[None], "foreground": torch.tensor(tissue).float()[None]}


def changed(seed: int, prob: float = 1.0) -> torch.Tensor:
    transform = RandTissueContrastd("image", prob=prob)
    transform.set_random_state(seed=seed)
    return torch.as_tensor(transform(head())["image"])


def means(image: torch.Tensor) -> np.ndarray:
    return np.array(
        [float(image[0, a, b].mean()) for a in (slice(10, 28), slice(36, 54)) for b in (slice(10, 28), slice(36, 54))]
    )


def test_every_tissue_gets_another_brightness_and_the_background_none() -> None:
    item, image = head(), changed(seed=3)
    inside = item["foreground"] > 0
    assert torch.equal(image[~inside], item["image"][~inside])
    assert float(image[inside].mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(image[inside].std()) == pytest.approx(1.0, abs=1e-3)
    assert np.abs(means(image) - means(item["image"])).max() > 0.2


@pytest.mark.parametrize("seed", range(20))
def test_two_tissues_at_most_may_become_equal(seed: int) -> None:
    differences = np.sort(np.abs(np.diff(means(changed(seed)))))
    assert differences[1] > 0.2


def test_contrast_is_sometimes_kept_and_sometimes_inverted() -> None:
    signs = {bool(np.corrcoef(means(changed(seed)), means(head()["image"]))[0, 1] > 0) for seed in range(20)}
    assert signs == {True, False}


def test_the_seed_determines_contrast_and_probability_zero_keeps_it() -> None:
    assert torch.equal(changed(7), changed(7))
    assert torch.equal(changed(7, prob=0.0), head()["image"])


def test_a_slice_without_tissue_is_unchanged() -> None:
    item = {"image": torch.full((1, 8, 8), -4.0), "foreground": torch.zeros(1, 8, 8)}
    assert torch.equal(torch.as_tensor(RandTissueContrastd("image", prob=1.0)(item)["image"]), item["image"])
