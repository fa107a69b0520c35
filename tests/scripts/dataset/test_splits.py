from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from bundle.datasets.phantoms import write_images, write_volumes
from scripts.core.configs import components_of
from scripts.dataset.near_duplicates import near_duplicates, same_picture
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.dataset.splits import (
    assert_disjoint,
    data_fingerprint,
    load_split,
    make_split,
    write_split,
)
from scripts.io.datalists import Case, gather_cases

ROOT = Path(__file__).resolve().parents[3]
FOLDS = 5


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 4 volumes and 20 images, of which numbers 5 and 10 show the same head in another file."""
    folder = tmp_path_factory.mktemp("splits")
    write_volumes(folder / "brats", 4, slices=10, side=128)
    write_images(folder / "kaggle", 20, seed=1)
    transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(gather_cases(folder / "brats", folder / "kaggle"), transform, folder / "store", 1500, {})
    return folder / "store"


@pytest.fixture(scope="module")
def split_file(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("split") / "splits.json"
    write_split(store, path, FOLDS, seed=0)
    return path


@pytest.fixture(scope="module")
def pictures(store: Path) -> list[Image.Image]:
    """The first eight pictures, all of different heads."""
    cases = [case for case in SliceStore(store).cases() if re.search(r"_Y?[1-4]( no)?\.", case["id"])]
    assert len(cases) == 8
    return [Image.open(case["image"]).convert("L") for case in cases]


def volume(patient: str, visit: int = 0, tumor_pixels: Sequence[int] = (0, 90)) -> Case:
    name = f"brats/{patient}-{visit}"
    case = {"id": name, "source": "brats", "kind": "volume", "group": f"brats/{patient}", "sha256": {"image": name}}
    return {**case, "tumor_pixels": list(tumor_pixels)}


def image(name: str, cls: int, source: str = "k") -> Case:
    identity = f"{source}/{'yes' if cls else 'no'}/{name}"
    return {"id": identity, "source": source, "kind": "image", "cls": cls, "sha256": {"image": identity}}


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (80, 80)).astype(np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(5))


def example() -> tuple[list[Case], list[Image.Image | None]]:
    """Seven patients, some with two visits, and 24 images of two sources and classes; every sixth is a double."""
    cases = [volume(f"p{n}", visit) for n in range(7) for visit in range(1 + n % 2)]
    images = [image(f"{n}", n % 2, "k" if n < 16 else "l") for n in range(24)]
    views = [picture(n - 2 if n % 6 == 5 and n > 1 else n) for n in range(24)]
    return cases + images, [None] * len(cases) + views


def shown_otherwise(picture: Image.Image, scale: float, quality: int) -> Image.Image:
    size = (round(picture.width * scale), round(picture.height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("L")


def same_partition(first: Sequence[str], second: Sequence[str]) -> bool:
    return len(set(zip(first, second, strict=True))) == len(set(first)) == len(set(second))


def folds_of(split: dict[str, Any], key: str) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for entry in split["cases"].values():
        found.setdefault(entry[key], set()).add(entry["fold"])
    return found


def test_slices_of_a_volume_are_in_its_fold_despite_near_duplicates() -> None:
    cases, pictures = example()
    slices = [
        {"id": f"brats_t1/p{n}-0/{k}", "source": "brats_t1", "kind": "image", "cls": k % 2, "group": f"brats/p{n}"}
        | {"sha256": {"image": f"{n}/{k}"}}
        for n in range(7)
        for k in range(3)
    ]
    split = make_split(cases + slices, pictures + [None] * len(slices), FOLDS, 0)
    assert split["cases"].items() >= make_split(cases, pictures, FOLDS, 0)["cases"].items()
    for entry in (split["cases"][case["id"]] for case in slices):
        assert entry["fold"] in folds_of(split, "group")[entry["group"]] and "phash" not in entry
    assert all(len(folds) == 1 for folds in folds_of(split, "group").values())


@pytest.mark.parametrize("seed", range(5))
def test_patients_without_a_tumor_are_spread_over_the_folds(seed: int) -> None:
    patients = [volume(f"p{n}") for n in range(25)] + [volume(f"healthy{n}", tumor_pixels=(0, 0)) for n in range(4)]
    folds = make_split(patients, [None] * len(patients), FOLDS, seed)["cases"]
    assert len({entry["fold"] for name, entry in folds.items() if "healthy" in name}) == 4


@pytest.mark.parametrize("seed", range(5))
def test_patients_and_near_duplicates_stay_in_one_fold(seed: int) -> None:
    split = make_split(*example(), FOLDS, seed)
    groups = folds_of(split, "group")
    assert all(len(folds) == 1 for folds in groups.values())
    assert max(Counter(entry["group"] for entry in split["cases"].values()).values()) > 1
    assert {group for group in groups if group.startswith("brats/")} == {f"brats/p{n}" for n in range(7)}


def test_same_head_at_another_size_and_quality_is_one_cluster(store: Path, split_file: Path) -> None:
    entries = json.loads(split_file.read_text())["cases"]
    groups = {re.sub(r"\..*", "", name): entry["group"] for name, entry in entries.items() if "kaggle" in name}
    assert groups["kaggle/yes/PHANTOM_Y5"] == groups["kaggle/yes/PHANTOM_Y10"]
    assert groups["kaggle/no/PHANTOM_5 no"] == groups["kaggle/no/PHANTOM_10 no"]
    assert len(set(groups.values())) == 18


def test_same_head_with_a_cropped_margin_is_one_cluster(pictures: list[Image.Image], tmp_path: Path) -> None:
    for number, shown in enumerate(pictures):
        cut = shown.crop((round(0.04 * shown.width), round(0.02 * shown.height), *shown.size))
        for name, view in (("whole", shown), ("cut", cut)):
            path = tmp_path / "kaggle" / ("no" if number % 2 else "yes") / f"{number} {name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            view.save(path)
    transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(gather_cases(None, tmp_path / "kaggle"), transform, tmp_path / "store", 1500, {})
    entries = write_split(tmp_path / "store", tmp_path / "splits.json", FOLDS, seed=0)["cases"]
    groups = {name.split("/")[-1].removesuffix(".png"): entry["group"] for name, entry in entries.items()}
    assert [groups[f"{n} cut"] for n in range(8)] == [groups[f"{n} whole"] for n in range(8)]
    assert len(set(groups.values())) == 8


@settings(deadline=None, max_examples=20)
@given(scale=st.floats(0.5, 1.5), quality=st.integers(40, 95), index=st.integers(0, 7))
def test_near_duplicates_finds_the_copy_and_nothing_else(
    pictures: list[Image.Image], scale: float, quality: int, index: int
) -> None:
    clusters = near_duplicates([*pictures, shown_otherwise(pictures[index], scale, quality)])
    assert clusters[-1] == clusters[index] and len(set(clusters)) == len(pictures)


def test_hashes_up_to_two_bits_apart_are_the_same_picture() -> None:
    assert same_picture("8000000000000001", "8000000000000001")
    assert same_picture("8000000000000001", "0000000000000000")
    assert not same_picture("8000000000000001", "0000000000000002")


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(9)))
def test_clusters_do_not_depend_on_the_order_of_pictures(pictures: list[Image.Image], order: list[int]) -> None:
    shown = [*pictures, shown_otherwise(pictures[0], 0.7, 60)]
    expected = near_duplicates(shown)
    assert near_duplicates([shown[i] for i in order]) == [expected[i] for i in order]


def test_a_chain_of_similar_pictures_is_one_cluster() -> None:
    first, last = (np.asarray(picture(n), dtype=np.float64) for n in (1, 2))
    mixtures = [Image.fromarray(((1 - w) * first + w * last).astype(np.uint8)) for w in np.linspace(0, 1, 20)]
    assert len(set(near_duplicates([mixtures[0], mixtures[-1]]))) == 2
    assert len(set(near_duplicates(mixtures))) == 1


def test_constant_pictures_and_empty_lists_are_clustered() -> None:
    assert near_duplicates([]) == []
    blank = Image.new("L", (40, 40), 7)
    alone, first, second = near_duplicates([picture(1), blank, blank.resize((60, 60))])
    assert first == second != alone


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(order=st.permutations(range(len(example()[0]))))
def test_split_does_not_depend_on_the_order_of_cases(order: list[int]) -> None:
    cases, views = example()
    shuffled = make_split([cases[i] for i in order], [views[i] for i in order], FOLDS, seed=3)
    assert shuffled == make_split(cases, views, FOLDS, seed=3)


def test_split_is_a_function_of_the_seed() -> None:
    splits = [make_split(*example(), FOLDS, seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert {name: e["fold"] for name, e in splits[0]["cases"].items()} != {
        name: e["fold"] for name, e in splits[2]["cases"].items()
    }


def test_every_subset_of_every_fold_has_volumes_and_both_classes_of_images(store: Path, split_file: Path) -> None:
    patients = len({case["group"] for case in SliceStore(store).cases() if case["kind"] == "volume"})
    for fold in range(FOLDS):
        subsets = load_split(split_file, store, fold)
        assert set(subsets) == {"train", "val", "test"}
        for name, cases in subsets.items():
            tests_images_alone = name == "test" and fold >= patients
            assert {case.get("cls") for case in cases} == ({0, 1} if tests_images_alone else {None, 0, 1})


def test_sources_that_are_not_trained_on_are_only_tested(store: Path, split_file: Path) -> None:
    subsets = load_split(split_file, store, 0, sources=["brats"])
    assert {case["source"] for case in subsets["train"] + subsets["val"]} == {"brats"}
    assert {case["source"] for case in subsets["test"]} == {"brats", "kaggle"}
    with pytest.raises(ValueError, match="holds no source elsewhere"):
        load_split(split_file, store, 0, sources=["elsewhere"])


def test_sources_and_classes_are_spread_over_all_folds() -> None:
    cases = [image(f"{n}", n % 2, source) for n in range(20) for source in ("k", "l")]
    split = make_split(cases, [picture(n) for n in range(40)], FOLDS, seed=0)
    for source in ("k", "l"):
        for label in ("yes", "no"):
            found = [e["fold"] for name, e in split["cases"].items() if name.startswith(f"{source}/{label}/")]
            assert Counter(found) == dict.fromkeys(range(FOLDS), 2)


def test_every_case_is_tested_once_and_validates_once(store: Path, split_file: Path) -> None:
    everything = {case["id"] for case in SliceStore(store).cases()}
    seen: dict[str, Counter[str]] = {"test": Counter(), "val": Counter()}
    for fold in range(FOLDS):
        subsets = load_split(split_file, store, fold)
        assert Counter(case["id"] for cases in subsets.values() for case in cases) == Counter(everything)
        for name, counter in seen.items():
            counter.update(case["id"] for case in subsets[name] if case["kind"] == "image")
    images = [name for name in everything if name.startswith("kaggle/")]
    assert seen["test"] == seen["val"] == Counter(images)


def test_more_folds_than_patients_leave_one_patient_out() -> None:
    cases = [volume(f"p{n}", visit) for n in range(6) for visit in range(1 + n % 2)]
    folds = folds_of(make_split(cases, [None] * len(cases), folds=100, seed=0), "group")
    assert sorted(fold for (fold,) in folds.values()) == list(range(6))


def test_leaving_one_patient_out_works_when_only_some_have_tumor_free_slices() -> None:
    cases = [volume(f"p{n}", tumor_pixels=(0, 90) if n % 2 else (80, 90)) for n in range(6)]
    folds = folds_of(make_split(cases, [None] * len(cases), folds=100, seed=0), "group")
    assert sorted(fold for (fold,) in folds.values()) == list(range(6))


def test_leaving_one_patient_out_works_with_images_beside_the_volumes() -> None:
    cases, views = example()
    split = make_split(cases, views, folds=100, seed=0)
    folds = {name: group for name, group in folds_of(split, "group").items() if name.startswith("brats/")}
    assert sorted(fold for (fold,) in folds.values()) == list(range(7))


def test_images_may_have_fewer_folds_and_are_tested_once() -> None:
    cases, views = example()
    split = make_split(cases, views, folds=100, seed=0, image_folds=3)
    assert {entry["fold"] for name, entry in split["cases"].items() if not name.startswith("brats/")} == {0, 1, 2}
    assert {entry["fold"] for name, entry in split["cases"].items() if name.startswith("brats/")} == set(range(7))


def test_too_few_folds_or_patients_are_refused() -> None:
    cases, views = example()
    with pytest.raises(ValueError, match="at least 3"):
        make_split(cases, views, folds=2, seed=0)
    with pytest.raises(ValueError, match=r"2 separate volumes .* at least 3"):
        make_split([volume("a", 0), volume("a", 1), volume("b")], [None] * 3, folds=3, seed=0)
    with pytest.raises(ValueError, match=r"1 separate images .* at least 3"):
        make_split([image(str(n), n % 2) for n in range(4)], [picture(0)] * 4, folds=3, seed=0)


def test_only_volumes_or_only_images_can_be_split() -> None:
    cases, views = example()
    for kind in ("volume", "image"):
        chosen = [i for i, case in enumerate(cases) if case["kind"] == kind]
        split = make_split([cases[i] for i in chosen], [views[i] for i in chosen], FOLDS, seed=0)
        assert {entry["fold"] for entry in split["cases"].values()} == set(range(FOLDS))


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(5)))
def test_data_fingerprint_depends_on_content_and_names_only(order: list[int]) -> None:
    cases = [image(str(n), n % 2) for n in range(5)]
    expected = data_fingerprint(cases)
    assert data_fingerprint([{**cases[i], "image": f"/elsewhere/{i}"} for i in order]) == expected
    assert data_fingerprint(cases[1:]) != expected
    assert data_fingerprint([*cases[1:], {**cases[0], "sha256": {"image": "other"}}]) != expected
    assert data_fingerprint([*cases[1:], {**cases[0], "id": "k/no/other"}]) != expected


def test_split_of_the_same_data_is_kept(store: Path, split_file: Path) -> None:
    before = split_file.read_bytes()
    assert write_split(store, split_file, FOLDS, seed=0) == json.loads(before)
    assert split_file.read_bytes() == before


@pytest.mark.parametrize("asked", [{"folds": 1}, {"seed": 1}, {"image_folds": FOLDS + 1}])
def test_a_split_with_other_settings_is_refused_and_kept(store: Path, split_file: Path, asked: dict[str, int]) -> None:
    before = split_file.read_bytes()
    with pytest.raises(ValueError, match=f"made with folds {FOLDS}.*remove it, or choose another folder"):
        write_split(store, split_file, **{"folds": FOLDS, "seed": 0, **asked})
    assert split_file.read_bytes() == before


def test_split_of_other_data_is_refused_and_kept(store: Path, split_file: Path, tmp_path: Path) -> None:
    other = json.loads(split_file.read_text()) | {"data_fingerprint": "other"}
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(other))
    with pytest.raises(ValueError, match="made for other data"):
        write_split(store, path, FOLDS, seed=0)
    with pytest.raises(ValueError, match="made for other data"):
        load_split(path, store)
    assert json.loads(path.read_text()) == other


def test_without_a_fold_every_case_trains(store: Path, split_file: Path) -> None:
    subsets = load_split(split_file, store, fold=None)
    assert len(subsets["train"]) == len(json.loads(split_file.read_text())["cases"])
    assert subsets["val"] == subsets["test"] == []


def test_a_missing_fold_is_refused(store: Path, split_file: Path, tmp_path: Path) -> None:
    """More folds than patients leave one out; those beyond would test nothing."""
    split = json.loads(split_file.read_text())
    made = 1 + max(entry["fold"] for entry in split["cases"].values())
    (tmp_path / "splits.json").write_text(json.dumps({**split, "folds": 100}))
    with pytest.raises(ValueError, match=rf"fold is {made}, \S+ has folds 0 to {made - 1}"):
        load_split(tmp_path / "splits.json", store, made)


def test_a_missing_split_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no split here"):
        load_split(tmp_path / "absent.json", store)


def test_tampered_split_that_shares_a_patient_is_refused(store: Path, split_file: Path, tmp_path: Path) -> None:
    split = json.loads(split_file.read_text())
    first, second = (split["cases"][f"brats/PHANTOM_00{number}"] for number in (1, 2))
    second["group"] = first["group"]
    (tmp_path / "splits.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match="share their group"):
        load_split(tmp_path / "splits.json", store, fold=first["fold"])


@pytest.mark.parametrize("shared", ["id", "group", "content", "image hash"])
@pytest.mark.parametrize("others", [("train", "val"), ("train", "test"), ("val", "test")])
def test_sets_that_share_anything_are_refused(shared: str, others: tuple[str, str]) -> None:
    def case(name: str, copy: bool) -> Case:
        value = {key: "same" if copy and key == shared else name for key in ("id", "group", "content", "image hash")}
        identity = {"id": value["id"], "group": value["group"], "phash": value["image hash"]}
        return {**identity, "sha256": {"image": value["content"]}}

    subsets = {name: [case(f"{name}1", name in others), case(f"{name}2", False)] for name in ("train", "val", "test")}
    with pytest.raises(ValueError, match=f"{others[1]}.*{others[0]}.* share their {shared} same"):
        assert_disjoint(subsets)


def test_sets_that_share_nothing_pass_and_may_repeat_within_themselves() -> None:
    first = {"id": "a", "group": "g", "sha256": {"image": "x"}, "phash": None}
    second = {"id": "b", "group": "h", "sha256": {"image": "y"}, "phash": None}
    assert_disjoint({"train": [first, {**first, "id": "c"}], "val": [second], "test": []})


def test_one_volume_under_two_names_is_one_patient() -> None:
    cases = [volume(f"p{n}") for n in range(6)]
    cases[5]["sha256"] = cases[1]["sha256"]
    entries = make_split(cases, [None] * len(cases), folds=3, seed=0)["cases"]
    assert entries[cases[5]["id"]]["group"] == entries[cases[1]["id"]]["group"]
    assert entries[cases[5]["id"]]["fold"] == entries[cases[1]["id"]]["fold"]
