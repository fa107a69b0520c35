from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from scripts.training.contrast_augmentation import RandSwapAmplituded

SIZE = 64


def head(bias: float, source: str, size: int = SIZE, seed: int = 0) -> dict[str, Any]:
    """A disc of tissue with noise, brighter towards one side."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tissue = y**2 + x**2 < 0.8
    noise = np.random.default_rng(seed).normal(0, 0.3, y.shape)
    image = np.where(tissue, bias * x + noise, -4.0)
    planes = torch.tensor(image, dtype=torch.float32)[None]
    return {"image": planes, "foreground": torch.tensor(tissue).float()[None], "source": source}


class Slices:
    """Slices as `SliceDataset` gives them, which count how often they are read."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.data, self.read = items, [0] * len(items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read[index] += 1
        return dict(self.data[index])


def styled(item: dict[str, Any], donors: Slices, seed: int = 0, prob: float = 1.0) -> torch.Tensor:
    transform = RandSwapAmplituded("image", donors, prob=prob)
    transform.set_random_state(seed=seed)
    return torch.as_tensor(transform(item)["image"])


def slope(image: torch.Tensor, item: dict[str, Any]) -> float:
    """Correlation of brightness with the column, over the tissue."""
    columns = torch.arange(image.shape[-1]).expand(image.shape[-2:])
    inside = item["foreground"][0] > 0.5
    return float(np.corrcoef(image[0][inside], columns[inside])[0, 1])


def test_tissue_is_standardized_and_the_background_stays() -> None:
    item = head(0.0, "a")
    image = styled(item, Slices(item, head(3.0, "b")))
    inside = item["foreground"] > 0.5
    assert image.shape == item["image"].shape and image.dtype == torch.float32
    assert torch.equal(image[~inside], item["image"][~inside])
    assert float(image[inside].mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(image[inside].std()) == pytest.approx(1.0, abs=1e-3)


def test_the_style_of_a_flat_source_evens_a_slope_out() -> None:
    item = head(3.0, "a")
    slopes = [slope(styled(item, Slices(head(0.0, "b", seed=5)), seed), item) for seed in range(10)]
    assert max(slopes) <= slope(item["image"], item) + 1e-3
    assert min(slopes) < 0.6 * slope(item["image"], item)


def test_fine_detail_is_kept() -> None:
    item = head(0.0, "a")
    image = styled(item, Slices(head(3.0, "b")), seed=1)
    inner = slice(SIZE // 2 - 16, SIZE // 2 + 16)  # away from the edge

    def detail(planes: torch.Tensor) -> torch.Tensor:
        smooth = torch.nn.functional.avg_pool2d(planes[None], 9, 1, 4)[0]
        return (planes - smooth)[0, inner, inner].flatten()

    assert np.corrcoef(detail(image), detail(item["image"]))[0, 1] > 0.97


def test_donors_are_of_other_sources_alone() -> None:
    donors = Slices(head(1.0, "a"), head(2.0, "b"), head(3.0, "a"), head(2.0, "c"))
    for seed in range(30):
        styled(donors.data[0], donors, seed)
    assert donors.read[0] == donors.read[2] == 0
    assert min(donors.read[1], donors.read[3]) > 5  # each source is as likely


@pytest.mark.parametrize("size", [40, 96])
def test_a_donor_may_have_another_size(size: int) -> None:
    item = head(0.0, "a")
    assert styled(item, Slices(head(2.0, "b", size=size))).shape == item["image"].shape


def test_the_seed_decides_and_nothing_changes_without_another_source_chance_or_tissue() -> None:
    item, other = head(0.5, "a"), head(2.0, "b")
    donors = Slices(item, other)
    assert torch.equal(styled(item, donors, 3), styled(item, donors, 3))
    assert not torch.equal(styled(item, donors, 3), styled(item, donors, 4))
    assert torch.equal(styled(item, donors, prob=0.0), item["image"])
    assert torch.equal(styled(item, Slices(item)), item["image"])
    empty = {**item, "image": torch.full((1, SIZE, SIZE), -4.0), "foreground": torch.zeros(1, SIZE, SIZE)}
    assert torch.equal(styled(empty, donors), empty["image"])


def test_a_donor_without_tissue_takes_contrast_away_but_gives_no_nan() -> None:
    item = head(1.0, "a")
    empty = {**head(0.0, "b"), "foreground": torch.zeros(1, SIZE, SIZE)}
    assert bool(styled(item, Slices(empty)).isfinite().all())
