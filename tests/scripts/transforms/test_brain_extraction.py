from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from scripts.core.configs import components_of
from scripts.dataset.stored_slices import slices_of
from scripts.training.augmentation import RandExtractBraind
from scripts.transforms import brain_extraction
from scripts.transforms.brain_extraction import ExtractBraind, FindBraind, brain_mask
from scripts.transforms.preprocessing import TISSUE, NormalizeForegroundd, tissue_of

ROOT = Path(__file__).resolve().parents[3]
SIDE, DEPTH = 128, 16


def head(skull: bool = True) -> MetaTensor:
    """A ball of brain with texture (1, H, W, D), in a dark ring of bone and a bright one of scalp, off the center."""
    y, x, z = np.mgrid[:SIDE, :SIDE, :DEPTH]
    radius = np.sqrt((y - 70) ** 2 + (x - 54) ** 2 + ((z - DEPTH / 2) * 5) ** 2)
    texture = np.random.default_rng(0).normal(100, 8, radius.shape)
    volume = np.where(radius < 36, texture, 0.0)
    if skull:
        volume = np.where((radius >= 36) & (radius < 42), 15.0, volume)
        volume = np.where((radius >= 42) & (radius < 48), 220.0, volume)
    return MetaTensor(
        volume[None].astype(np.float32), meta={"filename_or_obj": "head.nii.gz", "spatial_shape": volume.shape}
    )


def brain_of(head: MetaTensor) -> np.ndarray:
    values = head.as_tensor()[0].numpy()
    inside: np.ndarray = (values > 50) & (values < 180)
    return inside


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for deepbet's networks: brain is what lies at least 5 voxels from the bright scalp and is not dark."""

    def find(image: torch.Tensor) -> torch.Tensor:
        values = (image - image.min()) / (image.max() - image.min())
        brain = ((values > 0.25) & (values < 0.8)).float()
        return torch.cat([1 - brain, brain], dim=1)

    monkeypatch.setattr(brain_extraction, "_networks", lambda: (find, find))


def test_mask_lies_on_the_brain_in_an_asymmetric_place(networks: None) -> None:
    image = head()
    found, brain = brain_mask(image.as_tensor()[0].numpy()), brain_of(image)
    assert found.dtype == bool and found.shape == brain.shape
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.95


def test_everything_but_the_brain_becomes_background(networks: None) -> None:
    out = ExtractBraind("image")({"image": head()})["image"]
    assert out.meta["brain_extracted"]
    assert out.max() < 180 and (np.asarray(out[0])[~brain_of(head())] == 0).mean() > 0.99
    kept = brain_of(head()) & (np.asarray(out[0]) > 0)
    np.testing.assert_array_equal(np.asarray(out[0])[kept], head().as_tensor()[0].numpy()[kept])


def test_a_head_without_a_skull_and_a_single_slice_stay_as_they_are(networks: None) -> None:
    for image in (head(skull=False), head()[..., :1]):
        out = ExtractBraind("image")({"image": image})["image"]
        assert "brain_extracted" not in out.meta
        assert torch.equal(out.as_tensor(), image.as_tensor())


def test_a_volume_without_a_brain_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(image: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 2, *image.shape[2:])

    monkeypatch.setattr(brain_extraction, "_networks", lambda: (nothing, nothing))
    with pytest.raises(ValueError, match=r"head\.nii\.gz: no brain is found .* without --strip"):
        ExtractBraind("image")({"image": head()})


def test_without_deepbet_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise PackageNotFoundError(name)

    brain_extraction._networks.cache_clear()
    monkeypatch.setattr(brain_extraction, "files", missing)
    with pytest.raises(ValueError, match="pip install deepbet"):
        brain_mask(head().as_tensor()[0].numpy())


def test_deepbets_networks_find_a_brain_where_one_is_drawn() -> None:
    image = head()
    found, brain = brain_mask(image.as_tensor()[0].numpy()), brain_of(image)
    assert (found & brain).sum() / brain.sum() > 0.5


@pytest.mark.parametrize(("strip", "used"), [(False, False), (True, True)])
def test_strip_decides_in_the_config(strip: bool, used: bool) -> None:
    found = components_of(ROOT, "inference.yaml", ["preprocessing", "model_card"], strip=strip)
    steps = [type(step).__name__ for step in found["preprocessing"].transforms]
    assert ("ExtractBraind" in steps) is used
    assert dict(found["model_card"]).get("strip", False) is used


def test_training_gets_the_brain_of_a_head_and_of_nothing_else(networks: None) -> None:
    normalized = NormalizeForegroundd("image")({"image": head()})
    found = FindBraind()(normalized)
    brain = brain_of(head())
    assert 2 * (found["brain"] & brain).sum() / (found["brain"].sum() + brain.sum()) > 0.9
    assert torch.equal(found["image"], normalized["image"])
    without = NormalizeForegroundd("image")({"image": head(skull=False)})
    picture = NormalizeForegroundd("image")({"image": head()[..., 8:9]})
    assert "brain" not in FindBraind()(without) and "brain" not in FindBraind()(picture)


def test_a_brain_that_is_not_found_is_named_by_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brain_extraction, "_networks", lambda: (lambda image: torch.zeros(1, 2, *image.shape[2:]),) * 2)
    with pytest.raises(ValueError, match=r"head\.nii\.gz: no brain is found"):
        FindBraind()(NormalizeForegroundd("image")({"image": head()}))


def test_slices_of_an_extracted_brain_equal_those_that_a_prediction_sees(networks: None) -> None:
    """Training cuts the brain out of normalized slices; a prediction cuts it out before it normalizes."""
    given = {"image": head()}
    served = NormalizeForegroundd("image")(ExtractBraind("image")(given))["image"].as_tensor()
    found = FindBraind()(NormalizeForegroundd("image")(given))
    arrays, meta = slices_of(found, min_brain_pixels=1500)
    transform = RandExtractBraind("image", prob=1.0)
    for position, index in list(enumerate(meta["slices"]))[3:-3]:  # those with a brain
        image = torch.from_numpy(arrays["image"][position]).float()
        item = {"image": image, "brain": torch.from_numpy(arrays["brain"][position])[None].float()}
        item |= {"brain_statistics": np.float32(meta["brain_statistics"])}
        item |= {"statistics": np.float32(meta["own_statistics"][position])}
        item |= {"foreground": tissue_of(image)[None].float(), "skull": True}
        out = transform(item)
        both = (out["image"] > TISSUE) & (served[..., index] > TISSUE)
        either = (out["image"] > TISSUE) | (served[..., index] > TISSUE)
        assert both.sum() > 0.9 * either.sum()
        assert (out["image"] - served[..., index])[both].abs().mean() < 0.15  # standard deviations
        left = RandExtractBraind("image", prob=0.0)(item)
        assert list_data_collate([out, left])["statistics"].shape == (2, 2, 1)  # a batch has both
        assert not out["skull"] and "brain" not in out and "brain_statistics" not in out
        assert torch.equal(out["foreground"] > 0.5, (out["image"] > TISSUE).any(dim=0, keepdim=True))
        assert abs(float(out["statistics"][0, 0]) - float(out["image"][out["image"] > TISSUE].mean())) < 1e-3
