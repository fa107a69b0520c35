"""One door for paths, bytes and arrays; one pass for everything that is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bundle import Predictor
from bundle.arrays import as_file
from bundle.errors import UserError
from bundle.intake import Intake, IntakeError
from bundle.predict_files import predict_files
from bundle.weights import trained_as
from scripts.core.messages import flag, report_note
from scripts.networks.multitask_unet import multi_task_unet
from tests.hostile import OK, Case, head, sample

ROOT = Path(__file__).resolve().parents[2]
FOUR = ["flair", "t1", "t1ce", "t2"]


@pytest.fixture(scope="module")
def predictor(pipeline_run: Path) -> Iterator[Predictor]:
    with Intake() as intake:  # with the limits of a service
        yield Predictor(pipeline_run / "models" / "model.pt", intake=intake)


@pytest.fixture(scope="module")
def volume(synthetic: Path) -> Path:
    return synthetic / "brats" / "PHANTOM_001" / "PHANTOM_001_flair.nii.gz"


@pytest.fixture(scope="module")
def picture(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gray PNG."""
    path = tmp_path_factory.mktemp("pictures") / "scan.png"
    Image.open(sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0]).convert("L").save(path)
    return path


def test_path_bytes_and_array_get_the_same_prediction(predictor: Predictor, picture: Path) -> None:
    by_path, by_content = predictor.predict(picture), predictor.predict(picture.read_bytes())
    by_pixels = predictor.predict(np.asarray(Image.open(picture)))
    assert by_path["result"] == by_content["result"] and torch.equal(by_path["pred"], by_content["pred"])
    assert by_pixels["result"]["tumor_probability"] == pytest.approx(by_path["result"]["tumor_probability"], abs=1e-3)


def test_an_array_with_spacing_gets_an_area(predictor: Predictor, picture: Path) -> None:
    pixels = np.asarray(Image.open(picture)).astype(np.float32)
    side = 190.0 / max(pixels.shape)  # the size of a head
    prediction = predictor.predict(pixels, spacing_mm=(side, 0.9 * side))
    assert prediction["result"]["area_mm2"] == pytest.approx(float(prediction["pred"].sum()) * 0.9 * side**2, rel=1e-4)
    assert prediction["pred"].shape[1:3] == pixels.shape


def test_a_volume_array_is_predicted_like_its_file(predictor: Predictor, volume: Path) -> None:
    import nibabel as nib

    image = nib.as_closest_canonical(nib.load(volume))  # R, A, S
    turned = np.asarray(image.dataobj).transpose(1, 0, 2)[::-1, ::-1]  # P, L, S
    spacing = np.asarray(image.header.get_zooms())[[1, 0, 2]]
    by_file, by_array = predictor.predict(volume)["result"], predictor.predict(turned, spacing_mm=spacing)["result"]
    assert by_array["volume_ml"] == pytest.approx(by_file["volume_ml"], rel=1e-3)
    assert by_array["tumor_probability"] == pytest.approx(by_file["tumor_probability"], abs=1e-3)


def test_cam_probability_and_deviation_are_on_the_scans_grid(predictor: Predictor, volume: Path) -> None:
    plain, full = predictor.predict(volume), predictor.predict(volume, include_cam=True, include_uncertainty=True)
    for name in ("probability", "cam", "mask_deviation"):
        assert full[name].shape == plain["pred"].shape and full[name].isfinite().all(), name
        assert name not in plain
    assert (full["probability"][full["pred"] > 0] >= 0.5).all() and full["mask_deviation"].max() <= 0.5
    looked = [p is not None for p in full["result"]["slice_probabilities"]]
    assert [d is not None for d in full["result"]["slice_deviations"]] == looked
    same = {name: value for name, value in full["result"].items() if name != "slice_deviations"}
    assert same == plain["result"]


