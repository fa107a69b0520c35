from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.datasets.phantoms import write_images, write_volumes
from scripts.core.configs import components_of
from scripts.dataset.balance import balanced_weights
from scripts.dataset.sampling import BalancedSampler, BatchesInOrder, Sample, SliceDataset, SourceLoader
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.io.datalists import gather_cases
from scripts.transforms.preprocessing import BACKGROUND

ROOT = Path(__file__).resolve().parents[3]
Records = list[dict[str, Any]]
Identity = tuple[str, int]


def made_records() -> Records:
    """Patients with 1 to 4 tumor slices and 2 to 8 without, one with tumor alone; 2 sources of unbalanced images."""
    records: Records = []
    for n in range(4):
        classes = [1.0] * (n + 1) + ([] if n == 3 else [0.0] * (2 * n + 2) + [float("nan")])
        for index, cls in enumerate(classes):
            records.append({"kind": "volume", "source": "b", "group": f"p{n}", "case": f"b/p{n}", "index": index})
            records[-1] |= {"cls": cls, "has_mask": True}
    for source, cls, count in (("k", 1.0, 6), ("k", 0.0, 3), ("l", 1.0, 2), ("l", 0.0, 8)):
        for n in range(count):  # numbers 0 and 1 are near-duplicates
            record = {"kind": "image", "source": source, "group": f"{source}{cls}{max(n, 1)}", "index": 0}
            records.append({**record, "case": f"{source}/{cls}/{n}", "cls": cls, "has_mask": False})
    return records


def drawn(records: Records, kind: str = "volume", count: int = 40, epoch: int = 0, **more: Any) -> list[Identity]:
    """Which slices one epoch shows, in order."""
    chosen = [i for i, record in enumerate(records) if record["kind"] == kind]
    sampler = BalancedSampler(records, chosen, count, 0.65, **{"seed": 0, **more})
    sampler.epoch = epoch
    return [(str(records[draw.record]["case"]), int(records[draw.record]["index"])) for draw in sampler]


