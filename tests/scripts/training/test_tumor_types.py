"""Training on types of tumors: from folders and sources to records, items, batches, network and loss."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.datasets.typed_phantoms import write_typed_images
from scripts.core.configs import components_of
from scripts.dataset.balance import balanced_weights
from scripts.dataset.resident_slices import ResidentLoader
from scripts.dataset.sampling import SliceDataset, SourceLoader
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.dataset.splits import load_split, write_split
from scripts.io.datalists import Cases, gather_cases
from scripts.networks.cam import predict_with_cam
from scripts.networks.multitask_unet import POOLING, ClassificationHead, MultiTaskUNet, multi_task_unet
from scripts.networks.weights import load_weights, save_weights
from scripts.training.lesion_augmentation import RandPasteLesiond
from scripts.training.losses import MultiTaskLoss
from scripts.training.prepare_batch import PrepareMultiTaskBatch

ROOT = Path(__file__).resolve().parents[3]
TYPES = ["glioma", "meningioma", "pituitary"]
TYPED, UNTYPED, VOLUMES = "kaggle", "yesno", "brats"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("types")
    write_typed_images(place / TYPED, 24)
    write_images(place / UNTYPED, 12)
    write_volumes(place / VOLUMES, 3, slices=10, side=128)
    return place


def gathered(folder: Path, **settings: Any) -> Cases:
    images = [str(folder / TYPED), str(folder / UNTYPED)]
    return gather_cases(str(folder / VOLUMES), images, four_classes=True, **settings)


def built(cases: Cases, root: Path) -> SliceStore:
    transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(cases, transform, root, 1500, {"modalities": ["flair"], "regions": ["wt"]})
    return SliceStore(root)


@pytest.fixture(scope="module")
def store(folder: Path) -> SliceStore:
    made = built(gathered(folder), folder / "store")
    write_split(made.root, made.root / "splits.json", 3, 0)
    return made


def records_of(store: SliceStore, types: list[str] = TYPES) -> SliceRecords:
    return SliceRecords([{"group": case["id"], **case} for case in store.cases()], 50, tumor_types=types)


def test_folders_tell_types_and_the_other_sources_none(folder: Path) -> None:
    cases = gathered(folder)
    told = Counter((case["source"], case.get("class_name")) for case in cases)
    assert told == {
        **{(TYPED, name): 6 for name in (*TYPES, "notumor")},
        (UNTYPED, None): 12,
        (VOLUMES, None): 3,
    }
    assert {case["cls"] for case in cases if case.get("class_name") == "notumor"} == {0}


def test_the_user_tells_the_type_of_a_source_of_volumes(folder: Path) -> None:
    cases = gathered(folder, volume_types=[f"{VOLUMES}=glioma"])
    assert {case.get("class_name") for case in cases if case["source"] == VOLUMES} == {"glioma"}
    for told, reason in (("kaggle=glioma", "no source of volumes .brats"), (f"{VOLUMES}=cyst", "not SOURCE=TYPE")):
        with pytest.raises(ValueError, match=reason):
            gathered(folder, volume_types=[told])


def test_a_stored_case_follows_what_the_user_says_of_its_type(folder: Path, tmp_path: Path) -> None:
    file = "cases/brats/PHANTOM_001/image.npy"
    for told in ([f"{VOLUMES}=glioma"], None):
        cases = gathered(folder, volume_types=told)
        store = built(Cases(case for case in cases if case["source"] == VOLUMES), tmp_path / "store")
        written = (store.root / file).stat().st_mtime_ns
        assert store.case("brats/PHANTOM_001").get("class_name") == ("glioma" if told else None)
    assert (store.root / file).stat().st_mtime_ns == written


def test_records_have_a_type_where_the_tumor_is_seen_and_the_data_tell_it(store: SliceStore, folder: Path) -> None:
    records = records_of(store)
    of_images = Counter(record["tumor_type"] for record in records if record["source"] == TYPED)
    assert of_images == {0: 6, 1: 6, 2: 6, -1: 6}
    assert {record["tumor_type"] for record in records if record["source"] != TYPED} == {-1}
    two = Counter(record["tumor_type"] for record in records_of(store, ["pituitary", "glioma"]))
    assert (two[0], two[1]) == (6, 6) and two[-1] == len(records) - 12
    assert all("tumor_type" not in record for record in records_of(store, []))
    told = [{"group": "g", **case, "class_name": "meningioma"} for case in store.cases() if case["source"] == VOLUMES]
    for record in SliceRecords(told, 50, tumor_types=TYPES):
        assert record["tumor_type"] == (1 if record["cls"] == 1.0 else -1)


def test_types_are_drawn_equally_and_without_them_nothing_changes(store: SliceStore) -> None:
    records = [record for record in records_of(store) if record["source"] == TYPED]
    rare = [record for record in records if record["tumor_type"] == 1][:2]
    kept = [record for record in records if record["tumor_type"] != 1] + rare
    shares: Counter[int] = Counter()
    for record, weight in zip(kept, balanced_weights(kept, 0.65), strict=True):
        shares[record["tumor_type"]] += weight
    assert [shares[number] for number in (0, 1, 2, -1)] == pytest.approx([1 / 6] * 3 + [1 / 2])
    plain = [{name: value for name, value in record.items() if name != "tumor_type"} for record in kept]
    untold = [{**record, "tumor_type": -1} for record in kept]
    assert np.array_equal(balanced_weights(plain, 0.65), balanced_weights(untold, 0.65))


def test_a_batch_has_the_types_of_its_slices(store: SliceStore) -> None:
    data = SliceDataset(records_of(store), store.root)
    loader = SourceLoader(data, ["volume", "image"], "mixed", batch_size=4, samples_per_epoch=8)
    for batch in loader:
        _, targets, _, _ = PrepareMultiTaskBatch()(batch)
        known = {record["case"]: record["tumor_type"] for record in data.data if record["kind"] == "image"}
        assert targets["tumor_type"].dtype == torch.int64
        assert targets["tumor_type"].tolist() == [known.get(case, -1) for case in targets["case"]]
    plain = SourceLoader(SliceDataset(records_of(store, []), store.root), ["image"], batch_size=4, samples_per_epoch=4)
    assert "tumor_type" not in PrepareMultiTaskBatch()(next(iter(plain)))[1]


def test_resident_slices_have_the_same_types(store: SliceStore) -> None:
    data = SliceDataset(records_of(store), store.root)
    settings = {"kinds": ["image"], "batch_size": 4, "samples_per_epoch": 8}
    resident = ResidentLoader(data, lambda batch, seed: batch, **settings)
    for held, read in zip(resident, SourceLoader(data, **settings), strict=True):
        assert torch.equal(held["tumor_type"], read["tumor_type"]) and held["case"] == read["case"]


def test_a_pasted_lesion_makes_the_type_unknown(store: SliceStore) -> None:
    data = SliceDataset(records_of(store), store.root)
    typed = next(n for n, record in enumerate(data.data) if record["tumor_type"] == 2)
    pasted = RandPasteLesiond("image", data, 50, prob=1.0).set_random_state(0)({**data[typed]})
    assert data[typed]["tumor_type"] == 2 and pasted["tumor_type"] == -1


def test_a_type_that_no_training_case_tells_is_named(store: SliceStore, caplog: pytest.LogCaptureFixture) -> None:
    training = load_split(store.root / "splits.json", store.root, 0)["train"]
    with caplog.at_level(logging.WARNING):
        SliceRecords([case for case in training if case["source"] != TYPED], 50, tumor_types=TYPES)
        assert "no training case tells the tumor type glioma" in caplog.text
        caplog.clear()
        SliceRecords(training, 50, tumor_types=TYPES)
        assert not caplog.text
    for types, reason in (
        (["cyst", "glioma"], "'cyst' is no tumor type"),
        (["glioma"], "the only"),
        (TYPES * 2, "twice"),
    ):
        with pytest.raises(ValueError, match=reason):
            SliceRecords(training, 50, tumor_types=types)


def head(channels: int = 1, side: int = 64) -> torch.Tensor:
    image = torch.full((2, channels, side, side), -4.0)
    image[:, :, 8:-8, 8:-8] = torch.randn(2, channels, side - 16, side - 16, generator=torch.Generator().manual_seed(3))
    return image


@pytest.mark.parametrize("pooling", POOLING)
def test_the_network_has_an_output_for_each_type_beside_the_tumor(pooling: str) -> None:
    network = multi_task_unet(pooling=pooling, tumor_types=3)
    packed = multi_task_unet(pooling=pooling, tumor_types=3, packed=True).eval()
    packed.load_state_dict(network.state_dict())
    image = head()
    with torch.no_grad():
        found, apart = packed(image), network.eval()(image)
        alone, scripted = network(image, do_seg=False), torch.jit.script(network)(image)
    assert apart["cls"].shape == (2, 1) and apart["types"].shape == (2, 3)
    assert torch.equal(found[:, 1:, 5, 5], torch.cat([apart["cls"], apart["types"]], dim=1))
    assert alone.keys() == apart.keys() - {"seg"} and apart["cls"].isfinite().all()
    for name in apart:
        assert torch.equal(scripted[name], apart[name])
    assert (pooling != "patches") or apart["patches"].shape == (2, 1, 2, 2)
    cam = predict_with_cam(network, image)
    assert torch.allclose(cam["cls"], apart["cls"], atol=1e-6) and cam["cam"].shape == image.shape


@pytest.mark.parametrize("pooling", POOLING)
def test_without_types_the_network_is_as_before_and_types_change_no_tumor_logit(pooling: str) -> None:
    torch.manual_seed(0)
    plain = multi_task_unet(pooling=pooling).eval()
    typed = multi_task_unet(pooling=pooling, tumor_types=3).eval()
    state = typed.state_dict()
    for name, tensor in plain.state_dict().items():
        state[name] = tensor if state[name].shape == tensor.shape else torch.cat([tensor, state[name][1:]])
    typed.load_state_dict(state)
    with torch.no_grad():
        before, after = plain(head()), typed(head())
    assert "types" not in before and torch.allclose(before["cls"], after["cls"], atol=1e-6)
    assert [name for name in state if state[name].shape != plain.state_dict()[name].shape] == [
        "head.mlp.4.weight",
        "head.mlp.4.bias",
    ]


def test_the_types_of_a_slice_are_those_of_the_patches_with_the_tumor() -> None:
    head = ClassificationHead(4, (), 0.0, "patches", types=2)
    patches = torch.tensor([[20.0, -20.0], [0.7, 5.0], [-0.3, 9.0]]).reshape(1, 3, 1, 2)
    foreground = torch.ones(1, 1, 8, 16)
    assert head.pool(patches, foreground)[0, 1:].tolist() == pytest.approx([0.7, -0.3])
    level = patches.clone()
    level[:, 0] = 3.0
    assert head.pool(level, foreground)[0, 1:].tolist() == pytest.approx([2.85, 4.35]), "the mean of equal patches"
    foreground[..., 8:] = 0.0
    assert head.pool(level, foreground)[0, 1:].tolist() == pytest.approx([0.7, -0.3]), "none of the background"
    assert head.pool(level, torch.zeros_like(foreground)).isfinite().all()


def loss_of(**settings: Any) -> MultiTaskLoss:
    made: MultiTaskLoss = components_of(ROOT, "train.yaml", ["loss"], device=torch.device("cpu"), **settings)["loss"]
    return made


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_the_loss_of_types_is_the_cross_entropy_of_the_known_ones(weight: float) -> None:
    logits = torch.tensor([[math.log(3.0), 0.0, 0.0], [9.0, 9.0, 9.0], [0.0, 0.0, 0.0]], requires_grad=True)
    found = loss_of(cls_weight=weight)({"types": logits}, {"tumor_type": torch.tensor([0, -1, 2])})
    assert float(found) == pytest.approx(weight * (math.log(5 / 3) + math.log(3.0)) / 2, rel=1e-6)
    found.backward()
    assert logits.grad is not None and not logits.grad[1].any() and logits.grad[[0, 2]].any(dim=1).all()


@pytest.mark.parametrize("target", [{"tumor_type": torch.tensor([-1, -1])}, {}])
def test_without_a_known_type_the_loss_is_zero(target: dict[str, Any]) -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    found = loss_of()({"types": logits}, target)
    found.backward()
    assert float(found) == 0.0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("source", [TYPED, UNTYPED, VOLUMES])
def test_a_batch_of_any_source_trains_without_nan(store: SliceStore, source: str) -> None:
    records = records_of(store)
    data = SliceDataset([record for record in records if record["source"] == source], store.root)
    items = [data[number] for number in range(4)]
    names = ("image", "cls", "tumor_type", *(["mask"] if "mask" in items[0] else []))
    batch: dict[str, Any] = {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in names}
    batch |= {key: [item[key] for item in items] for key in ("case", "source", "kind")}
    images, targets, _, flags = PrepareMultiTaskBatch()(batch)
    network = multi_task_unet(tumor_types=3)
    value = loss_of()(network(images, **flags), targets)
    value.backward()
    assert math.isfinite(float(value))
    last = network.head.mlp[-1].weight.grad
    assert last is not None and bool(torch.isfinite(last).all()) and bool(last[1:].any()) is (source == TYPED)


def test_weights_without_types_do_not_fit_and_are_refused(tmp_path: Path) -> None:
    save_weights(multi_task_unet(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"2 of another shape, such as head\.mlp\.4\.bias"):
        load_weights(multi_task_unet(tumor_types=3), tmp_path / "model.pt")
    typed = multi_task_unet(tumor_types=3)
    save_weights(typed, tmp_path / "typed.pt")
    loaded = load_weights(multi_task_unet(tumor_types=3), tmp_path / "typed.pt")
    assert isinstance(loaded, MultiTaskUNet) and torch.equal(loaded.head.mlp[-1].bias, typed.head.mlp[-1].bias)
