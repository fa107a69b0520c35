from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score
from torch.nn.functional import adaptive_avg_pool2d

from bundle.datasets.phantoms import write_images, write_volumes
from scripts.audit.baselines import forest, out_of_fold, probe
from scripts.audit.file_metadata import Pictures, metadata
from scripts.audit.picture_properties import file_properties, gray_levels
from scripts.audit.questions import Predictions, lesion_erased
from scripts.audit.shortcut_audit import PARTS, AuditCases, audit
from scripts.core.configs import components_of
from scripts.dataset.sampling import SliceDataset
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import build_store
from scripts.dataset.splits import load_split, write_split
from scripts.io.datalists import gather_cases
from scripts.networks.multitask_unet import multi_task_unet
from scripts.transforms.preprocessing import BACKGROUND, BRIGHTEST

ROOT = Path(__file__).resolve().parents[3]
RESAMPLES = 100
SIDE = 64
Report = dict[str, Any]
Predict = Callable[[np.ndarray], np.ndarray]


# Classifiers: callables from images (N, C, H, W) to probabilities (N,)


def one_by_one(score: Callable[[np.ndarray], float]) -> Predict:
    """A classifier from a score of one plane (H, W)."""
    return lambda images: np.array([score(image[0]) for image in images])


def head_of(plane: np.ndarray) -> np.ndarray:
    filled: np.ndarray = ndimage.binary_fill_holes(plane > -3.95)
    return filled


def lack_of_mirror_symmetry(plane: np.ndarray) -> float:
    """Follow the lesion: how much the middle of the head differs from its mirror image, best of a few axes."""
    small = ndimage.zoom(plane, 0.25, order=1)
    head = head_of(small)
    inside = ndimage.distance_transform_edt(head) > 0.3 * np.sqrt(head.sum() / np.pi)
    if not inside.any():
        return 0.0
    contrast = np.where(inside, small - np.median(small[inside]), 0.0)
    center, middle = np.array(ndimage.center_of_mass(head)), np.array(small.shape) / 2 - 0.5
    differences = []
    for angle in np.radians([-8, -4, 0, 4, 8]):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        upright, seen = (
            ndimage.affine_transform(values.astype(float), turn, center - turn @ middle, order=1)
            for values in (contrast, inside)
        )
        both = (seen > 0.5) & (seen[:, ::-1] > 0.5)
        differences.append(np.abs(ndimage.gaussian_filter((upright - upright[:, ::-1]) * both, 1.25)).max())
    return float(1 - np.exp(-min(differences)))


def lack_of_a_skull(plane: np.ndarray) -> float:
    """Follow the planted shortcut that preprocessing leaves to be seen: a dark outermost rim has no scalp."""
    head = head_of(plane)
    rim = head & (ndimage.distance_transform_edt(head) <= 4)
    return float(1 / (1 + np.exp(2 * plane[rim].mean()))) if rim.any() else 0.5


def a_guess(plane: np.ndarray) -> float:
    return float(np.random.default_rng(zlib.crc32(plane.tobytes())).random())


def size_of_the_head(plane: np.ndarray) -> float:
    return float(head_of(plane).mean())


def brightest_spot(plane: np.ndarray) -> float:
    return float(np.clip((ndimage.uniform_filter(plane, 5).max() - BACKGROUND) / (BRIGHTEST - BACKGROUND), 0, 1))


# Synthetic synthetic in a store