def test_each_slice_passes_the_encoder_once_for_all_outputs(
    predictor: Predictor, volume: Path, passes: list[int]
) -> None:
    """Each slice passes the encoder once."""
    prediction = predictor.predict(volume, include_cam=True, include_uncertainty=True)["result"]
    assert sum(passes) == sum(p is not None for p in prediction["slice_probabilities"])


def test_the_cam_is_of_the_predicted_pixels_and_not_masked_by_the_head(
    weights_with_cam: Path, picture: Path, each_slice_once: None
) -> None:
    """The CAM is that of the network's input, unchanged."""
    from scripts.networks.cam import predict_with_cam

    predictor = Predictor(weights_with_cam)
    image, parts = predictor.read(picture), predictor.parts
    data = parts["preprocessing"]({"image": image}, start=1)
    found = predict_with_cam(predictor.network, data["image"].as_tensor()[None, ..., 0])
    planes = [found["seg"][0], found["cls"][0, :, None, None].expand_as(found["seg"][0]), found["cam"][0]]
    data |= {"pred": torch.cat(planes)[..., None], "planes": ["mask", "tumor", "cam"]}
    expected, prediction = parts["postprocessing"](data), predictor.predict(picture, include_cam=True)
    assert torch.allclose(prediction["cam"], expected["cam"], atol=1e-4)
    assert prediction["result"]["tumor_probability"] == pytest.approx(expected["result"]["tumor_probability"], abs=1e-5)
    assert prediction["cam"][image < 0.1 * image.max()].sum() > 0.01 * prediction["cam"].sum() > 0


@pytest.mark.parametrize("state", ["no_tumor", "tumor"])
def test_the_weights_report_decides_and_no_mask_is_inverted(
    state: str, constant_weights: dict[str, Path], picture: Path, volume: Path
) -> None:
    """A mask of the whole head or an empty one, at thresholds that differ from all defaults."""
    predictor = Predictor(constant_weights[state])
    for scan in (picture, volume):
        prediction = predictor.predict(scan)
        looked_at = predictor.read(scan)[0] > 0
        assert (prediction["pred"][0][looked_at] > 0).float().mean() == pytest.approx(
            float(state == "no_tumor"), abs=0.2
        )
        result = prediction["result"]
        assert (result["state"], result["tumor_detected"]) == (state, state == "tumor")
        assert (flag("mask_too_large") in result["flags"]) is (state == "no_tumor")
        assert {"tumor_without_mask", "mask_without_tumor"} & {found["code"] for found in result["flags"]}


def test_the_report_is_of_the_loaded_weights_even_if_the_file_is_replaced(
    pipeline_run: Path, constant_weights: dict[str, Path], tmp_path: Path
) -> None:
    """Scores are those of the loaded weights."""
    for name in ("model.pt", "report.json"):
        shutil.copy(pipeline_run / "models" / name, tmp_path)
    predictor = Predictor(tmp_path / "model.pt")
    described, report = predictor.describe(), json.loads((tmp_path / "report.json").read_text())
    assert described["model"]["sha256"] == report["model"]["sha256"]
    assert described["decision"] == report["decision"]
    assert described["scores"]["segmentation"]["mean"] == report["segmentation"]["mean"], "with its intervals"
    for name in ("model.pt", "report.json"):
        shutil.copy(constant_weights["tumor"].with_name(name), tmp_path)
    assert predictor.describe() == described


def test_without_a_report_of_these_weights_no_scores_are_given(
    weights_with_cam: Path, pipeline_run: Path, tmp_path: Path
) -> None:
    """The report beside them belongs to other weights."""
    shutil.copy(weights_with_cam, tmp_path)
    shutil.copy(pipeline_run / "models" / "report.json", tmp_path)
    predictor = Predictor(tmp_path / "model.pt")
    described = predictor.describe()
    assert described["scores"] == {} and described["decision"]["image"]["evidence"] == {}
    assert described["model"]["report"] == report_note("of_other_weights")
    assert (
        flag("report_of_other_weights") in predictor.predict(np.full((64, 64), 100, dtype=np.uint8))["result"]["flags"]
    )


