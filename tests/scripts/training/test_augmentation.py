from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from bundle.datasets.phantoms import write_images, write_volumes
from scripts.core.configs import components_of
from scripts.dataset.sampling import Sample, SliceDataset
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.io.datalists import gather_cases
from scripts.training.augmentation import KeepBackgroundd, RandFakeSkulld, RandInvertContrastd, RandOwnStatisticsd
from scripts.transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST

ROOT = Path(__file__).resolve().parents[3]
DRAWS = 40


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> SliceDataset:
    """Slices of 2 volumes and 6 images as they are stored."""
    folder = tmp_path_factory.mktemp("augmentation")
    write_volumes(folder / "brats", 2, slices=10, side=128)
    write_images(folder / "kaggle", 6)
    transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(gather_cases(folder / "brats", folder / "kaggle"), transform, folder / "store", 1500, {})
    cases = [{"group": case["id"], **case} for case in SliceStore(folder / "store").cases()]
    return SliceDataset(SliceRecords(cases, 50), folder / "store")


def configured(slices: SliceDataset, **overrides: Any) -> Compose:
    """The augmentation of train.yaml, with these slices as donors of lesions."""
    data = {"dataset_dir": str(slices.store.root), "train#dataset#data": slices.data}
    made: Compose = components_of(ROOT, "train.yaml", ["train#preprocessing"], **data, **overrides)[
        "train#preprocessing"
    ]
    return made


def draws(slices: SliceDataset, transform: Compose) -> list[dict[str, Any]]:
    """Augmented items, every slice in turn."""
    dataset = SliceDataset(slices.data, slices.store.root, transform)
    return [dataset[Sample(0, number, number % len(dataset))] for number in range(DRAWS)]


def tissue_of(item: dict[str, Any]) -> torch.Tensor:
    return torch.as_tensor(item["image"])[item["foreground"].expand_as(item["image"]) > 0]


def test_background_is_restored_exactly_and_tissue_stays_in_its_range() -> None:
    image = torch.tensor([[[-9.0, -4.0, 0.0, 9.0], [-9.0, -4.0, 0.0, 9.0]]])
    foreground = torch.tensor([[[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]])
    prediction = KeepBackgroundd("image")({"image": image, "foreground": foreground})
    assert set(prediction) == {"image"}
    expected = [[[BACKGROUND] * 4, [DARKEST, DARKEST, 0.0, BRIGHTEST]]]
    assert torch.equal(prediction["image"], torch.tensor(expected))


def test_own_statistics_give_the_tissue_mean_zero_and_deviation_one(slices: SliceDataset) -> None:
    transform = RandOwnStatisticsd("image", prob=1.0)
    before = [float(tissue_of(item).mean()) for item in slices]
    assert max(map(abs, before)) > 0.05  # a slice of a volume has other statistics than the volume
    for item in slices:
        tissue = tissue_of(transform(item))
        assert float(tissue.mean()) == pytest.approx(0.0, abs=1e-4)
        assert float(tissue.std()) == pytest.approx(1.0, abs=1e-4)


def test_own_statistics_are_those_of_each_channel() -> None:
    image = torch.stack([torch.full((4, 4), 3.0), torch.full((4, 4), 5.0)])
    item = {"image": image, "statistics": np.array([[1.0, 2.0], [2.0, 0.5]], dtype=np.float32)}
    prediction = RandOwnStatisticsd("image", prob=1.0)(item)["image"]
    assert torch.equal(prediction, torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 6.0)]))


def test_contrast_is_inverted_only_where_there_is_no_mask() -> None:
    image = torch.arange(4.0).reshape(1, 2, 2)
    transform = RandInvertContrastd("image", prob=1.0)
    assert torch.equal(transform({"image": image})["image"], -image)
    assert torch.equal(transform({"image": image, "mask": image})["image"], image)


@pytest.mark.parametrize("transform", [RandOwnStatisticsd, RandInvertContrastd])
def test_random_transforms_do_nothing_at_probability_zero_and_follow_their_seed(transform: Any) -> None:
    item = {"image": torch.ones(1, 2, 2), "statistics": np.array([[3.0], [2.0]], dtype=np.float32)}
    assert torch.equal(transform("image", prob=0.0)(item)["image"], item["image"])

    def sequence(seed: int) -> list[bool]:
        made = transform("image", prob=0.5)
        made.set_random_state(seed=seed)
        return [torch.equal(made(item)["image"], item["image"]) for _ in range(30)]

    assert sequence(1) == sequence(1) != sequence(2)
    assert 5 < sum(sequence(1)) < 25