class PlantedShortcut:
    """Two stores of the same volumes, beside pictures without and with the planted shortcut; audits are kept."""

    def __init__(self, folder: Path) -> None:
        write_volumes(folder / "brats", 4, slices=9, side=128)
        transform = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
        self.data: dict[bool, tuple[SliceDataset, list[dict[str, Any]]]] = {}
        self.reports: dict[tuple[Any, ...], Report] = {}
        for shortcut in (False, True):
            place = folder / str(shortcut)
            write_images(place / "kaggle", 32, shortcut=shortcut)
            build_store(gather_cases(folder / "brats", place / "kaggle"), transform, place / "store", 1500, {})
            write_split(place / "store", place / "splits.json", 3, seed=0)
            subsets = load_split(place / "splits.json", place / "store")
            cases = [case for subset in subsets.values() for case in subset]
            self.data[shortcut] = SliceDataset(SliceRecords(cases, 50), place / "store"), cases

    def audit(self, score: Callable[[np.ndarray], float], shortcut: bool) -> Report:
        key = (score, shortcut)
        if key not in self.reports:
            self.reports[key] = audit(one_by_one(score), *self.data[shortcut], resamples=RESAMPLES)
        return self.reports[key]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> PlantedShortcut:
    return PlantedShortcut(tmp_path_factory.mktemp("audit"))


def test_a_shortcut_in_the_data_is_found_in_model_and_files(planted: PlantedShortcut) -> None:
    report = planted.audit(lack_of_a_skull, shortcut=True)
    assert report["within_source"]["values"]["sources"]["kaggle"]["auc"]["value"] > 0.9  # it looks good
    assert {"blanked", "style_swap", "metadata"} <= set(report["summary"])
    blanked = report["blanked"]["values"]["sources"]["kaggle"]
    assert blanked["rim"]["value"] > 0.9 and blanked["rim_excess"]["ci95"][0] > 0.05
    assert report["style_swap"]["values"]["sources"]["kaggle"]["stripped_skull"]["fall"]["value"] > 0.3
    assert report["metadata"]["values"]["sources"]["kaggle"]["metadata"]["value"] > 0.95


def test_without_the_shortcut_a_model_that_follows_the_lesion_passes(planted: PlantedShortcut) -> None:
    report = planted.audit(lack_of_mirror_symmetry, shortcut=False)
    for source in ("brats", "kaggle"):
        assert report["within_source"]["values"]["sources"][source]["auc"]["value"] > 0.85
    assert report["summary"] == []
    verdicts = {name: report[name]["verdict"] for name in ("blanked", "style_swap", "lesion_erased", "metadata")}
    assert set(verdicts.values()) == {"pass"}, verdicts


def test_file_properties_that_predict_the_label_are_a_data_problem(planted: PlantedShortcut) -> None:
    report = planted.audit(lack_of_mirror_symmetry, shortcut=True)
    assert report["summary"] == ["metadata"]
    found = report["metadata"]["values"]["sources"]["kaggle"]
    assert found["margin"]["value"] == pytest.approx(
        found["model"]["value"] - max(found["metadata"]["value"], found["histogram"]["value"])
    )


def test_a_random_classifier_has_no_shortcut(planted: PlantedShortcut) -> None:
    report = planted.audit(a_guess, shortcut=False)
    assert report["summary"] == [] and report["within_source"]["verdict"] == "note"


