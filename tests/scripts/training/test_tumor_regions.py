"""Training on BraTS's three regions: from masks to stored slices, items, batches and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bundle.datasets.phantoms import write_volumes
from scripts.core.configs import components_of
from scripts.core.files import read_json
from scripts.dataset.sampling import SliceDataset
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.dataset.splits import load_split, write_split
from scripts.io.datalists import gather_cases
from scripts.networks.multitask_unet import multi_task_unet
from scripts.training.lesion_augmentation import RandLesionCored, RandPasteLesiond
from scripts.training.losses import MultiTaskLoss
from scripts.training.metrics import CaseDice
from scripts.training.prepare_batch import PrepareMultiTaskBatch

ROOT = Path(__file__).resolve().parents[3]
SEQUENCES, REGIONS = ["flair", "t1", "t1ce", "t2"], ["wt", "tc", "et"]
COMPLETE, BINARY, PART = (f"brats/PHANTOM_00{number}" for number in (1, 2, 3))


def built(folder: Path, regions: list[str]) -> SliceStore:
    """A store of a case with all codes and sequences, one whose mask has one code, and one without a T2."""
    read = {"modalities": SEQUENCES, "regions": regions}
    transform = components_of(ROOT, "preprocess.yaml", ["transform"], **read)["transform"]
    build_store(
        gather_cases(folder / "brats", None, modalities=SEQUENCES), transform, folder / "-".join(regions), 1500, read
    )
    return SliceStore(folder / "-".join(regions))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("regions")
    write_volumes(place / "brats", 3, slices=10, side=128, modalities=SEQUENCES)
    mask: Any = nib.load(file := place / "brats/PHANTOM_002/PHANTOM_002_seg.nii.gz")
    nib.save(nib.Nifti1Image((np.asarray(mask.dataobj) > 0).astype(np.uint8), mask.affine), file)
    (place / "brats/PHANTOM_003/PHANTOM_003_t2.nii.gz").unlink()
    return place


@pytest.fixture(scope="module")
def store(folder: Path) -> SliceStore:
    return built(folder, REGIONS)


def dataset(store: SliceStore, transform: Callable[[Any], Any] | None = None) -> SliceDataset:
    cases = [{"group": case["id"], **case} for case in store.cases()]
    return SliceDataset(SliceRecords(cases, 50), store.root, transform)


def tumor_items(data: SliceDataset) -> dict[str, dict[str, Any]]:
    """The item with the largest tumor of each case."""
    largest: dict[str, dict[str, Any]] = {}
    for item in (data[number] for number in range(len(data))):
        if item["mask"][0].sum() > largest.get(item["case"], {"mask": torch.zeros(1)})["mask"][0].sum():
            largest[item["case"]] = item
    return largest


def test_the_whole_tumor_is_stored_as_without_regions(store: SliceStore, folder: Path) -> None:
    alone = built(folder, ["wt"])
    for case in (COMPLETE, BINARY, PART):
        own, other = (np.load(one.folder(case) / "mask.npy") for one in (store, alone))
        assert other.ndim == 3 and np.array_equal(other, own if own.ndim == 3 else own[:, 0])
        assert np.array_equal(store.case(case)["tumor_pixels"], alone.case(case)["tumor_pixels"])
        assert np.array_equal(*(np.load(one.folder(case) / "image.npy") for one in (store, alone)))


def test_regions_lie_within_each_other_and_one_code_is_the_whole_tumor(store: SliceStore) -> None:
    whole, core, enhancing = np.moveaxis(np.load(store.folder(COMPLETE) / "mask.npy"), 1, 0)
    assert whole.sum() > core.sum() > enhancing.sum() > 0
    assert not (core & ~whole).any() and not (enhancing & ~core).any()
    assert np.load(store.folder(BINARY) / "mask.npy").ndim == 3
    image, mask = store.read(COMPLETE, 4)
    assert mask is not None and mask.shape == (3, *image.shape[1:]) and mask.dtype == np.uint8


@pytest.mark.parametrize("augmented", [False, True])
def test_a_case_without_a_sequence_or_with_one_code_teaches_the_whole_tumor_alone(
    store: SliceStore, augmented: bool
) -> None:
    settings = {"modalities": SEQUENCES, "regions": REGIONS, "dataset_dir": str(store.root), "dropped_modalities": 0.0}
    plain = dataset(store)
    transform = None
    if augmented:
        settings |= {"train#dataset#data": plain.data}
        transform = components_of(ROOT, "train.yaml", ["train#preprocessing"], **settings)["train#preprocessing"]
    items = tumor_items(dataset(store, transform))
    known = {case: torch.isfinite(item["mask"]).flatten(1).all(dim=1).tolist() for case, item in items.items()}
    assert known == {COMPLETE: [True] * 3, BINARY: [True, False, False], PART: [True, False, False]}
    assert {item["cls"].item() for item in items.values()} == {1.0}


def test_a_slice_whose_sequence_is_dropped_teaches_the_whole_tumor_alone(store: SliceStore) -> None:
    settings = {"modalities": SEQUENCES, "dataset_dir": str(store.root), "dropped_modalities": 1.0, "regions": REGIONS}
    settings |= {"train#dataset#data": dataset(store).data}
    transform = components_of(ROOT, "train.yaml", ["train#preprocessing"], **settings)["train#preprocessing"]
    for item in tumor_items(dataset(store, transform)).values():
        assert torch.isfinite(item["mask"][0]).all() and torch.isnan(item["mask"][1:]).all()


def test_synthetic_lesions_have_no_known_regions(store: SliceStore) -> None:
    data = dataset(store)
    number = max(range(len(data)), key=lambda n: float(data[n]["mask"][2].nan_to_num().sum()))
    item = data[number]
    pasted = RandPasteLesiond("image", data, 50, prob=1.0).set_random_state(0)({**item})
    assert pasted["mask"].shape[0] == 1 and bool((pasted["mask"] >= item["mask"][:1]).all())
    cored = RandLesionCored("image", prob=1.0).set_random_state(0)({**item})
    assert torch.equal(cored["mask"], item["mask"]) and torch.equal(cored["image"], item["image"])


def test_a_store_of_other_regions_is_refused(store: SliceStore) -> None:
    write_split(store.root, store.root / "splits.json", 1, 0)
    assert len(load_split(store.root / "splits.json", store.root, modalities=SEQUENCES, regions=REGIONS)["test"]) == 3
    with pytest.raises(ValueError, match=r"holds the regions \['wt', 'tc', 'et'\], \['wt'\] are asked for"):
        load_split(store.root / "splits.json", store.root, regions=["wt"])
    assert read_json(store.root / "store.json", "")["settings"]["regions"] == REGIONS


def loss_of() -> MultiTaskLoss:
    made: MultiTaskLoss = components_of(ROOT, "train.yaml", ["loss"], device=torch.device("cpu"))["loss"]
    return made


def test_the_network_has_a_mask_for_each_region() -> None:
    network = multi_task_unet(in_channels=4, mask_channels=3)
    image = torch.randn(2, 4, 64, 64)
    assert network.train()(image)["seg"].shape == (2, 3, 3, 64, 64), "rows, levels, regions"
    assert network.eval()(image)["seg"].shape == (2, 3, 64, 64)
    packed = multi_task_unet(in_channels=4, mask_channels=3, packed=True).eval()
    packed.load_state_dict(network.state_dict())
    with torch.no_grad():
        found, apart = packed(image), network(image)
    assert torch.equal(found[:, :3], apart["seg"]) and torch.equal(found[:, 3, 0, 0], apart["cls"][:, 0])


def test_the_loss_is_the_mean_over_regions_of_those_slices_that_know_them() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 3, 16, 16, generator=generator)[:, :1].squeeze(1).requires_grad_()  # (3, 3, 16, 16)
    mask = (torch.rand(3, 3, 16, 16, generator=generator) > 0.6).float()
    mask[0, 1:], mask[1, 2] = math.nan, math.nan
    loss = loss_of()
    found = loss({"seg": logits}, {"mask": mask})
    apart = [
        loss({"seg": logits[rows, n : n + 1]}, {"mask": mask[rows, n : n + 1]})
        for n, rows in enumerate(([0, 1, 2], [1, 2], [2]))
    ]
    assert float(found) == pytest.approx(float(sum(apart)) / 3, rel=1e-6)
    found.backward()
    assert logits.grad is not None
    assert (logits.grad.flatten(2).abs().sum(dim=2) > 0).tolist() == [
        [True, False, False],
        [True, True, False],
        [True] * 3,
    ]


def test_masks_of_the_whole_tumor_alone_have_its_loss() -> None:
    logits, mask = torch.randn(2, 3, 8, 8), torch.full((2, 3, 8, 8), math.nan)
    mask[:, 0] = (torch.rand(2, 8, 8) > 0.5).float()
    loss = loss_of()
    assert torch.equal(loss({"seg": logits}, {"mask": mask}), loss({"seg": logits[:, :1]}, {"mask": mask[:, :1]}))


def test_a_batch_of_known_and_unknown_regions_trains(store: SliceStore) -> None:
    items = list(tumor_items(dataset(store)).values())
    batch: dict[str, Any] = {
        key: torch.stack([torch.as_tensor(item[key]) for item in items]) for key in ("image", "mask", "cls")
    }
    batch |= {key: [item[key] for item in items] for key in ("case", "source", "kind")}
    images, targets, _, flags = PrepareMultiTaskBatch()(batch)
    assert targets["mask_rows"].tolist() == [True] * 3 and flags["seg_rows"] is None
    network = multi_task_unet(in_channels=4, mask_channels=3)
    value = loss_of()(network(images, **flags), targets)
    value.backward()
    assert math.isfinite(float(value))
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None)


def test_validation_is_the_mean_over_regions_of_volumes_that_have_them() -> None:
    """By hand: whole tumor 1 of two volumes; core 2/3 of one, unknown of the other; no enhancing tumor."""
    mask = torch.zeros(2, 3, 1, 4)
    mask[:, 0, :, :2], mask[0, 1, :, :1], mask[1, 1:] = 1.0, 1.0, math.nan
    logits = torch.full((2, 3, 1, 4), -1.0)
    logits[:, :2, :, :2] = 1.0
    metric = CaseDice()
    metric.update(({"seg": logits}, {"mask": mask, "case": ["a", "b"], "kind": ["volume"] * 2}))
    assert metric.compute() == pytest.approx((1.0 + 2 / 3) / 2)