def shares(records: Records, kind: str, key: Callable[[dict[str, Any]], Any]) -> dict[Any, float]:
    """How much of the draws of a kind go to each value of a key."""
    chosen = [record for record in records if record["kind"] == kind]
    total: Counter[Any] = Counter()
    for record, weight in zip(chosen, balanced_weights(chosen, tumor_fraction=0.65), strict=True):
        total[key(record)] += weight
    return dict(total)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 3 volumes and 12 images."""
    folder = tmp_path_factory.mktemp("sampling")
    write_volumes(folder / "brats", 3, slices=10, side=128)
    write_images(folder / "kaggle", 12)
    transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(gather_cases(folder / "brats", folder / "kaggle"), transform, folder / "store", 1500, {})
    return folder / "store"


@pytest.fixture(scope="module")
def records(store: Path) -> Records:
    return SliceRecords([{"group": case["id"], **case} for case in SliceStore(store).cases()], min_tumor_pixels=50)


@pytest.fixture
def augmented(store: Path, records: Records) -> SliceDataset:
    """The training set with the augmentation of train.yaml."""
    data = {"dataset_dir": str(store), "train#dataset#data": records}
    transform = components_of(ROOT, "train.yaml", ["train#preprocessing"], **data)["train#preprocessing"]
    return SliceDataset(records, store, transform)


def loader(
    dataset: SliceDataset, order: str = "mixed", num_workers: int = 0, kinds: Sequence[str] = ()
) -> SourceLoader:
    return SourceLoader(
        dataset, kinds or ["volume", "image"], order, batch_size=4, samples_per_epoch=12, num_workers=num_workers
    )


def pixels(item: dict[str, Any]) -> torch.Tensor:
    return torch.as_tensor(item["image"])


def test_order_is_a_function_of_seed_and_epoch() -> None:
    records = made_records()
    assert drawn(records) == drawn(records)
    assert drawn(records, epoch=1) != drawn(records)
    assert drawn(records, seed=1) != drawn(records)


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(len(made_records()))), kind=st.sampled_from(["volume", "image"]))
def test_order_does_not_depend_on_the_order_of_records(order: list[int], kind: str) -> None:
    records = made_records()
    assert drawn([records[i] for i in order], kind) == drawn(records, kind)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_processes_share_one_order_between_them(world_size: int) -> None:
    records = made_records()
    ranks = [drawn(records, count=41, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {41 // world_size}
    together = [identity for step in zip(*ranks, strict=True) for identity in step]
    assert together == drawn(records, count=41 - 41 % world_size)


@pytest.mark.parametrize("order", ["mixed", "alternating"])
@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_an_epoch_can_be_resumed_at_any_batch(order: str, first: int, store: Path, records: Records) -> None:
    batches = loader(SliceDataset(records, store), order)
    batches.set_epoch(2)
    whole = [cases_of(batch) for batch in batches]
    batches.set_epoch(2, first)
    assert len(whole) == len(batches) and [cases_of(batch) for batch in batches] == whole[first:]
    batches.set_epoch(2)
    assert [cases_of(batch) for batch in batches] == whole


def cases_of(batch: Any) -> list[tuple[str, int]]:
    """Cases and slices of a batch."""
    parts = batch if isinstance(batch, list) else [batch]
    return [pair for part in parts for pair in zip(part["case"], part["index"].tolist(), strict=True)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_a_batch(
    world_size: int, store: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [cases_of(batch) for batch in loader(SliceDataset(records, store), kinds=["volume"])]
    shares: list[list[list[tuple[str, int]]]] = []
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: world_size)
    for rank in range(world_size):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        shares.append([cases_of(batch) for batch in loader(SliceDataset(records, store), kinds=["volume"])])
    together = [sorted(pair for part in parts for pair in part) for parts in zip(*shares, strict=True)]
    assert together == [sorted(batch) for batch in whole]
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch_size is 4, choose a multiple of the 3 processes"):
        loader(SliceDataset(records, store))


def test_every_sample_of_an_epoch_has_a_unique_number_over_all_processes() -> None:
    records = made_records()
    samplers = [BalancedSampler(records, range(9), 30, 0.65, seed=0, rank=rank, world_size=3) for rank in range(3)]
    assert [len(sampler) for sampler in samplers] == [10, 10, 10]
    assert sorted(draw.number for sampler in samplers for draw in sampler) == list(range(30))


def test_patients_are_sampled_equally_with_the_tumor_fraction() -> None:
    records = made_records()
    assert shares(records, "volume", lambda r: r["group"]) == pytest.approx({f"p{n}": 0.25 for n in range(4)})
    tumor = shares(records, "volume", lambda r: (r["group"], r["cls"] != 0.0))
    for n in range(3):
        assert tumor[f"p{n}", True] == pytest.approx(0.65 * 0.25)
    assert tumor["p3", True] == pytest.approx(0.25)  # has no other slices


def test_sources_of_volumes_are_sampled_by_the_square_root_of_their_patients() -> None:
    records = made_records()  # four patients of source b
    large = {"kind": "volume", "source": "large", "has_mask": True}
    records += [
        {**large, "group": f"large{n}", "case": f"large/{n}", "index": index, "cls": float(index)}
        for n in range(36)
        for index in range(2)
    ]
    by_source = shares(records, "volume", lambda r: r["source"])
    assert by_source == pytest.approx({"b": 2 / 8, "large": 6 / 8})
    by_patient = shares(records, "volume", lambda r: r["group"])
    assert by_patient["large0"] == pytest.approx(0.75 / 36)


def test_sources_classes_and_clusters_of_images_are_sampled_equally() -> None:
    records = made_records()
    by_class = shares(records, "image", lambda r: (r["source"], r["cls"]))
    assert by_class == pytest.approx({(source, cls): 0.25 for source in "kl" for cls in (0.0, 1.0)})
    by_cluster = shares(records, "image", lambda r: r["group"])
    assert by_cluster["k1.01"] == pytest.approx(by_cluster["k1.05"]) == pytest.approx(0.25 / 5)


def test_patients_without_a_tumor_are_sampled_with_their_fraction() -> None:
    records = made_records()
    free = {"kind": "volume", "source": "n", "cls": 0.0, "has_mask": True, "tumor_free": True}
    records += [
        {**free, "group": f"n{n}", "case": f"n/n{n}", "index": index} for n in range(2) for index in range(3 + n)
    ]
    by_patient = shares(records, "volume", lambda r: r["group"])
    assert by_patient["n0"] == pytest.approx(by_patient["n1"]) == pytest.approx(0.05)
    assert by_patient["p0"] == pytest.approx(0.9 / 4)


def test_slices_as_images_are_sampled_as_often_as_images_and_by_sequence_equally() -> None:
    records = made_records()
    one = {"kind": "image", "has_mask": False, "of_volume": True, "index": 0}
    records += [
        {
            **one,
            **{"source": f"{source}_{sequence}", "sequence": sequence, "group": f"{source}/p{n % 2}"},
            **{"case": f"{source}_{sequence}/{n}", "cls": float(n > 3)},
        }
        for source, sequence in (("b", "t1"), ("b", "t2"), ("b", "t1ce"), ("c", "t1"))
        for n in range(8)
    ]
    by_part = shares(records, "image", lambda r: r.get("sequence") or r["source"])
    assert by_part == pytest.approx({"k": 0.25, "l": 0.25, "t1": 1 / 6, "t2": 1 / 6, "t1ce": 1 / 6})
    by_patient = shares(records, "image", lambda r: r["group"] if r.get("sequence") == "t1" else "other")
    assert by_patient["b/p0"] == pytest.approx(by_patient["c/p1"]) == pytest.approx(1 / 24)


def test_weights_of_both_kinds_sum_to_one() -> None:
    assert balanced_weights(made_records(), 0.65).sum() == pytest.approx(1.0)


def test_samples_follow_the_weights() -> None:
    records = made_records()
    classes = {(record["case"], record["index"]): record["cls"] for record in records}
    volumes, images = drawn(records, count=6000), drawn(records, "image", count=6000)
    with_choice = [identity for identity in volumes if identity[0] != "b/p3"]
    assert np.mean([classes[identity] != 0.0 for identity in with_choice]) == pytest.approx(0.65, abs=0.03)
    assert Counter(case for case, _ in volumes)["b/p0"] / 6000 == pytest.approx(0.25, abs=0.03)
    assert np.mean([classes[identity] for identity in images]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([case.startswith("k/") for case, _ in images]) == pytest.approx(0.5, abs=0.03)


def test_item_without_transform_is_the_stored_slice(store: Path, records: Records) -> None:
    dataset = SliceDataset(records, store)
    assert len(dataset) == len(records)
    for index, record in enumerate(records):
        image, mask = SliceStore(store).read(record["case"], record["position"])
        item = dataset[index]
        np.testing.assert_array_equal(item["image"], image)
        np.testing.assert_array_equal(item["foreground"][0], (image[0] > BACKGROUND))
        np.testing.assert_equal(float(item["cls"]), record["cls"])
        assert ("mask" in item) == (mask is not None) == record["has_mask"]
        if mask is not None:
            np.testing.assert_array_equal(item["mask"], mask)
        assert (item["case"], item["source"]) == (record["case"], record["source"])


def test_augmentation_is_a_function_of_seed_epoch_and_draw(augmented: SliceDataset) -> None:
    index = len(augmented) - 1
    first = pixels(augmented[Sample(0, 0, index)])
    for draw in (Sample(1, 0, index), Sample(0, 1, index)):
        assert not torch.equal(pixels(augmented[draw]), first)
    assert torch.equal(pixels(augmented[Sample(0, 0, index)]), first)
    augmented.seed = 1
    assert not torch.equal(pixels(augmented[Sample(0, 0, index)]), first)


def test_pixels_do_not_depend_on_the_number_of_workers(augmented: SliceDataset) -> None:
    alone, shared = ([part for step in loader(augmented, num_workers=n) for part in step] for n in (0, 2))
    assert len(alone) == len(shared) == 6
    for one, other in zip(alone, shared, strict=True):
        assert one["case"] == other["case"]
        assert one.keys() == other.keys()
        for key in {"image", "mask", "cls"} & one.keys():
            np.testing.assert_array_equal(one[key], other[key])


def test_alternating_gives_volumes_and_images_in_turn(augmented: SliceDataset) -> None:
    batches = loader(augmented, "alternating")
    found = [
        (bool(torch.isfinite(batch["mask"]).all()), {case.split("/")[0] for case in batch["case"]}) for batch in batches
    ]
    assert found == [(True, {"brats"}), (False, {"kaggle"})] * 3
    assert len(batches) == 6


def test_mixed_gives_volumes_and_images_side_by_side(augmented: SliceDataset) -> None:
    batches = loader(augmented, "mixed")
    for step in batches:
        assert [{case.split("/")[0] for case in part["case"]} for part in step] == [{"brats"}, {"kaggle"}]
        assert [bool(torch.isfinite(part["mask"]).all()) for part in step] == [True, False]
        assert [len(part["cls"]) for part in step] == [4, 4]
    assert len(batches) == len(list(batches)) == 3


def test_with_one_kind_the_other_is_never_sampled(augmented: SliceDataset) -> None:
    for order in ("mixed", "alternating"):
        batches = list(loader(augmented, order, kinds=["volume"]))
        parts = [batch[0] if order == "mixed" else batch for batch in batches]
        assert len(parts) == 3 and all(torch.isfinite(part["mask"]).all() for part in parts)


def test_set_epoch_changes_the_samples(augmented: SliceDataset) -> None:
    batches = loader(augmented)

    def epoch(number: int) -> tuple[list[str], torch.Tensor]:
        batches.set_epoch(number)
        parts = [part for step in batches for part in step]
        return [case for part in parts for case in part["case"]], torch.cat([pixels(part) for part in parts])

    (cases, first), (other_cases, other), (again_cases, again) = epoch(0), epoch(1), epoch(0)
    assert cases == again_cases and torch.equal(first, again)
    assert cases != other_cases and not torch.equal(first, other)


def test_unknown_order_and_missing_kind_are_refused(store: Path, records: Records) -> None:
    with pytest.raises(ValueError, match="choose alternating or mixed"):
        loader(SliceDataset(records, store), "random")
    with pytest.raises(ValueError, match="no image to train on"):
        loader(SliceDataset([r for r in records if r["kind"] == "volume"], store))
    with pytest.raises(ValueError, match="an epoch of 3 slices is smaller than a batch of 4"):
        SourceLoader(SliceDataset(records, store), ["volume"], batch_size=4, samples_per_epoch=3)


@pytest.mark.parametrize("tumor_fraction", [0.0, 1.0])
def test_patients_without_slices_of_the_class_are_sampled_equally_often(tumor_fraction: float) -> None:
    volumes = [record for record in made_records() if record["kind"] == "volume"]
    weights = balanced_weights(volumes, tumor_fraction)
    by_patient = {n: sum(w for w, r in zip(weights, volumes, strict=True) if r["group"] == f"p{n}") for n in range(4)}
    assert list(by_patient.values()) == pytest.approx([0.25] * 4)


def test_volume_without_a_mask_does_not_stop_training(store: Path, records: Records, tmp_path: Path) -> None:
    cases = [{"group": case["id"], **case} for case in SliceStore(store).cases() if case["kind"] == "volume"]
    folder = tmp_path / "cases"
    for case in cases:
        (folder / case["id"]).mkdir(parents=True)
        for file in (store / "cases" / case["id"]).iterdir():
            if (case["id"], file.name) != ("brats/PHANTOM_001", "mask.npy"):
                (folder / case["id"] / file.name).symlink_to(file)
    (tmp_path / "store.json").symlink_to(store / "store.json")
    del cases[0]["tumor_pixels"]
    dataset = SliceDataset(SliceRecords(cases, 50), tmp_path)
    batches = SourceLoader(dataset, ["volume"], "alternating", batch_size=4, samples_per_epoch=40)
    for batch in batches:
        assert "mask" not in batch or len(batch["mask"]) == len(batch["image"])


@given(masks=st.lists(st.booleans(), max_size=50), batch_size=st.integers(1, 9))
def test_batches_in_order_cover_every_record_once_and_never_mix(masks: list[bool], batch_size: int) -> None:
    batches = list(BatchesInOrder([{"has_mask": has} for has in masks], batch_size))
    assert sorted(index for batch in batches for index in batch) == list(range(len(masks)))
    assert all(len({masks[index] for index in batch}) == 1 and len(batch) <= batch_size for batch in batches)
    assert all(batch == sorted(batch) for batch in batches)
    assert len(BatchesInOrder([{"has_mask": has} for has in masks], batch_size)) == len(batches)