def test_report_has_nine_parts_with_questions_and_rules_and_is_plain_json(planted: PlantedShortcut) -> None:
    report = planted.audit(lack_of_mirror_symmetry, shortcut=False)
    assert len(PARTS) == 9 and set(report) == {*PARTS, "summary"}
    for name in PARTS:
        assert set(report[name]) == {"question", "rule", "verdict", "n", "values"}
        assert report[name]["question"].endswith("?") and len(report[name]["rule"]) > 30
        assert report[name]["verdict"] in {"pass", "shortcut", "note", "not applicable"}
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_an_audited_network_is_unchanged(
    planted: PlantedShortcut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, cases = planted.data[False]
    few = [record for record in dataset.data if record["kind"] == "image"][:6]
    few += [record for record in dataset.data if record["kind"] == "volume"][:6]
    network = multi_task_unet("cpu").train()
    component = AuditCases(SliceDataset(few, dataset.store.root), cases, network, tmp_path, trained_sources=["brats"])
    report = component.run()
    assert network.training  # as it came
    assert json.loads((tmp_path / "audit.json").read_text()) == report
    assert "Research use only" in report["notice"]
    assert report["leave_source_out"]["values"]["sources"].keys() == {"kaggle"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in PARTS)


@pytest.mark.parametrize("packed", [False, True])
def test_the_component_audits_the_networks_predictions(packed: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = multi_task_unet("cpu", packed=packed).eval()
    images = np.full((3, 1, SIDE, SIDE), BACKGROUND, np.float32)
    images[:, :, 9:40, 20:50] = np.random.default_rng(0).normal(size=(3, 1, 31, 30))
    component = AuditCases(Slices([]), [], network, tmp_path)  # type: ignore[arg-type]
    batch = torch.from_numpy(images)
    with torch.no_grad():
        prediction = network(batch)
        logits = prediction[:, 1, 0, 0] if packed else prediction["cls"][:, 0]
        bottleneck = network.encoder(batch)[-1]
        weight = adaptive_avg_pool2d(network.foreground(batch), bottleneck.shape[2:])
        pooled = (bottleneck * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))
    np.testing.assert_allclose(component.predict(images), torch.sigmoid(logits), rtol=1e-5)
    np.testing.assert_allclose(component.features(images), pooled, rtol=1e-4, atol=1e-5)


# Discs with bright lesions, without files


class Slices:
    """What `audit` asks of a `SliceDataset`, made of arrays."""

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        self.data = [item["record"] for item in items]
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value for key, value in self.items[index].items() if key != "record"}


def slice_of(
    number: int,
    cls: float,
    kind: str = "volume",
    source: str = "",
    radius: float = 22.0,
    groups: int = 8,
    corner: float = BACKGROUND,
    lesion: float = 4.0,
) -> dict[str, Any]:
    """A noisy disc, with a bright lesion if cls is 1; volumes have masks, every `groups` slices share a patient."""
    rng = np.random.default_rng((number, kind == "image"))
    rows, columns = np.ogrid[:SIDE, :SIDE]
    foreground = np.hypot(rows - SIDE / 2, columns - SIDE / 2) <= radius
    mask = np.hypot(rows - SIDE / 2 - rng.uniform(-8, 8), columns - SIDE / 2 - rng.uniform(-8, 8)) <= 5
    image = np.where(foreground, rng.normal(0, 0.3, (SIDE, SIDE)), BACKGROUND)
    if cls == 1:
        image[mask] = lesion
    image[:5, :5] = corner
    source = source or {"volume": "brats", "image": "kaggle"}[kind]
    record = {"case": f"{source}/{number:03d}", "index": 0, "source": source, "kind": kind, "cls": cls}
    record["group"] = f"{source}/{number % groups}" if kind == "volume" else f"cluster/{source}/{number}"
    item = {
        "record": record,
        "image": image[None].astype(np.float32),
        "foreground": foreground[None].astype(np.float32),
    }
    return item | ({"mask": (mask & (cls == 1))[None].astype(np.float32)} if kind == "volume" else {})


def slices(count: int = 40, **kwargs: Any) -> list[dict[str, Any]]:
    """Half of them with a lesion."""
    return [slice_of(number, float(number % 3 < 2), **kwargs) for number in range(count)]


def examine(
    items: Sequence[dict[str, Any]], score: Callable[[np.ndarray], float] = brightest_spot, **more: Any
) -> Report:
    return audit(one_by_one(score), Slices(items), [], resamples=RESAMPLES, **more)  # type: ignore[arg-type]


def test_a_mark_in_the_corner_is_found() -> None:
    items = [slice_of(n, float(n % 2), "image", corner=BRIGHTEST if n % 2 else BACKGROUND) for n in range(30)]
    report = examine(items, lambda plane: float(plane[2, 2] > 0))
    found = report["blanked"]["values"]["sources"]["kaggle"]
    assert report["summary"] == ["blanked"]
    assert (found["corners"]["value"], found["frame"]["value"]) == (1.0, 1.0)