def test_augmented_slices_keep_shape_range_and_background(slices: SliceDataset) -> None:
    for item in draws(slices, configured(slices)):
        image = torch.as_tensor(item["image"])
        assert image.shape == (1, 192, 192) and image.dtype == torch.float32
        assert torch.isfinite(image).all() and image.max() <= BRIGHTEST
        assert ((image == BACKGROUND) | (image >= DARKEST)).all()
        assert 0.02 < float((image > BACKGROUND).float().mean()) < 1.0
        assert "foreground" not in item


def test_augmented_masks_stay_binary_and_on_tissue(slices: SliceDataset) -> None:
    masks = [
        (item["mask"], item["image"])
        for item in draws(slices, configured(slices))
        if torch.isfinite(item["mask"]).all()
    ]
    assert len(masks) > 10 and any(mask.any() for mask, _ in masks)
    for mask, image in masks:
        assert mask.shape == (1, 192, 192) and set(np.unique(mask)) <= {0.0, 1.0}
        assert float((image[mask > 0] > BACKGROUND).float().mean()) > 0.97 if mask.any() else True


def test_augmentation_does_not_change_the_labels(slices: SliceDataset) -> None:
    for number, item in enumerate(draws(slices, configured(slices))):
        before = slices[number % len(slices)]
        np.testing.assert_equal(float(item["cls"]), float(before["cls"]))
        assert (item["case"], item["source"], item["index"]) == (before["case"], before["source"], before["index"])
        assert bool(torch.isfinite(item["mask"]).all()) == ("mask" in before)


@pytest.mark.parametrize("style", [False, True])
def test_image_and_mask_move_together(slices: SliceDataset, style: bool) -> None:
    mask = torch.zeros(1, 256, 256)
    mask[:, 90:140, 100:170] = 1.0
    tissue = torch.zeros(1, 256, 256)
    tissue[:, 50:206, 60:196] = 1.0
    image = torch.where(mask > 0, 4.0, torch.where(tissue > 0, -1.0, BACKGROUND))
    transform, overlaps, places = configured(slices, style_augmentation=style, lesion_cores=0.0), [], set()
    for seed in range(DRAWS):
        transform.set_random_state(seed=seed)
        item = {"image": image, "mask": mask, "foreground": tissue, "statistics": np.array([[0.0], [1.0]], np.float32)}
        prediction = transform(item)
        bright, moved = torch.as_tensor(prediction["image"]) > 1.5, torch.as_tensor(prediction["mask"]) > 0
        overlaps.append(float(2 * (bright & moved).sum() / (bright.sum() + moved.sum())))
        places.add(tuple(torch.nonzero(moved[0]).float().mean(0).round().tolist()))
    assert min(overlaps) > 0.9 if not style else np.mean(overlaps) > 0.9
    assert len(places) > DRAWS / 2  # it did move


def test_style_augmentation_can_be_switched_off(slices: SliceDataset) -> None:
    names = [
        [type(step).__name__ for step in configured(slices, style_augmentation=on).transforms] for on in (False, True)
    ]
    assert "RandGaussianNoised" in names[1] and "RandGaussianNoised" not in names[0]
    assert names[0][-1] == names[1][-1] == "KeepBackgroundd"
    assert set(names[0]) < set(names[1])


def test_train_size_is_the_side_of_the_crop(slices: SliceDataset) -> None:
    assert draws(slices, configured(slices, train_size=128))[0]["image"].shape == (1, 128, 128)


def test_a_skull_goes_around_a_brain_without_one_and_changes_no_mask(slices: SliceDataset) -> None:
    transform = RandFakeSkulld("image", prob=1.0)
    transform.set_random_state(seed=0)
    for item in (
        {**slices[Sample(0, n, n)], "skull": "brats" not in slices.data[n]["case"]} for n in range(len(slices))
    ):
        skulled = transform(item)
        before, after = (torch.as_tensor(found["foreground"]) > 0 for found in (item, skulled))
        if item["skull"]:
            assert skulled["image"] is item["image"] and torch.equal(before, after)
            continue
        assert torch.equal(torch.as_tensor(skulled["mask"]), torch.as_tensor(item["mask"]))
        assert after.sum() > before.sum() and bool((after | ~before).all())
        head = torch.as_tensor(skulled["image"])[after.expand_as(torch.as_tensor(skulled["image"]))]
        assert abs(float(head.mean())) < 0.05 and abs(float(head.std()) - 1) < 0.1  # as a picture with a skull would be
