"""Where the classifier looks: the map is HiResCAM of the very prediction, and its checks find what they should."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy import ndimage
from torch import Tensor, nn

import scripts.audit.cam_evaluation
from scripts.audit.cam_evaluation import ExplainCases, cam_scores, randomized, sanity
from scripts.audit.cam_figures import draw_cams
from scripts.audit.cam_metrics import Look, energy_ratio, rank_correlation, worst_first
from scripts.core.documents import SCHEMA_VERSION
from scripts.core.files import write_json
from scripts.core.messages import NOTICE
from scripts.dataset.sampling import SliceDataset
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore
from scripts.inference.decision import Calibration, Decision
from scripts.networks.cam import predict_with_cam
from scripts.networks.multitask_unet import MultiTaskUNet, multi_task_unet
from scripts.networks.weights import load_weights
from scripts.transforms.preprocessing import BACKGROUND

SMALL: dict[str, Any] = {"channels": (8, 16, 32), "stem": 1, "hidden": (16,)}  # bottleneck: a quarter of the side


def head_images(batch: int, side: int, seed: int, channels: int = 1) -> Tensor:
    """Ellipses of smooth random tissue, each of its own place and size, background around."""
    rng = np.random.default_rng(seed)
    rows, columns = np.ogrid[:side, :side]
    images = np.full((batch, channels, side, side), BACKGROUND, dtype=np.float32)
    for image in images:
        center, radius = side / 2 + rng.uniform(-0.1, 0.1, 2) * side, rng.uniform(0.25, 0.38, 2) * side
        inside = ((rows - center[0]) / radius[0]) ** 2 + ((columns - center[1]) / radius[1]) ** 2 < 1
        for plane in image:
            tissue = ndimage.gaussian_filter(rng.standard_normal((side, side)), side / 20)
            plane[inside] = np.clip(tissue / tissue.std(), -3.9, 5.0)[inside]
    return torch.from_numpy(images)


def made_network(seed: int = 0, **options: Any) -> MultiTaskUNet:
    """A network with statistics and biases as training leaves them, which shows maps for most images."""
    torch.manual_seed(seed)
    network = multi_task_unet(**{"name": "cpu", **SMALL, **options})
    network.train()
    for step in range(3):
        network(head_images(4, 64, 100 * seed + step, options.get("in_channels", 1)))
    return network.eval()


class ClassesOnly(nn.Module):
    """The network as a plain classifier, as other packages expect it."""

    def __init__(self, network: MultiTaskUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image, do_seg=False)["cls"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("options", "side"), [(SMALL, 64), ({"channels": (16, 32, 64, 128, 256), "stem": 2}, 128)])
def test_cam_equals_hires_cam_of_another_package(options: dict[str, Any], side: int, seed: int) -> None:
    network = made_network(seed, **options)
    images = head_images(6, side, seed)
    compared = 0
    for _ in range(2):  # the class and its opposite, so that every image has a map of one of them
        network.head.mlp[-1].weight.data.neg_()
        ours = predict_with_cam(network, images)["cam"][:, 0].numpy()
        with HiResCAM(ClassesOnly(network), [network.encoder.levels[-1]]) as reference_cam:
            theirs = reference_cam(images, targets=[ClassifierOutputTarget(0)] * len(images))
        for own, reference in zip(ours, theirs, strict=True):
            if own.max() == 0:
                assert reference.max() == 0
            else:  # they subtract the minimum, and add 1e-7 before they divide
                assert np.corrcoef(own.ravel(), reference.ravel())[0, 1] > 0.999
                np.testing.assert_allclose((own - own.min()) / np.ptp(own), reference, atol=5e-3)
                compared += 1
    assert compared >= len(images)


def test_with_global_average_pooling_the_cam_is_grad_cam() -> None:
    network = made_network(2)
    images = torch.randn(6, 1, 64, 64, generator=torch.Generator().manual_seed(2)).clamp(-3.0, 3.0)
    ours = predict_with_cam(network, images)["cam"][:, 0].numpy()
    with GradCAM(ClassesOnly(network), [network.encoder.levels[-1]]) as reference_cam:
        theirs = reference_cam(images, targets=[ClassifierOutputTarget(0)] * len(images))
    mapped = [pair for pair in zip(ours, theirs, strict=True) if pair[0].max() > 0]
    assert mapped and all(np.corrcoef(own.ravel(), other.ravel())[0, 1] > 0.999 for own, other in mapped)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("options", [{}, {"in_channels": 4}, {"norm": "instance"}, {"hidden": ()}])
def test_predicts_what_the_network_predicts(packed: bool, options: dict[str, Any]) -> None:
    network = made_network(packed=packed, **options)
    image = head_images(3, 64, 1, options.get("in_channels", 1))
    prediction = predict_with_cam(network, image)
    with torch.no_grad():
        plain = network(image)
    seg, cls = (plain[:, :1], plain[:, 1:, 0, 0]) if packed else (plain["seg"], plain["cls"])
    assert torch.equal(prediction["seg"], seg) and torch.equal(prediction["cls"], cls)
    cam = prediction["cam"]
    assert cam.shape == (3, 1, 64, 64) and cam.dtype == torch.float32
    assert not any(value.requires_grad for value in prediction.values())
    highest = cam.amax(dim=(1, 2, 3))
    assert cam.min() >= 0 and torch.all((highest == 0) | (highest == 1))


def test_cam_and_prediction_take_one_forward_pass() -> None:
    network, image = made_network(), head_images(2, 64, 0)
    counts = {name: 0 for name in ("encoder", "decoder", "head")}
    seen = []

    def count(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            counts[name] += 1
            seen.append(inputs[0])

        return hook

    for name in counts:
        network.get_submodule(name).register_forward_pre_hook(count(name))
    predict_with_cam(network, image)
    assert counts == {"encoder": 1, "decoder": 1, "head": 1}
    assert seen[0] is image


def test_only_the_head_is_differentiated() -> None:
    network, image = made_network(), head_images(2, 64, 0)
    recorded = {}
    for name in ("encoder", "decoder", "head"):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda module, inputs, output, name=name: recorded.update({name: output}))
    predict_with_cam(network, image)
    assert not any(feature.requires_grad for feature in recorded["encoder"])
    assert not recorded["decoder"].requires_grad and recorded["head"].requires_grad


def test_gradients_parameters_and_modes_are_unchanged() -> None:
    network = made_network()
    network.head.mlp[0].train()  # as someone might for a Monte Carlo estimate
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.full_like(parameter, number) if number % 2 else None
        parameter.requires_grad_(number % 3 > 0)
    gradients = [None if p.grad is None else (p.grad, p.grad.clone()) for p in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    predict_with_cam(network, head_images(2, 64, 0))
    for parameter, before in zip(network.parameters(), gradients, strict=True):
        assert (parameter.grad is None) if before is None else parameter.grad is before[0]
        assert before is None or torch.equal(before[0], before[1])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert [p.requires_grad for p in network.parameters()] == [n % 3 > 0 for n in range(len(gradients))]


def test_cam_works_under_no_grad() -> None:
    network, image = made_network(), head_images(2, 64, 0)
    plain = predict_with_cam(network, image)
    with torch.no_grad():
        without = predict_with_cam(network, image)
    with torch.inference_mode():
        inference = predict_with_cam(network, image.clone())  # the clone is an inference tensor
    for other in (without, inference):
        assert all(torch.equal(plain[name], other[name]) for name in plain)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_training_mode_and_bad_sides_are_refused() -> None:
    network = made_network()
    with pytest.raises(ValueError, match="multiples"):
        predict_with_cam(network, head_images(1, 66, 0))
    with pytest.raises(ValueError, match="training mode"):
        predict_with_cam(network.train(), head_images(1, 64, 0))


def test_a_cam_does_not_depend_on_the_other_images() -> None:
    network, images = made_network(), head_images(5, 64, 3)
    together = predict_with_cam(network, images)["cam"]
    for index in range(len(images)):
        torch.testing.assert_close(predict_with_cam(network, images[index : index + 1])["cam"][0], together[index])
    changed = images.clone()
    changed[2] = head_images(1, 64, 99)[0]
    others = [0, 1, 3, 4]
    again = predict_with_cam(network, changed)["cam"]
    torch.testing.assert_close(again[others], together[others])
    assert not torch.allclose(again[2], together[2])


def test_a_cam_is_not_masked_by_the_head() -> None:
    images = head_images(6, 64, 0)
    outside = ~(images > BACKGROUND)
    cams = [predict_with_cam(made_network(seed), images)["cam"] for seed in range(5)]
    assert max(float(cam[outside].max()) for cam in cams) > 0.5


def test_without_positive_evidence_the_cam_is_zero() -> None:
    network, image = made_network(), head_images(2, 64, 0)
    empty = torch.full_like(image, BACKGROUND)  # the head pools over nothing
    assert torch.equal(predict_with_cam(network, empty)["cam"], torch.zeros_like(empty))
    for parameter in network.head.parameters():
        parameter.data.zero_()
    assert torch.equal(predict_with_cam(network, image)["cam"], torch.zeros_like(image))


@pytest.mark.parametrize("pooling", ["average", "patches"])
def test_cam_equals_a_hand_computed_example(pooling: str) -> None:
    network = made_network(hidden=(), dropout=0.0, pooling=pooling)
    image = head_images(1, 64, 0)
    with torch.no_grad():
        network.head.mlp[1].weight.abs_()
        bottleneck = network.encoder(image)[-1]
        by_hand = torch.einsum("f,bfhw->bhw", network.head.mlp[1].weight[0], bottleneck).relu()[:, None]
        share = nn.functional.adaptive_avg_pool2d((image > BACKGROUND).float(), bottleneck.shape[2:])  # pooled
        if pooling == "patches":
            share = (
                share * network.head.patch_logits(bottleneck).exp()
            )  # the gradient of the logarithm of a sum of exponents
        by_hand *= share
        by_hand = nn.functional.interpolate(by_hand, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(predict_with_cam(network, image)["cam"], by_hand / by_hand.max(), rtol=1e-4, atol=1e-5)


def grid(*rows: str) -> np.ndarray:
    """A small map from digits."""
    return np.array([[float(digit) for digit in row] for row in rows])


def test_scores_by_hand() -> None:
    cam = grid("0000", "0420", "0100", "0001")
    brain = grid("0000", "0110", "0110", "0000") > 0
    mask = grid("0000", "0100", "0100", "0000") > 0
    scores = cam_scores(cam, brain, mask)
    assert scores["pointing"] == 1.0
    assert scores["energy_inside"] == 5 / 8
    assert scores["chance"] == 2 / 4
    assert scores["outside_brain"] == 1 / 8
    # the prior is centerd between the four pixels of the brain: all four are its maximum, two are in the mask
    assert scores["center_pointing"] == 0.5
    sigma = 0.5 * math.sqrt(4 / math.pi)
    line = np.exp(-((np.arange(4) - 1.5) ** 2) / (2 * sigma**2))
    assert scores["center_energy"] == pytest.approx(2 * line[1] ** 2 / line.sum() ** 2)


def test_pointing_misses_and_ties() -> None:
    brain = np.ones((2, 3), dtype=bool)
    mask = grid("100", "000") > 0
    assert cam_scores(grid("120", "000"), brain, mask)["pointing"] == 0.0
    assert cam_scores(grid("220", "000"), brain, mask)["pointing"] == 0.5
    assert cam_scores(grid("210", "000"), brain, mask)["pointing"] == 1.0


def test_chance_is_the_score_of_a_uniform_cam() -> None:
    rng = np.random.default_rng(0)
    brain = np.zeros((20, 20), dtype=bool)
    brain[3:15, 4:18] = True
    mask = brain & (rng.random((20, 20)) < 0.2)
    scores = cam_scores(brain.astype(np.float32), brain, mask)
    assert scores["energy_inside"] == pytest.approx(scores["chance"]) == pytest.approx(mask.sum() / brain.sum())
    assert scores["outside_brain"] == 0.0


def test_center_baseline_is_centered_on_the_brain() -> None:
    brain = np.zeros((40, 40), dtype=bool)
    brain[2:13, 20:31] = True  # center of mass (7, 25)
    mask = np.zeros_like(brain)
    mask[7, 25] = True
    scores = cam_scores(np.ones(brain.shape), brain, mask)
    assert scores["center_pointing"] == 1.0 and scores["center_energy"] > scores["chance"]


def test_undefined_scores_are_nan() -> None:
    brain, mask, cam = np.ones((4, 4), dtype=bool), grid("1100", "0000", "0000", "0000") > 0, np.ones((4, 4))
    nothing = np.zeros((4, 4), dtype=bool)

    def undefined(*maps: np.ndarray) -> set[str]:
        return {name for name, value in cam_scores(*maps).items() if math.isnan(value)}

    assert undefined(cam, brain, mask) == set()
    assert undefined(0 * cam, brain, mask) == {"pointing", "energy_inside", "outside_brain"}
    everything = {"pointing", "energy_inside", "chance", "outside_brain", "center_pointing", "center_energy"}
    assert undefined(cam, brain, nothing) == everything - {"outside_brain"}
    assert undefined(cam, nothing, mask) == {"chance", "outside_brain", "center_pointing", "center_energy"}
    assert undefined(0 * cam, nothing, nothing) == everything


def test_scores_do_not_depend_on_the_cams_scale() -> None:
    rng = np.random.default_rng(1)
    cam, brain, mask = rng.random((16, 16)), rng.random((16, 16)) < 0.7, rng.random((16, 16)) < 0.2
    assert cam_scores(cam, brain, mask) == pytest.approx(cam_scores(1000 * cam, brain, mask))


def test_invalid_cams_are_refused() -> None:
    mask = np.ones((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="shape"):
        cam_scores(np.ones((2, 3)), mask, mask)
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="negative or non-finite"):
            cam_scores(np.full((2, 2), bad), mask, mask)


def test_energy_ratio_excludes_slices_without_a_cam() -> None:
    rows = [{"energy_inside": 0.3, "chance": 0.1}, {"energy_inside": math.nan, "chance": 0.9}]
    assert energy_ratio(rows) == pytest.approx(3.0)
    assert math.isnan(energy_ratio(rows[1:])) and math.isnan(energy_ratio([]))


def test_rank_correlation() -> None:
    rng = np.random.default_rng(2)
    values = rng.random(500)
    assert rank_correlation(values, values**3) == pytest.approx(1.0)
    assert rank_correlation(values, 1 - values) == pytest.approx(-1.0)
    assert abs(rank_correlation(values, rng.random(500))) < 0.2
    rounding = 1.0 + 1e-7 * rng.random(500)
    assert math.isnan(rank_correlation(values, rounding)), "a flat map's rounding errors have no ranks"
    assert math.isnan(rank_correlation(values, np.zeros(500))) and math.isnan(rank_correlation(values[:0], values[:0]))


def same(one: nn.Module, other: nn.Module) -> dict[str, bool]:
    """Which tensors of two networks are equal."""
    return {name: torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()}


def test_randomized_copies_are_reproducible_and_change_nothing_else() -> None:
    network = made_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    state, follows = torch.get_rng_state(), torch.rand(3)
    torch.manual_seed(5)
    copied = randomized(network, seed=1)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(torch.rand(3), follows)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(same(copied, randomized(network, seed=1)).values())
    redrawn = [name for name, equal in same(copied, randomized(network, seed=2)).items() if not equal]
    assert redrawn == [name for name in before if before[name].dim() > 1 or _bias_of_a_layer(name)]
    assert isinstance(copied, MultiTaskUNet) and not copied.training


def _bias_of_a_layer(name: str) -> bool:
    return name.endswith("bias") and ".adn." not in name


def test_randomization_replaces_every_trained_tensor() -> None:
    network = made_network()
    for parameter in network.parameters():
        parameter.data += 0.01
    assert not any(same(network, randomized(network, seed=0)).values())
    copied = randomized(network, seed=0)
    statistics = [m for m in copied.modules() if isinstance(m, nn.BatchNorm2d)]
    assert statistics and all((m.running_mean == 0).all() and (m.running_var == 1).all() for m in statistics)


def test_randomizing_the_head_keeps_the_encoder() -> None:
    network = made_network()
    equal = same(network, randomized(network, 0, "head"))
    assert {name for name, value in equal.items() if not value} == {name for name in equal if name.startswith("head.")}


def test_weights_that_cannot_be_randomized_are_refused() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

    network = made_network()
    network.head.mlp.append(Scale())
    with pytest.raises(ValueError, match=r"'head\.mlp\.\d' \(Scale\)"):
        randomized(network, seed=0)


def test_sanity_is_one_for_cams_that_ignore_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images = made_network(), head_images(4, 64, 0)
    with monkeypatch.context() as patch:
        patch.setattr("scripts.audit.cam_evaluation.randomized", lambda network, seed, part="": network)
        assert sanity(network, images, seed=0) == pytest.approx(1.0)
    values = [sanity(network, images, seed, part) for seed in (0, 1) for part in ("", "head")]
    assert all(abs(value) < 0.8 for value in values)
    assert sanity(network, images, seed=0) == values[0] != values[2]


def test_sanity_without_any_cam_is_undefined() -> None:
    assert math.isnan(sanity(made_network(), torch.full((2, 1, 64, 64), BACKGROUND), seed=0))


def write_case(root: Path, case_id: str, images: Tensor, masks: np.ndarray | None, cls: int | None) -> None:
    """One case of a store; every slice in it."""
    folder = root / "cases" / case_id
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", images.half().numpy())
    count = len(images)
    case: dict[str, Any] = {"id": case_id, "source": case_id.split("/")[0], "group": case_id, "slices": [*range(count)]}
    case |= {"kind": "image" if cls is not None else "volume", "sha256": {"image": case_id}}
    case["own_statistics"] = [[[0.0], [1.0]]] * count
    if cls is not None:
        case["cls"] = cls
    if masks is not None:
        np.save(folder / "mask.npy", masks.astype(np.uint8))
        case["tumor_pixels"] = masks.sum(axis=(1, 2)).tolist()
    write_json(folder / "case.json", case)


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two volumes with masks, one without, and ten images of two sources."""
    root = tmp_path_factory.mktemp("store")
    ids = []
    for patient in range(2):
        masks = np.zeros((5, 64, 64))
        for index, half in enumerate((0, 1, 5, 7, 4)):  # none, too few pixels for a class, and three with a tumor
            masks[index, 30 - half : 30 + half, 28 - half : 28 + half] = 1
        ids.append(f"brats/P{patient}")
        write_case(root, ids[-1], head_images(5, 64, patient), masks, None)
    ids.append("brats/UNKNOWN")
    write_case(root, ids[-1], head_images(2, 64, 9), None, None)
    for number in range(10):
        source, cls = ("kaggle", "other")[number >= 7], number % 2
        ids.append(f"{source}/{('no', 'yes')[cls]}/picture {number}.jpg")
        write_case(root, ids[-1], head_images(1, 64, 20 + number), None, cls)
    write_json(root / "store.json", {"schema_version": SCHEMA_VERSION, "cases": ids, "settings": {}})
    return root