def test_a_shortcut_correlated_negatively_is_found() -> None:
    items = [slice_of(n, float(n % 2), "image", corner=BRIGHTEST if n % 2 else BACKGROUND) for n in range(30)]
    report = examine(items, lambda plane: float(plane[2, 2] < 0))
    assert report["blanked"]["verdict"] == "shortcut"
    assert report["blanked"]["values"]["sources"]["kaggle"]["corners"]["value"] == 0.0


def test_brain_area_alone_is_not_a_shortcut_of_blanked_images() -> None:
    items = [slice_of(n, float(n % 2), radius=18 + 4 * (n % 2) + n % 3) for n in range(40)]
    report = examine(items, size_of_the_head)
    found = report["blanked"]["values"]["sources"]["brats"]
    assert found["area"]["value"] == found["filled"]["value"] > 0.9 and report["blanked"]["verdict"] == "pass"
    assert report["lesion_erased"]["verdict"] == "shortcut"


def test_erasing_the_lesion_is_compared_slice_by_slice() -> None:
    report = examine(slices())
    found = report["lesion_erased"]["values"]["sources"]["brats"]
    assert report["lesion_erased"]["verdict"] == "pass" and report["lesion_erased"]["n"] == found["n"] == 27
    assert found["share_that_falls"]["value"] == 1.0 and found["mean_fall"]["ci95"][0] > 0.2
    assert found["mean_fall"]["value"] == pytest.approx(found["before"]["value"] - found["after"]["value"])
    assert found["after"]["value"] == pytest.approx(found["mean_without_tumor"], abs=0.05)


@pytest.mark.parametrize(
    ("falls", "verdict"),
    [
        ([0.3, 0.4, 0.5, 0.6], "pass"),
        ([0.0, 0.0, 0.0, 0.0], "shortcut"),
        ([0.001, 0.002, 0.001, 0.002], "shortcut"),  # certain, but next to nothing
        ([-0.3, -0.2, -0.3, -0.4], "shortcut"),
        ([0.0, 0.0, 0.0, 0.6], "note"),  # cannot be told from so few
    ],
)
def test_a_decrease_is_tested_by_its_interval_over_patients(falls: list[float], verdict: str) -> None:
    positive = np.tile([True, False], 20)
    group = np.repeat([f"p{n}" for n in range(4)], 10)
    served = np.where(positive, 0.9, 0.2)
    fall = np.repeat(falls, 10)
    erased = np.where(positive, served - fall, np.nan)
    nothing = np.zeros(40)
    predictions = Predictions(
        positive,
        source=np.full(40, "brats"),
        group=group,
        image=np.zeros(40, dtype=bool),
        path=np.full(40, ""),
        area=nothing,
        gray=nothing[:, None],
        probability={"served": served, "erased": erased},
        features=None,
        seed=0,
        resamples=RESAMPLES,
    )
    assert lesion_erased(predictions)[1] == verdict
    blind = dataclasses.replace(predictions, probability={"served": np.full(40, 0.7), "erased": 0.7 + 0 * erased})
    assert lesion_erased(blind)[1] == "note"  # no skill, nothing to explain


def test_a_filled_brain_contains_no_trace_of_the_lesion() -> None:
    """The mean of a brain with a bright lesion is higher, which is no shortcut."""
    report = examine(slices(), lambda plane: float(np.clip(plane.mean(), BACKGROUND, 0) / -BACKGROUND + 1))
    assert report["within_source"]["values"]["sources"]["brats"]["auc"]["value"] == 1.0
    assert report["blanked"]["verdict"] == "pass"


def test_the_order_of_slices_does_not_matter() -> None:
    items = slices(12) + slices(12, kind="image")
    shuffled = [items[i] for i in np.random.default_rng(1).permutation(len(items))]
    features = one_by_one(lambda plane: float(plane.mean()))

    def columns(images: np.ndarray) -> np.ndarray:
        return np.stack([features(images), images.std(axis=(1, 2, 3))], axis=1)

    assert examine(items, features=columns) == examine(shuffled, features=columns)


