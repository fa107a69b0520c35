"""From logits to the prediction on the scan's own grid: the right slice, the right size, and one opinion."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from PIL import Image

from scripts.core.configs import components_of
from scripts.core.messages import NOTICE, flag
from scripts.core.weights_report import TASKS
from scripts.inference.decision import Calibration, Decision
from scripts.inference.flags import DEEP, flags_of_mask
from scripts.inference.out_of_distribution import OODDetector
from scripts.inference.postprocessing import (
    DropDepthd,
    RemoveSmallComponentsd,
    SplitPackedd,
    SummarizePredictiond,
    mask_depth,
)
from scripts.inference.smoothing import smoothed
from scripts.transforms.preprocessing import BACKGROUND

ROOT = Path(__file__).resolve().parents[3]
PROPERTY = settings(max_examples=150, deadline=None, derandomize=True)
TUMOR_SLICE = 2  # of six, counted from below
HEAD, TUMOR = 300, 1000
AXCODES = ["PLS", "RAS", "LPS", "LAI", "RPI", "SPR", "IRA", "ASL", "PIR"]
SHARE = st.floats(0, 1)
CALIBRATIONS = st.builds(Calibration, st.floats(0.05, 20), SHARE)
DECISIONS = st.builds(Decision, CALIBRATIONS, CALIBRATIONS, SHARE, st.integers(1, 6))
Network = Callable[[torch.Tensor], torch.Tensor]
Prediction = Callable[[Path, Network], dict[str, Any]]


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prediction]:
    """The inference of the config, with any network in place of the trained one."""
    overrides = {"model_path": str(tmp_path_factory.mktemp("none") / "model.pt"), "device": torch.device("cpu")}
    overrides["postprocessing#transforms#0#mask_smoothing_mm"] = 0.0  # the tumor is in one slice
    chain = components_of(ROOT, "inference.yaml", ["preprocessing", "inferer", "postprocessing"], **overrides)

    def run(path: Path, network: Network) -> dict[str, Any]:
        data = chain["preprocessing"]({"image": str(path)})
        data["pred"] = chain["inferer"](data["image"].as_tensor()[None], network)[0]
        return dict(chain["postprocessing"](data))

    yield run


def sees_the_tumor(x: torch.Tensor) -> torch.Tensor:
    """Packed logits (b, 2, H, W): the mask is what is bright, and a slice shows a tumor where something is."""
    bright = x > 2
    return torch.cat([20.0 * bright - 10, 8.0 * bright.amax(dim=(2, 3), keepdim=True).expand_as(x) - 4], dim=1)


def says(mask_logit: float, tumor_logit: float) -> Network:
    return lambda x: torch.cat([torch.full_like(x, mask_logit), torch.full_like(x, tumor_logit)], dim=1)


def head_volume(height: int = 180, width: int = 160) -> np.ndarray:
    """Six slices (rows to posterior, columns to the left, upwards), the lowest and the two uppermost empty."""
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot((rows - height / 2) / (height * 0.4), (columns - width / 2) / (width * 0.4))
    volume = np.zeros((height, width, 6), dtype=np.int16)
    volume[distance <= 1, 1:4] = HEAD
    volume[height // 4 : height // 2, width // 3 : 2 * width // 3, TUMOR_SLICE] = TUMOR
    return volume


def stored(volume: np.ndarray, axcodes: str, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> nib.Nifti1Image:
    """A displayed volume as a NIfTI along other axes."""
    affine = np.array([[0, -spacing[1], 0, 70], [-spacing[0], 0, 0, 80], [0, 0, spacing[2], -20], [0, 0, 0, 1]])
    wanted = nib.orientations.axcodes2ornt(tuple(axcodes))
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
    return nib.Nifti1Image(volume, affine).as_reoriented(turn)


def save(image: nib.Nifti1Image, path: Path) -> Path:
    nib.save(image, path)
    return path


def save_picture(path: Path) -> Path:
    Image.fromarray((head_volume()[..., TUMOR_SLICE] // 4).astype(np.uint8)).save(path)
    return path


NEVER_FAR = OODDetector(np.zeros(1), np.ones((1, 1)), np.ones(1), 1.0, limits={"image": 9.0, "volume": 9.0})


def summary(
    logits: list[float],
    mask: bool = False,
    decision: Decision | None = None,
    affine: np.ndarray | None = None,
    meta: Mapping[str, Any] | None = None,
    learned: Sequence[str] = TASKS,
) -> dict[str, Any]:
    """The result for slices of these logits."""
    model = {"version": "1"} | ({"learned": learned} if learned != TASKS else {})
    affine = np.eye(4) if affine is None else affine
    told = {"spatial_shape": np.array([4, 4, len(logits)]), "original_affine": affine}
    told |= {"spacing_known": True, "spacing_used": True, **(meta or {})}
    pred = MetaTensor(within(torch.full((1, 4, 4, len(logits)), float(mask))), meta=told)
    data = {"pred": pred, "slice_logits": np.array(logits), "slice_distances": np.array(logits) * 0.0}
    return dict(SummarizePredictiond("pred", decision or Decision(), model, NEVER_FAR)(data)["result"])


def within(mask: torch.Tensor) -> torch.Tensor:
    """A mask (1, H, W, D) within a larger scan; at its edge it would have a flag."""
    slices = int(mask.shape[3] > 1)
    return torch.nn.functional.pad(mask, (slices, slices, 1, 1, 1, 1))


# small components -----------------------------------------------------------------------------------------------------


def without_small_components(mask: np.ndarray, affine: np.ndarray, known: bool = True, zoom: float = 1.0) -> np.ndarray:
    """What is left of a mask (H, W, D), whose pixels are `zoom` pixels long on the canvas."""
    meta = {"spatial_shape": np.array(mask.shape), "original_affine": affine, "spacing_used": known}
    pred = MetaTensor(torch.from_numpy(mask.astype(np.float32))[None], meta=meta)
    seen = MetaTensor(torch.zeros(1, 8, 8, 1), affine=affine @ np.diag([1 / zoom, 1 / zoom, 1, 1]))
    kept = RemoveSmallComponentsd("pred", min_ml=1.0, min_mm2=50.0)({"pred": pred, "image": seen})["pred"]
    assert kept.dtype == pred.dtype and kept.shape == pred.shape
    return np.asarray(kept[0] > 0)


@pytest.mark.parametrize(("spacing", "kept"), [((1, 1, 1), False), ((1, 1, 2), True), ((-1, 1, -2), True)])
def test_components_of_at_least_a_milliliter_are_kept(spacing: tuple[int, int, int], kept: bool) -> None:
    mask = np.zeros((30, 30, 30), dtype=bool)
    mask[0:10, 0:10, 0:9] = True  # 900 voxels at the volume's corner
    assert without_small_components(mask, np.diag([*spacing, 1])).any() == kept


def test_components_that_touch_at_a_corner_are_one() -> None:
    mask = np.zeros((30, 30, 30), dtype=bool)
    mask[0:10, 0:10, 0:9], mask[10:14, 10:14, 9:20], mask[20:25, 20:25, 0:5] = True, True, True
    expected = mask.copy()
    expected[20:25, 20:25, 0:5] = False
    assert np.array_equal(without_small_components(mask, np.eye(4)), expected)


@pytest.mark.parametrize(("known", "zoom", "kept"), [(True, 1, True), (True, 0.5, False), (False, 0.6, False)])
def test_components_of_a_slice_are_measured_on_the_canvas(known: bool, zoom: float, kept: bool) -> None:
    mask = np.zeros((30, 30, 1), dtype=bool)
    mask[2:12, 3:13] = True  # 100 pixels
    assert without_small_components(mask, np.diag([0.7, 0.7, 5, 1]), known, zoom).any() == kept
    assert without_small_components(mask.transpose(2, 0, 1), np.eye(4), known, zoom).any() == kept, "along any axis"


def test_an_empty_mask_and_a_scan_of_unknown_size_are_unchanged() -> None:
    nothing, small = np.zeros((20, 20, 20), dtype=bool), np.zeros((20, 20, 20), dtype=bool)
    small[3:6, 3:6, 3:6] = True
    assert not without_small_components(nothing, np.eye(4)).any()
    assert not without_small_components(nothing[:, :, :1], np.eye(4)).any()
    assert np.array_equal(without_small_components(small, np.eye(4), known=False), small)


# on the scan's own grid -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axcodes", AXCODES)
def test_slices_are_predicted_in_the_order_of_the_file(tmp_path: Path, prediction: Prediction, axcodes: str) -> None:
    image = stored(head_volume(), axcodes, (1.0, 1.0, 4.0))
    result = prediction(save(image, tmp_path / "a.nii.gz"), sees_the_tumor)["result"]
    axis = next(axis for axis, code in enumerate(axcodes) if code in "IS")
    others = tuple({0, 1, 2} - {axis})
    brightest = np.asarray(image.dataobj).max(axis=others)
    assert result["slice_axis"] == axis
    expected = [{TUMOR: True, HEAD: False, 0: None}[value] for value in brightest]
    assert [p if p is None else p > 0.5 for p in result["slice_probabilities"]] == expected


@pytest.mark.parametrize("axcodes", AXCODES)
def test_the_mask_is_on_the_files_grid(tmp_path: Path, prediction: Prediction, axcodes: str) -> None:
    image = stored(head_volume(), axcodes)
    mask = prediction(save(image, tmp_path / "a.nii.gz"), sees_the_tumor)["pred"]
    assert np.array_equal(mask[0].numpy(), np.asarray(image.dataobj) == TUMOR)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.5), (0.8, 1.1, 3.0)])
def test_the_volume_is_that_of_the_mask_in_milliliters(
    tmp_path: Path, prediction: Prediction, spacing: tuple[float, float, float]
) -> None:
    data = prediction(save(stored(head_volume(), "LAS", spacing), tmp_path / "a.nii"), sees_the_tumor)
    expected = float(data["pred"].sum()) * np.prod(spacing) / 1000
    assert data["pred"].sum() > 0 and data["result"]["volume_ml"] == pytest.approx(expected, abs=1e-3)
    truth = (head_volume() == TUMOR).sum() * np.prod(spacing) / 1000
    assert data["result"]["volume_ml"] == pytest.approx(truth, rel=0.2)  # a resampled edge


@pytest.mark.parametrize("axcodes", AXCODES)
def test_the_area_of_a_slice_does_not_depend_on_its_axis(axcodes: str) -> None:
    plane = np.zeros((20, 20, 1), dtype=np.uint8)
    plane[:10, :10] = 1
    image = stored(plane, axcodes, (0.8, 1.5, 5.0))
    meta = {"spatial_shape": np.array(image.shape), "original_affine": image.affine, "spacing_used": True}
    mask = MetaTensor(np.asarray(image.dataobj, dtype=np.float32)[None], meta=meta)
    result = SummarizePredictiond("pred", Decision()).summarize(mask, np.array([1.0]))
    assert (result["area_mm2"], result["volume_ml"]) == (pytest.approx(120.0), pytest.approx(0.6))


def test_the_volume_of_an_oblique_scan_is_right() -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    result = summary([0.0] * 5, mask=True, affine=turn @ np.diag([0.5, 0.5, 3.0, 1.0]))
    assert result["volume_ml"] == pytest.approx(80 * 0.75 / 1000)


def test_a_picture_has_neither_slices_nor_milliliters(tmp_path: Path, prediction: Prediction) -> None:
    data = prediction(save_picture(tmp_path / "a.png"), sees_the_tumor)
    assert data["result"]["state"] == "tumor" and tuple(data["pred"].shape) == (1, 180, 160, 1)
    assert not {"volume_ml", "slice_axis", "slice_probabilities"} & set(data["result"])


def test_a_two_dimensional_nifti_has_no_slices(tmp_path: Path, prediction: Prediction) -> None:
    plane = nib.Nifti1Image(head_volume()[..., TUMOR_SLICE], np.diag([-1.0, -1.0, 1.0, 1.0]))
    result = prediction(save(plane, tmp_path / "a.nii"), sees_the_tumor)["result"]
    assert result["state"] == "tumor" and not {"slice_axis", "slice_probabilities"} & set(result)
    assert result["area_mm2"] > 0 and "volume_ml" not in result, "nobody told how thick it is"


@pytest.mark.parametrize("suffix", ["png", "nii"])
def test_a_mask_of_nearly_the_whole_scan_is_not_inverted(tmp_path: Path, prediction: Prediction, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path = save_picture(path) if suffix == "png" else save(stored(head_volume(), "RAS"), path)
    shown = head_volume()[..., [TUMOR_SLICE]] if suffix == "png" else np.asarray(nib.load(path).dataobj)
    shown = shown * (shown.max(axis=(0, 1)) > 0)
    full, empty = (prediction(path, says(logit, 9.0))["pred"][0].numpy() for logit in (9.0, -9.0))
    assert full[shown > 0].mean() > 0.99 and not empty.any()


def test_the_mask_has_probabilities_of_at_least_one_half(tmp_path: Path, prediction: Prediction) -> None:
    path = save_picture(tmp_path / "a.png")
    assert prediction(path, says(0.1, 0.0))["pred"].any() and not prediction(path, says(-0.1, 0.0))["pred"].any()


def test_an_empty_scan_has_no_prediction_instead_of_a_wrong_one(tmp_path: Path, prediction: Prediction) -> None:
    data = prediction(save(stored(head_volume() * 0, "LPS"), tmp_path / "a.nii"), sees_the_tumor)
    result = data["result"]
    assert result["state"] == "no_prediction" and result["flags"] == [flag("too_little_brain")]
    assert result["tumor_probability"] is None and result["tumor_detected"] is None
    assert result["slice_probabilities"] == [None] * 6 and not data["pred"].any()


@pytest.mark.parametrize("suffix", ["png", "nii"])
def test_the_result_is_plain_json(tmp_path: Path, prediction: Prediction, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path = save_picture(path) if suffix == "png" else save(stored(head_volume(), "RAS"), path)
    result = prediction(path, sees_the_tumor)["result"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["notice"] == NOTICE and set(result["model"]) == {"version", "sha256", "report", "decision"}


# one opinion ----------------------------------------------------------------------------------------------------------


@PROPERTY
@given(
    decision=DECISIONS, logits=st.lists(st.one_of(st.floats(-30, 30), st.just(np.nan)), min_size=1), mask=st.booleans()
)
def test_nothing_in_the_result_contradicts_the_detection(decision: Decision, logits: list[float], mask: bool) -> None:
    result = summary(logits, mask, decision)
    assert result["tumor_detected"] or result["state"] != "tumor"
    assert not result["tumor_detected"] or result["state"] in ("tumor", "uncertain")
    assert (result["state"] == "no_prediction") == (result["tumor_probability"] is None)
    contradictory = {"tumor": not mask, "no_tumor": mask}.get(result["state"], False)
    assert bool(result["flags"]) == (contradictory or result["state"] == "no_prediction")
    assert ("volume_ml" in result) == (result["state"] != "no_prediction")  # of nothing seen no size is known
    assert (result.get("volume_ml", mask) > 0) == mask


def test_the_printed_probability_does_not_contradict_the_detection() -> None:
    result = summary([-1e-7])
    assert (result["tumor_probability"] >= result["threshold"]) == result["tumor_detected"]


@PROPERTY
@given(decision=DECISIONS, logits=st.lists(st.floats(-9, 9), min_size=1, max_size=9))
def test_the_volumes_probability_is_within_those_of_its_slices(decision: Decision, logits: list[float]) -> None:
    result = summary(logits, decision=decision)
    slices = result["slice_probabilities"]
    assert min(slices) - 1e-6 <= result["tumor_probability"] <= max(slices) + 1e-6


def test_the_used_thresholds_are_in_the_result() -> None:
    result = summary([0.0], decision=Decision(image=Calibration(operating_point=0.62), display_threshold=0.21))
    assert result["threshold"] == 0.62 and result["display_threshold"] == 0.21 and result["state"] == "uncertain"


@pytest.mark.parametrize(
    ("logit", "mask", "code"),
    [
        (4.0, False, "tumor_without_mask"),
        (-4.0, True, "mask_without_tumor"),
        (4.0, True, None),
        (-4.0, False, None),
        (-0.3, True, None),  # uncertain: an outline says no more than that
    ],
)
def test_outputs_that_disagree_are_flagged(logit: float, mask: bool, code: str | None) -> None:
    assert summary([logit], mask)["flags"] == ([flag(code)] if code else [])


@pytest.mark.parametrize(
    ("meta", "codes"),
    [
        ({"background_found": True}, []),
        ({"background_found": False}, ["background_missing"]),
        ({"spacing_used": False}, ["spacing_implausible"]),
        ({"white_background": True}, ["image_inverted"]),
        ({"flags": "orientation_unknown", "colored_share": 0.5}, ["orientation_unknown", "image_colored"]),
    ],
)
def test_findings_of_reading_the_scan_are_flags(meta: dict[str, Any], codes: list[str]) -> None:
    assert summary([4.0], mask=True, meta=meta)["flags"] == [flag(code) for code in codes]


def test_slices_without_a_prediction_do_not_lower_the_others() -> None:
    assert summary([np.nan, 5.0, np.nan])["tumor_probability"] == summary([5.0])["tumor_probability"]


def test_existing_keys_of_the_result_are_kept() -> None:
    meta = {"spatial_shape": np.array([4, 4]), "original_affine": np.eye(4), "spacing_known": False}
    data = {"pred": MetaTensor(torch.zeros(1, 4, 4, 1), meta=meta), "slice_logits": np.zeros(1)}
    result = SummarizePredictiond("pred", Decision())({**data, "result": {"seconds": 3}})["result"]
    assert result["seconds"] == 3 and result["tumor_probability"] == 0.5


# taking the packed tensor apart ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_packed_logits_become_a_probability_with_geometry_and_a_logit_per_slice(plain: bool) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.full((1, 5, 6, 3), BACKGROUND), affine)
    packed = torch.zeros(2, 5, 6, 3)
    packed[0, ..., 1], packed[1] = 100.0, torch.tensor([0.5, -2.0, float("nan")])
    data = SplitPackedd()({"image": image, "pred": packed if plain else MetaTensor(packed)})
    assert data["slice_logits"].dtype == np.float64
    assert np.array_equal(data["slice_logits"], [0.5, -2.0, np.nan], equal_nan=True)
    assert data["pred"].shape == (1, 5, 6, 3) and torch.equal(data["pred"].affine, affine)
    assert data["pred"][0, 2, 2].tolist() == [0.5, 1.0, 0.5]


def test_half_precision_logits_become_full_precision_probabilities() -> None:
    image = MetaTensor(torch.zeros(1, 4, 4, 2))
    pred = SplitPackedd()({"image": image, "pred": torch.full((2, 4, 4, 2), 3.0).half()})["pred"]
    assert pred.dtype == torch.float32 and float(pred.max()) == pytest.approx(0.952574, abs=1e-6)


@pytest.mark.parametrize("millimeters", [0.001, 1.0, 20.0])
def test_slices_count_as_a_millimeter_apart_where_the_spacing_was_not_used(millimeters: float) -> None:
    """A spacing that makes no head says nothing of the gap either."""
    logits, found = torch.tensor([-6.0, -6.0, 6.0, -6.0, -6.0]), []
    for gap, used in ((1.0, True), (millimeters, False)):
        image = MetaTensor(torch.zeros(1, 4, 4, 5), np.diag([1.0, 1.0, gap, 1.0]), {"spacing_used": used})
        data = SplitPackedd(smoothing_mm=3.0)({"image": image, "pred": logits.expand(2, 4, 4, 5)})
        found.append(data["slice_logits"])
    assert np.array_equal(*found)


def smoothed_mask(by_slice: list[float], gap: float, skipped: Sequence[int] = (), mm: float = 5.0) -> list[bool]:
    """Which slices of a mask stay, whose logits are the same in a whole slice."""
    tumor = torch.tensor([math.nan if index in skipped else 0.0 for index in range(len(by_slice))])
    packed = torch.stack([torch.tensor(by_slice).expand(4, 4, -1), tumor.expand(4, 4, -1)])
    image = MetaTensor(torch.zeros(1, 4, 4, len(by_slice)), np.diag([1.0, 1.0, gap, 1.0]))
    pred = SplitPackedd(mask_smoothing_mm=mm)({"image": image, "pred": packed})["pred"]
    return [bool(value > 0.5) for value in pred[0, 0, 0]]


def test_a_mask_in_one_slice_that_its_neighbors_clearly_deny_is_smoothed_away() -> None:
    assert smoothed_mask([-6, -6, 2, -6, -6], gap=5.0) == [False] * 5
    assert smoothed_mask([-6, -6, 2, -6, -6], gap=50.0)[2]  # neighbors far away say nothing
    assert smoothed_mask([-6, -6, 2, -6, -6], gap=5.0, mm=0.0)[2]


def test_a_mask_of_several_slices_is_kept_at_its_place() -> None:
    assert smoothed_mask([-4, -4, 4, 4, 4, -4, -4], gap=5.0) == [False, False, True, True, True, False, False]


def test_slices_that_the_network_did_not_see_do_not_smooth_a_mask_away() -> None:
    assert smoothed_mask([-20, 3, 3, -20], gap=5.0, skipped=(0, 3)) == [False, True, True, False]


def test_a_single_slice_is_not_smoothed() -> None:
    assert smoothed_mask([2], gap=5.0) == [True]


# masks ----------------------------------------------------------------------------------------------------------------


def test_a_mask_of_nearly_the_whole_scan_is_flagged_and_not_inverted(tmp_path: Path, prediction: Prediction) -> None:
    """Mask and background are never swapped, whichever is larger."""
    path = save(stored(head_volume(), "RAS"), tmp_path / "a.nii.gz")
    everything, little = prediction(path, says(4.0, 4.0)), prediction(path, sees_the_tumor)
    head = torch.from_numpy(np.asarray(nib.load(path).dataobj)) > 0
    assert (everything["pred"][0].as_tensor()[head] > 0).float().mean() > 0.99
    assert flag("mask_too_large") in everything["result"]["flags"]
    assert flag("mask_too_large") not in little["result"]["flags"]


def ring(inner: float, outer: float, radius: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """What lies between two depths of a round head, and the head, boolean (H, W)."""
    rows, columns = np.ogrid[:160, :160]
    distance = np.hypot(rows - 80, columns - 80) / radius
    return (distance <= 1 - inner) & (distance > 1 - outer), distance <= 1


@pytest.mark.parametrize(("inner", "outer"), [(0.0, 0.1), (0.1, 0.3), (0.4, 0.5), (0.9, 1.0)])
def test_mask_depth_is_a_share_of_the_heads_depth(inner: float, outer: float) -> None:
    mask, head = ring(inner, outer)
    depth = mask_depth(mask, head)
    assert depth is not None and inner < depth <= outer + 0.02


def test_fluid_within_the_head_is_not_its_edge() -> None:
    mask, head = ring(0.4, 0.5)
    hollow = head & ~ring(0.6, 1.1)[0]
    assert mask_depth(mask, hollow) == mask_depth(mask, head)
    assert mask_depth(np.zeros_like(head), head) is None


def test_the_depth_limit_separates_false_masks_in_the_committed_results() -> None:
    found = json.loads((ROOT / "docs" / "results" / "mask_depths.json").read_text())
    assert found["limit"] == DEEP
    for cls, name in enumerate(("without a tumor", "with a tumor")):
        depths = [mask["depth"] for mask in found["masks"] if mask["cls"] == cls]
        assert found["counts"][name] == {
            "nonempty_masks": len(depths),
            "flagged": sum(depth < DEEP for depth in depths),
        }
    free, ill = (found["counts"][name] for name in ("without a tumor", "with a tumor"))
    assert free["flagged"] / free["nonempty_masks"] > 5 * ill["flagged"] / ill["nonempty_masks"]


def draws(bright: float, tumor_logit: float) -> Network:
    """A network that outlines what is as bright as this, in standard deviations of a picture."""

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.where(x > bright, 4.0, -4.0), torch.full_like(x, tumor_logit)], dim=1)

    return network


def test_a_mask_of_the_scalp_is_flagged(tmp_path: Path, prediction: Prediction) -> None:
    """A bright rim of a head looks like a bright tumor to a network that has learned from brains without one."""
    (rim, head), (deep, _), found = ring(0.0, 0.1), ring(0.6, 0.9), []
    for name, bright in (("scalp", rim), ("tumor", deep)):
        picture = np.where(bright, 250, np.where(head, 120, 0)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        found.append(prediction(tmp_path / f"{name}.png", draws(1.0, 4.0)))
    assert all((data["pred"] > 0).any() for data in found)
    assert [flag("mask_at_head_edge") in data["result"]["flags"] for data in found] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("shape", "voxel", "is_cut"),
    [
        ((6, 5, 4), (2, 2, 1), False),
        ((6, 5, 4), (2, 2, 0), True),
        ((6, 5, 4), (2, 2, 3), True),
        ((6, 5, 4), (5, 2, 1), True),
        ((6, 5, 4), (2, 0, 1), True),
        ((6, 5, 1), (2, 2, 0), False),
        ((6, 5, 1), (2, 4, 0), True),
    ],
)
def test_a_mask_at_the_edge_of_the_scan_is_flagged(
    shape: tuple[int, ...], voxel: tuple[int, ...], is_cut: bool
) -> None:
    mask = MetaTensor(torch.zeros(1, *shape))
    mask[(0, *voxel)] = 1
    assert (flag("mask_cut_off") in flags_of_mask(mask, 0.1, None)) is is_cut
    assert flags_of_mask(MetaTensor(torch.zeros(1, *shape)), 0.0, None) == []


def test_slices_are_smoothed_over_neighbors_with_a_prediction() -> None:
    logits = np.array([np.nan, -4.0, -4.0, 4.0, -4.0, np.nan, np.nan, 2.0])
    found = smoothed(logits, 1.0)
    assert np.isnan(found).tolist() == np.isnan(logits).tolist()
    assert -4 < found[3] < 4 and found[1] < found[2] < found[3] and found[7] == pytest.approx(2.0, abs=0.2)
    assert np.array_equal(smoothed(logits, 0.0), logits, equal_nan=True)
    assert np.allclose(smoothed(np.full(9, 1.5), 3.0), 1.5) and np.isnan(smoothed(np.full(3, np.nan), 1.0)).all()


@pytest.mark.parametrize(
    ("shape", "spacing_known", "expected"),
    [((6, 5), False, (5, 6)), ((6, 5), True, (6, 5)), ((6, 5, 4), True, (1, 6, 5, 4))],
    ids=["picture", "plane", "volume"],
)
def test_a_mask_has_the_axes_of_monai_label(
    shape: tuple[int, ...], spacing_known: bool, expected: tuple[int, ...]
) -> None:
    meta = {"spatial_shape": np.array(shape), "spacing_known": spacing_known}
    mask = torch.arange(np.prod(shape)).reshape(1, *shape, *[1] * (3 - len(shape)))
    data = {"pred": MetaTensor(mask, meta=meta), "image": MetaTensor(mask, meta=meta)}
    found = DropDepthd()(data)
    assert found["pred"].shape == expected and found["pred"].dtype == torch.uint8
    assert tuple(found["image"].meta["spatial_shape"]) == expected[-len(shape) :]
    if expected == (5, 6):
        assert torch.equal(found["pred"].as_tensor(), mask[0, :, :, 0].T.to(torch.uint8))


def test_a_decision_fitted_on_other_weights_is_not_used() -> None:
    card = {"sha256": "a"}
    decision = Decision(Calibration(2.0, 0.9), Calibration(2.0, 0.9))
    transform = SummarizePredictiond("pred", decision, card)
    mask = MetaTensor(torch.zeros(1, 4, 4, 1), meta={"spatial_shape": np.array([4, 4])})
    assert transform.summarize(mask, np.array([1.0]))["threshold"] == 0.9
    assert transform.summarize(mask, np.array([1.0]))["model"] == {"sha256": "a", "decision": decision.digest()}
    card["sha256"] = "b"
    found = transform.summarize(mask, np.array([1.0]))
    assert found["threshold"] == 0.5 and found["model"] == {"sha256": "b", "decision": Decision().digest()}


def test_a_detector_without_a_limit_for_this_kind_of_scan_checks_nothing() -> None:
    ood_detector = OODDetector(np.zeros(1), np.ones((1, 1)), np.ones(1), 1.0, limits={"volume": 2.0})
    mask = MetaTensor(within(torch.ones(1, 4, 4, 1)), meta={"spatial_shape": np.array([6, 6])})
    data = {"pred": mask, "slice_logits": np.array([4.0]), "slice_distances": np.ones(1)}
    flags = SummarizePredictiond("pred", Decision(), {"sha256": "a"}, ood_detector)(data)["result"]["flags"]
    assert flags == [flag("ood_score_missing")]


@pytest.mark.parametrize(
    ("gap_mm", "plausible"), [(5.0, True), (50.0, True), (1e-3, False), (9e99, False), (51.0, False)]
)
def test_an_implausible_distance_between_slices_gives_no_volume(gap_mm: float, plausible: bool) -> None:
    found = summary([3.0, 3.0], mask=True, affine=np.diag([1.0, 1.0, gap_mm, 1.0]))
    assert ("volume_ml" in found) is plausible
    assert (flag("thickness_implausible") in found["flags"]) is not plausible


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, "ood_score_missing"),
        ({"slice_distances": np.full(1, np.inf)}, "ood_score_missing"),
        ({"slice_distances": np.full(1, np.nan)}, "ood_score_missing"),
        ({"slice_distances": np.full(1, 9.0)}, "out_of_distribution"),
        ({"slice_distances": np.ones(1)}, None),
    ],
    ids=["no score", "infinite", "of another network", "far", "near"],
)
def test_a_scan_without_an_out_of_distribution_score_is_flagged(found: dict[str, Any], code: str | None) -> None:
    """MONAI's own workflow, Label and Deploy run the plain network, which computes no OOD score."""
    ood_detector = OODDetector(np.zeros(1), np.ones((1, 1)), np.ones(1), 1.0, limits={"image": 2.0})
    mask = MetaTensor(within(torch.ones(1, 4, 4, 1)), meta={"spatial_shape": np.array([6, 6])})
    data = {"pred": mask, "slice_logits": np.array([4.0]), **found}
    flags = SummarizePredictiond("pred", Decision(), {"sha256": "a"}, ood_detector)(data)["result"]["flags"]
    assert flags == ([flag(code)] if code else [])


# weights of one task --------------------------------------------------------------------------------------------------


def test_weights_that_learned_no_masks_give_none() -> None:
    found = summary([4.0, np.nan], mask=True, learned=["classification"])
    assert found["tumor_probability"] == pytest.approx(0.982, abs=1e-3) and "volume_ml" not in found
    assert found["flags"] == [flag("mask_not_learned")] and found["model"]["learned"] == ["classification"]
    assert summary([4.0], mask=False, learned=["classification"])["flags"] == [flag("mask_not_learned")]


def test_weights_that_learned_no_classes_give_no_probability() -> None:
    found = summary([4.0, -4.0], mask=True, learned=["segmentation"])
    assert found["tumor_probability"] is found["tumor_detected"] is None and found["state"] == "no_prediction"
    assert found["volume_ml"] > 0 and found["flags"] == [flag("class_not_learned")]
    nothing = summary([np.nan], learned=["segmentation"])
    assert nothing["flags"] == [flag("too_little_brain"), flag("class_not_learned")] and "volume_ml" not in nothing