@pytest.fixture
def four_channels(tmp_path: Path) -> Path:
    """Weights of four modalities, as a training that was run step by step leaves them."""
    torch.save(multi_task_unet("cpu", in_channels=4).state_dict(), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps({"network_name": "cpu", "modalities": FOUR}))
    return tmp_path / "model.pt"


def test_modalities_are_read_from_the_trainings_settings(four_channels: Path) -> None:
    predictor = Predictor(four_channels)
    assert predictor.describe()["modalities"] == FOUR
    assert predictor.predict([as_file(head(160, 160))] * 4)["result"]["tumor_probability"] is not None


def test_the_stated_modalities_match_the_networks_channels(
    four_channels: Path,
) -> None:
    report = {"model": {"sha256": "0" * 64, "modalities": FOUR[::-1]}}
    four_channels.with_name("report.json").write_text(json.dumps(report))
    described = Predictor(four_channels).describe()
    assert described["modalities"] == FOUR[::-1] and described["model"]["report"] == report_note("of_other_weights")


@pytest.mark.parametrize(
    ("report", "config", "told"),
    [
        ({"network_name": "base", "modalities": ["t1"]}, {"network_name": "cpu", "modalities": FOUR}, ("base", ["t1"])),
        ({"network_name": "base"}, {"network_name": "cpu", "modalities": FOUR}, ("base", FOUR)),
        ({}, {"network_name": "large", "modalities": FOUR}, ("large", FOUR)),
        ({"network_name": "$print()", "modalities": {"_target_": "print"}}, {}, (None, None)),
        ({"network_name": "@device", "modalities": ["$print()"]}, {"network_name": "cpu"}, ("cpu", None)),
        ([], "no settings", (None, None)),
    ],
)
def test_the_report_has_priority_over_training_settings_and_is_not_evaluated(
    report: Any, config: Any, told: tuple[Any, Any], tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text(json.dumps({"model": report}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = trained_as(tmp_path / "model.pt")
    assert (found.get("network_name"), found.get("modalities")) == told
    assert trained_as(tmp_path / "model.pt", "named") == {**found, "network_name": "named"}


@pytest.mark.parametrize("case", sample(40), ids=str)
def test_malformed_files_get_an_error_code_and_valid_ones_a_prediction(
    case: Case, predictor: Predictor, picture: Path
) -> None:
    expected = predictor.predict(picture)["result"]
    try:
        predictor.predict(case.bytes())
        found = OK
    except IntakeError as error:
        found = error.code
        assert "\n" not in str(error) and str(ROOT) not in str(error)
    assert found in case.expected
    assert predictor.predict(picture)["result"] == expected


@pytest.mark.parametrize(
    ("array", "spacing", "reason"),
    [
        (np.zeros((2, 2, 2, 2)), None, r"\(H, W\) or \(H, W, D\)"),
        (np.zeros((4, 4), dtype=complex), None, r"of numbers is expected"),
        (np.zeros((4, 0)), None, r"of numbers is expected"),
        (np.full((4, 4), np.nan), None, "not finite"),
        (np.full((4, 4), np.inf), (1.0, 1.0), "not finite"),
        (np.zeros((4, 4, 4)), None, "a volume needs spacing_mm"),
        (np.zeros((4, 4)), (1.0,), "one positive number for each of 2 axes"),
        (np.zeros((4, 4)), (1.0, -1.0), "one positive number for each of 2 axes"),
    ],
)
def test_invalid_arrays_are_refused(array: np.ndarray, spacing: tuple[float, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        as_file(array, spacing)


def test_a_constant_array_gets_no_prediction(predictor: Predictor, picture: Path) -> None:
    assert predictor.predict(np.full((64, 64), 7))["result"]["state"] == "no_prediction"
    with pytest.raises(UserError, match="spacing_mm is only for arrays"):
        predictor.predict(picture, spacing_mm=(1, 1))


def test_an_exported_network_runs_on_the_processor_also_beside_a_gpu(
    picture: Path, monkeypatch: pytest.MonkeyPatch, each_slice_once: None
) -> None:
    seen = []

    def network(image: torch.Tensor) -> torch.Tensor:
        seen.append(image.device.type)
        return torch.zeros(len(image), 2, *image.shape[2:])

    monkeypatch.setattr("bundle.packaging.runtimes.load_exported", lambda name, weights: network)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for device in (None, "cpu"):
        assert Predictor(runtime="onnx", device=device).predict(picture)["result"]["tumor_probability"] is not None
    assert seen == ["cpu", "cpu"]
    with pytest.raises(UserError, match=r"device 'cuda' cannot be used: exported networks \(onnx\) run on the CPU"):
        Predictor(runtime="onnx", device="cuda")


def test_predictions_by_other_thresholds_are_made_again(pipeline_run: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("model.pt", "report.json"):
        shutil.copy(pipeline_run / "models" / name, tmp_path)

    def prediction(overwrite: bool = False) -> dict[str, Any]:
        return dict(
            predict_files(Predictor(tmp_path / "model.pt"), [picture], tmp_path / "out", overwrite)[str(picture)]
        )

    files = prediction()
    assert prediction() == files, "kept"
    report = json.loads((tmp_path / "report.json").read_text())
    report["decision"]["image"] |= {"temperature": 7.0}  # a threshold that stays is no proof of the same rules
    (tmp_path / "report.json").write_text(json.dumps(report))
    before = json.loads((tmp_path / "out" / files["json"]).read_text())
    assert "exists already" in prediction()["error"]
    assert prediction(overwrite=True) == files == prediction()
    after = json.loads((tmp_path / "out" / files["json"]).read_text())
    assert after["threshold"] == before["threshold"] and after["tumor_probability"] != before["tumor_probability"]


def test_importing_the_application_loads_neither_torch_nor_monai() -> None:
    code = "import sys, bundle, bundle.intake; print(sorted({'torch', 'monai', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_colored_picture_is_predicted_with_a_warning(predictor: Predictor, picture: Path, tmp_path: Path) -> None:
    gray = np.asarray(Image.open(picture))
    tinted = np.stack([gray, gray // 2, gray // 4], axis=2)
    Image.fromarray(tinted).save(tmp_path / "food.png")
    flags = predictor.predict(tmp_path / "food.png")["result"]["flags"]
    assert flag("image_colored") in flags
    Image.fromarray(np.stack([gray] * 3, axis=2)).save(tmp_path / "gray.png")
    assert flag("image_colored") not in predictor.predict(tmp_path / "gray.png")["result"]["flags"]


@pytest.mark.parametrize("asked", [{}, {"include_cam": True, "include_uncertainty": True}], ids=str)
def test_the_released_weights_give_no_prediction_where_there_is_no_brain(asked: dict[str, Any]) -> None:
    """The released network has one output plane more, for the OOD score."""
    found = Predictor().predict(np.zeros((64, 64), dtype=np.uint8), **asked)
    assert found["result"]["state"] == "no_prediction" and found["result"]["tumor_probability"] is None
    assert flag("too_little_brain") in found["result"]["flags"]
    assert found["probabilities"].tolist() == [0.0, 0.0] and not found["pred"].any()
    assert ("cam" in found) == bool(asked)


def test_an_unwritable_output_folder_is_named_first(weights_with_cam: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scans" / "a.png"
    scan.parent.mkdir()
    Image.fromarray(np.full((64, 64), 100, dtype=np.uint8)).save(scan)
    (tmp_path / "file").write_text("kept")
    predictor = Predictor(weights_with_cam)
    with pytest.raises(UserError, match="file: cannot be written to: File exists"):
        predict_files(predictor, [scan], tmp_path / "file")
    with pytest.raises(UserError, match="its scans are in the output folder"):
        predict_files(predictor, [scan.parent], scan.parent)
    assert (tmp_path / "file").read_text() == "kept" and [p.name for p in scan.parent.iterdir()] == ["a.png"]