def test_the_seed_changes_only_the_intervals() -> None:
    reports = [
        examine(slices(16), a_guess, seed=seed)["within_source"]["values"]["sources"]["brats"] for seed in (0, 1)
    ]
    assert reports[0]["auc"]["value"] == reports[1]["auc"]["value"]
    assert reports[0]["auc"]["ci95"] != reports[1]["auc"]["ci95"]


def test_source_probe_measures_what_the_source_predicts() -> None:
    items = [slice_of(n, float(n % 10 > 0)) for n in range(20)]
    items += [slice_of(n, float(n % 10 == 0), "image") for n in range(20)]
    report = examine(items, features=lambda images: (images == BACKGROUND).mean(axis=(1, 2, 3))[:, None])
    values = report["source_only"]["values"]
    assert values["prevalence"] == {"brats": 0.9, "kaggle": 0.1}
    assert values["source_only"]["value"] == pytest.approx(0.9) and report["source_only"]["verdict"] == "note"
    sources = report["source_probe"]["values"]["sources"]
    assert sources.keys() == {"brats", "kaggle"} and report["source_probe"]["verdict"] == "note"
    assert sources["brats"]["value"] < 0.7  # both kinds of disc have one size

    for item in items[20:]:
        item["image"][:, -1] = 0.0  # a line below every picture
    report = examine(items, features=lambda images: (images == BACKGROUND).mean(axis=(1, 2, 3))[:, None])
    assert report["source_probe"]["values"]["sources"]["kaggle"]["value"] == 1.0


def test_a_source_of_one_patient_is_left_out_of_the_probe_and_named() -> None:
    def sides(images: np.ndarray) -> np.ndarray:
        return (images == BACKGROUND).mean(axis=(1, 2, 3))[:, None]

    pictures = [slice_of(n, float(n % 2), "image") for n in range(20)]
    others = [slice_of(n, float(n % 2), "image", source="other") for n in range(20)]
    alone = [slice_of(n, float(n % 2), groups=1) for n in range(6)]
    without = examine(pictures + others, features=sides)["source_probe"]
    with_it = examine(pictures + others + alone, features=sides)["source_probe"]
    assert with_it["values"] == {**without["values"], "left_out": ["brats"]}
    assert with_it["verdict"] == "note" and with_it["n"] == without["n"] == 40
    lone = examine(pictures + alone, features=sides)["source_probe"]
    assert lone["verdict"] == "not applicable" and lone["values"]["left_out"] == ["brats"]


def test_sources_that_were_not_trained_on_are_measured_separately() -> None:
    items = slices(9) + slices(9, kind="image") + slices(12, kind="image", source="other")
    unknown = examine(items)["leave_source_out"]
    assert unknown["verdict"] == "not applicable" and unknown["n"] == 0
    part = examine(items, trained_sources=["brats", "kaggle"])["leave_source_out"]
    assert part["values"]["sources"].keys() == {"other"} and part["n"] == 12 and part["verdict"] == "pass"
    assert examine(items, trained_sources=["brats", "kaggle", "other"])["leave_source_out"]["n"] == 0


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"energy_ratio": 0.9, "center_energy_ratio": 0.5}, "shortcut"),
        ({"energy_ratio": 3.0, "center_energy_ratio": 1.5}, "note"),
        ({"energy_ratio": 3.0, "center_energy_ratio": 4.0}, "note"),
        ({"energy_ratio": None}, "not applicable"),
    ],
)
def test_cams_are_compared_with_baselines(found: dict[str, Any], verdict: str) -> None:
    explanation = {"sources": {"brats": {"with_mask": 9, **found}, "kaggle": {"with_mask": 0}}}
    assert examine(slices(6), explanation=explanation)["cam"]["verdict"] == verdict


def test_cams_pass_if_better_than_chance_center_and_random_weights() -> None:
    found = {"energy_ratio": 3.0, "center_energy_ratio": 1.5, "with_mask": 9}
    for trained, verdict in ((2.9, "pass"), (1.0, "note")):
        random = {"sample_energy_ratio": trained, "randomized_energy_ratio": 1.1}
        part = examine(slices(6), explanation={"sources": {"brats": found | random}})["cam"]
        assert (part["verdict"], part["n"]) == (verdict, 9)