def dataset_of(root: Path, *ids: str) -> SliceDataset:
    """All slices of a store, or of these cases."""
    cases = [{"group": case["id"], **case} for case in SliceStore(root).cases()]
    records = SliceRecords([case for case in cases if not ids or case["id"] in ids], min_tumor_pixels=50)
    return SliceDataset(records, root)


@pytest.fixture(scope="module")
def explained(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Output of one run on the small store."""
    folder = tmp_path_factory.mktemp("explained")
    report = ExplainCases(dataset_of(small_store), made_network(), Decision(), folder, batch_size=3).run()
    return folder, report


def test_explanation_report_is_written_with_its_rules(explained: tuple[Path, dict[str, Any]]) -> None:
    folder, report = explained
    assert json.loads((folder / "explanation.json").read_text()) == report
    assert report["notice"] == NOTICE and {"order", "slices", "sanity"} <= set(report["rules"])
    assert list(report["sources"]) == ["brats", "kaggle", "other"]


def test_explains_tumor_slices_of_volumes_and_all_images(explained: tuple[Path, dict[str, Any]]) -> None:
    sources = explained[1]["sources"]
    rows = {(row["case"], row["index"]) for row in sources["brats"]["cases"]}
    assert rows == {(f"brats/P{patient}", index) for patient in range(2) for index in (2, 3, 4)}
    assert [sources[name]["n"] for name in sources] == [6, 7, 3]
    assert {row["cls"] for row in sources["kaggle"]["cases"]} == {0.0, 1.0}


def test_means_are_computed_from_the_rows(explained: tuple[Path, dict[str, Any]]) -> None:
    for source in explained[1]["sources"].values():
        rows = [row for row in source["cases"] if row["outside_brain"] is not None]
        assert rows, "the network of this test shows maps"
        assert source["n"] == len(source["cases"]) and source["without_map"] == source["n"] - len(rows)
        names = [name for name in rows[0] if name not in ("case", "index", "cls", "probability")]
        for name in names:
            assert source[name] == pytest.approx(np.mean([row[name] for row in rows]))
        if "chance" in names:
            assert source["energy_ratio"] == pytest.approx(source["energy_inside"] / source["chance"])
            assert source["center_energy_ratio"] == pytest.approx(source["center_energy"] / source["chance"])
            assert source["sample_energy_ratio"] == pytest.approx(source["energy_ratio"]), "the sample is all there is"
            assert source["randomized_energy_ratio"] >= 0


def test_randomized_networks_are_compared_on_a_sample(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts.audit.cam_evaluation, "SAMPLE", 3)
    dataset, asked = dataset_of(small_store), []

    def keep(network: Any, images: Tensor, *_: Any) -> np.ndarray:
        asked.append(images)
        return maps_of(network, images)

    maps_of = scripts.audit.cam_evaluation._maps
    monkeypatch.setattr(scripts.audit.cam_evaluation, "_maps", keep)
    report = ExplainCases(dataset, made_network(), Decision(), tmp_path).run()["sources"]["brats"]
    assert report["sample"] == 3 and report["n"] == 6
    ratios = {}
    for chosen in combinations(report["cases"], 3):
        rows = [row for row in chosen if row["chance"] is not None]
        ratios[tuple((r["case"], r["index"]) for r in chosen)] = sum(r["energy_inside"] for r in rows) / sum(
            r["chance"] for r in rows
        )
    fits = [places for places, ratio in ratios.items() if ratio == pytest.approx(report["sample_energy_ratio"])]
    assert len(fits) == 1 and report["sample_energy_ratio"] != pytest.approx(report["energy_ratio"])
    worst = tuple((row["case"], row["index"]) for row in report["cases"][:3])
    assert fits[0] != worst, "drawn, not the worst"
    numbers = [i for i, r in enumerate(dataset.data) if (r["case"], r["index"]) in fits[0]]
    images = {dataset[i]["image"].numpy().tobytes() for i in numbers}
    first = asked[:6]  # the network and its synthetic, of this source
    assert all({image.numpy().tobytes() for image in batch} == images for batch in first)


def test_sources_without_masks_have_no_scores_of_masks(explained: tuple[Path, dict[str, Any]]) -> None:
    source = explained[1]["sources"]["kaggle"]
    assert {"n", "without_map", "with_mask", "outside_brain", "sample", "sanity", "sanity_head", "cases"} == set(source)
    assert {"case", "index", "cls", "probability", "outside_brain"} == set(source["cases"][0])


def test_rows_agree_with_explain_and_sanity(small_store: Path, explained: tuple[Path, dict[str, Any]]) -> None:
    dataset, network = dataset_of(small_store), made_network()
    report = explained[1]["sources"]["brats"]
    for row in report["cases"]:
        record = next(i for i, r in enumerate(dataset.data) if (r["case"], r["index"]) == (row["case"], row["index"]))
        item = dataset[record]
        prediction = predict_with_cam(network, item["image"][None])
        assert row["probability"] == pytest.approx(float(torch.sigmoid(prediction["cls"][0, 0])), abs=1e-5)
        scores = cam_scores(
            prediction["cam"][0, 0].numpy(), item["foreground"][0].numpy() > 0, item["mask"][0].numpy() > 0
        )
        for name, value in scores.items():
            assert (row[name] is None) if math.isnan(value) else row[name] == pytest.approx(value, abs=1e-4)
    images = torch.stack([dataset[i]["image"] for i, r in enumerate(dataset.data) if r["cls"] == 1.0 and r["has_mask"]])
    assert report["sanity"] == pytest.approx(sanity(network, images, seed=0), abs=1e-4)
    assert report["sanity_head"] == pytest.approx(sanity(network, images, seed=0, part="head"), abs=1e-4)


def test_rows_are_sorted_worst_first(explained: tuple[Path, dict[str, Any]]) -> None:
    for source in explained[1]["sources"].values():
        faults = [max(abs(row["cls"] - row["probability"]), row["outside_brain"] or 0.0) for row in source["cases"]]
        assert faults == sorted(faults, reverse=True)


def test_sorting_handles_undefined_scores() -> None:
    base = {"case": "a", "index": 0, "cls": 1.0, "probability": 0.9, "outside_brain": 0.2}
    rows = [base, {**base, "cls": math.nan, "outside_brain": math.nan}, {**base, "probability": 0.1}]
    rows.append({**base, "outside_brain": 0.5})
    assert sorted(rows, key=worst_first) == [rows[2], rows[3], rows[0], rows[1]]


def test_probabilities_are_calibrated_by_kind(small_store: Path, tmp_path: Path) -> None:
    hot = Decision(image=Calibration(temperature=1e6))
    dataset = dataset_of(small_store, "brats/P0", "kaggle/no/picture 0.jpg")
    report = ExplainCases(dataset, made_network(), hot, tmp_path, seed=3).run()
    assert all(row["probability"] == pytest.approx(0.5, abs=1e-4) for row in report["sources"]["kaggle"]["cases"])
    assert any(abs(row["probability"] - 0.5) > 1e-3 for row in report["sources"]["brats"]["cases"])
    assert report["seed"] == 3


def test_pictures_are_black_pngs_with_a_tile_a_case(explained: tuple[Path, dict[str, Any]]) -> None:
    folder = explained[0]
    assert {path.name for path in folder.iterdir()} == {
        "explanation.json",
        *(f"cam_{source}.png" for source in ("brats", "kaggle", "other")),
    }
    for path in folder.glob("*.png"):
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert (picture[0] == 0).all() and (picture[-1] == 0).all() and (picture[:, 0] == 0).all()
        assert (picture > 200).any(axis=2).sum() > 500, "titles and heads"


def test_volumes_are_drawn_at_their_largest_lesion_and_images_worst_first(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, tuple[list[Look], str]] = {}

    def keep(looks: list[Look], path: Path, headline: str) -> None:
        drawn[path.name] = (looks, headline)

    monkeypatch.setattr("scripts.audit.cam_evaluation.draw_cams", keep)
    report = ExplainCases(dataset_of(small_store), made_network(), Decision(), tmp_path, most=4).run()
    volumes, _ = drawn["cam_brats.png"]
    assert sorted((look.item["case"], look.item["index"]) for look in volumes) == [("brats/P0", 3), ("brats/P1", 3)]
    images, headline = drawn["cam_kaggle.png"]
    worst = [row["case"] for row in report["sources"]["kaggle"]["cases"]]
    assert [look.item["case"] for look in images] == worst[:4] and "the worst 4 of 7" in headline
    for look in (*volumes, *images):
        torch.testing.assert_close(
            torch.from_numpy(look.cam), predict_with_cam(made_network(), look.item["image"][None])["cam"][0, 0]
        )


def test_the_network_is_unchanged_afterwards(small_store: Path, tmp_path: Path) -> None:
    network = made_network().train()
    network.encoder.eval()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    ExplainCases(dataset_of(small_store, "brats/P0"), network, Decision(), tmp_path).run()
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_an_empty_data_set_has_an_empty_report(small_store: Path, tmp_path: Path) -> None:
    dataset = dataset_of(small_store)
    dataset.data = []
    assert ExplainCases(dataset, made_network(), Decision(), tmp_path).run()["sources"] == {}


def test_dark_fluid_counts_as_inside_the_head() -> None:
    foreground = torch.ones(1, 8, 8)
    foreground[:, 0], foreground[:, 4, 4] = 0, 0
    item = {"image": torch.zeros(1, 8, 8), "foreground": foreground, "cls": np.float32(1), "case": "k/a", "index": 0}
    cam = np.zeros((8, 8), dtype=np.float32)
    cam[4, 4] = 1
    row = Look(item, cam, 0.5).row()
    assert row["outside_brain"] == 0.0 and row["lesion"] == 0 and math.isnan(row["chance"])


def test_cams_without_mask_tissue_or_evidence_are_drawn(tmp_path: Path) -> None:
    item = {
        "image": torch.full((1, 32, 32), BACKGROUND),
        "foreground": torch.zeros(1, 32, 32),
        "cls": np.float32("nan"),
    }
    item |= {"case": "k/" + "long name " * 9, "index": 0}
    draw_cams([Look(item, np.zeros((32, 32), np.float32), 0.5)], tmp_path / "one.png", "headline")
    assert Image.open(tmp_path / "one.png").size[0] > 500


def test_explains_the_pipelines_own_weights(pipeline_run: Path, store: Path, tmp_path: Path) -> None:
    dataset = dataset_of(store)
    dataset.data = dataset.data[::6]
    network = load_weights(multi_task_unet("cpu"), pipeline_run / "stage3" / "model.pt")
    assert isinstance(network, MultiTaskUNet)
    report = ExplainCases(dataset, network, Decision(), tmp_path).run()
    assert report["sources"]["brats"]["with_mask"] == report["sources"]["brats"]["n"] > 0
    assert report["sources"]["kaggle"]["with_mask"] == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"cam_brats.png", "cam_kaggle.png"}