@pytest.mark.parametrize(
    "items",
    [
        [slice_of(n, 1.0) for n in range(8)] + slices(20, kind="image"),
        [slice_of(n, 0.0, "image") for n in range(8)] + slices(24),
        slices(24),
        slices(24, kind="image"),
        [{key: value for key, value in item.items() if key != "mask"} for item in slices(24)],
        [slice_of(n, float("nan")) for n in range(4)],
        [slice_of(n, float(n % 2), groups=1) for n in range(8)],
        [slice_of(0, 1.0)],
        [],
    ],
    ids=[
        "no negatives",
        "no positives",
        "no images",
        "no volumes",
        "no masks",
        "no classes",
        "one patient",
        "one",
        "none",
    ],
)
def test_questions_without_data_have_a_defined_verdict(items: list[dict[str, Any]]) -> None:
    report = examine(items, a_guess, features=lambda images: images.mean(axis=(2, 3)))
    json.dumps(report, allow_nan=False)
    assert set(PARTS) <= report.keys() and report["summary"] == []
    for source, found in report["within_source"]["values"]["sources"].items():
        classes = {item["record"]["cls"] for item in items if item["record"]["source"] == source}
        assert (found["auc"]["value"] is None) == (len(classes) == 1)
    assert report["metadata"]["verdict"] == "not applicable"  # there are no files


def test_slices_without_a_class_are_ignored() -> None:
    items = slices(12)
    assert examine([*items, slice_of(90, float("nan"))]) == examine(items)


@pytest.mark.parametrize("prediction", [np.zeros(1), np.full(2, 1.5), np.full(2, np.nan), np.zeros((2, 1))])
def test_values_that_are_not_probabilities_are_refused(prediction: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must return 2 probabilities for 2 images"):
        audit(lambda images: prediction, Slices(slices(2)), [])  # type: ignore[arg-type]


def test_batches_have_at_most_the_given_size() -> None:
    sizes = []

    def predict(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        assert images.dtype == np.float32 and images.shape[1:] == (1, SIDE, SIDE)
        return np.full(len(images), 0.5)

    audit(predict, Slices(slices(10)), [], batch_size=4, resamples=10)  # type: ignore[arg-type]
    assert max(sizes) == 4


# Baselines


def test_file_properties_are_size_format_compression_and_border(tmp_path: Path) -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[[0, -1]] = plane[:, [0, -1]] = 200
    Image.fromarray(plane).save(tmp_path / "a.png")
    Image.fromarray(plane.T).save(tmp_path / "b.JPG", "JPEG")
    (tmp_path / "c.png").write_bytes(b"no picture")
    names = ["a.png", "b.JPG", "c.png", "gone.png"]
    properties, readable = file_properties([tmp_path / name for name in names])
    assert readable.tolist() == [True, True, False, False]
    size = (tmp_path / "a.png").stat().st_size
    assert properties[0].tolist() == [20, 40, 2.0, 1, size / 800, 200]
    assert properties[1, :4].tolist() == [40, 20, 0.5, 0]
    assert file_properties([])[0].shape == (0, 6)


@pytest.mark.parametrize("gone", ["tested", "training", "both"])
def test_baselines_need_training_and_test_files(tmp_path: Path, gone: str) -> None:
    rng, positive = np.random.default_rng(0), np.arange(12) % 2 == 0
    paths = {}
    for role in ("tested", "training"):
        names = [f"{role}_{number}.png" for number in range(12)]
        for name in names if gone not in (role, "both") else []:
            Image.fromarray(rng.integers(0, 256, (8, 9), np.uint8)).save(tmp_path / name)
        paths[role] = np.array([str(tmp_path / name) for name in names])
    source, group = np.full(12, "kaggle"), np.array([f"g{number}" for number in range(12)])
    columns = {"source": source, "group": group, "image": np.ones(12, bool), "area": np.ones(12)}
    columns |= {"probability": {"served": rng.random(12)}, "gray": rng.random((12, 32)), "features": None}
    predictions = Predictions(positive=positive, path=paths["tested"], seed=0, resamples=10, **columns)
    training = Pictures(positive, source, paths["training"], rng.random((12, 32)))
    values, verdict, n = metadata(predictions, training)
    assert (verdict == "not applicable") is (gone != "training") and n == (12 if gone == "training" else 0)
    assert "margin" not in values["sources"]["kaggle"], "there is nothing to compare the model with"
    assert values["sources"]["kaggle"]["unreadable"] == 12 - n


def test_a_source_whose_files_predict_the_label_is_named(tmp_path: Path) -> None:
    """The baselines learned from files that tell nothing; among the tested ones size alone tells all."""
    rng, positive = np.random.default_rng(0), np.arange(40) % 2 == 0
    paths = {}
    for role in ("tested", "training"):
        paths[role] = np.array([str(tmp_path / f"{role}_{number}.png") for number in range(40)])
        for path, tumor in zip(paths[role], positive, strict=True):
            side = 24 if role == "tested" and tumor else 12
            Image.fromarray(rng.integers(0, 256, (side, side), np.uint8)).save(path)
    columns = {"source": np.full(40, "web"), "group": np.array([f"g{number}" for number in range(40)])}
    columns |= {"image": np.ones(40, bool), "area": np.ones(40), "probability": {"served": rng.random(40)}}
    columns |= {"gray": rng.random((40, 32)), "features": None}
    predictions = Predictions(positive=positive, path=paths["tested"], seed=0, resamples=50, **columns)
    training = Pictures(rng.permutation(positive), np.full(40, "kaggle"), paths["training"], rng.random((40, 32)))
    values, verdict, _ = metadata(predictions, training)
    found = values["sources"]["web"]
    assert verdict == "shortcut" and found["files"]["value"] > 0.95
    assert found["margin"]["value"] == pytest.approx(
        found["model"]["value"] - max(found["metadata"]["value"], found["histogram"]["value"])
    )


def test_gray_level_histograms_are_shares_of_the_tissue() -> None:
    item = slice_of(1, 1.0)
    shares = gray_levels(item["image"])
    assert shares.shape == (32,) and shares.sum() == pytest.approx(1)
    assert shares[np.digitize(4.0, np.linspace(-3.9, 5, 33)) - 1] == pytest.approx(78 / 1513, rel=0.2)  # the lesion
    assert gray_levels(np.full((2, 8, 8), BACKGROUND)).tolist() == [0.0] * 64


def test_cross_validation_never_tests_a_group_in_its_own_training() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([f"patient {n}" for n in range(20)], 5)
    labels = np.repeat(rng.permutation([True, False] * 10), 5)
    identity = np.repeat(rng.normal(size=(20, 8)), 5, axis=0)  # tells the patient, and nothing of the label
    for model in (forest(0), probe(0)):
        scores = out_of_fold(model, identity, labels, groups, seed=0)
        assert scores is not None and scores.shape == (100, 2)
        assert roc_auc_score(labels, scores[:, 1]) < 0.8
        telling = np.concatenate([identity, labels[:, None]], axis=1)
        scores = out_of_fold(model, telling, labels, groups, seed=0)
        assert scores is not None and roc_auc_score(labels, scores[:, 1]) > 0.95


def test_cross_validation_needs_two_groups_of_each_class() -> None:
    inputs, groups = np.zeros((4, 1)), np.array(["a", "b", "c", "c"])
    assert out_of_fold(probe(0), inputs, np.array([0, 0, 1, 1]), groups, seed=0) is None
    assert out_of_fold(probe(0), inputs, np.zeros(4), groups, seed=0) is None
    assert out_of_fold(probe(0), inputs[:0], np.zeros(0), groups[:0], seed=0) is None
