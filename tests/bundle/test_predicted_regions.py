"""Weights that segment BraTS's three regions: masks of codes, their sizes, files and pictures."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from hostile.dicoms import head, mr_dataset, written
from PIL import Image

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.core.regions import REGIONS
from bundle.datasets.phantoms import write_volumes
from bundle.pictures.overlay import overlay_png
from bundle.pictures.views import sizes_of
from bundle.service.responses import response_of
from bundle.service.schemas import Prediction
from bundle.ui.volume_view import viewer_arguments
from scripts.core.files import write_json
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights

ROOT = Path(__file__).resolve().parents[2]
SEQUENCES, NAMES = ["flair", "t1", "t1ce", "t2"], ["wt", "tc", "et"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights with a report."""
    path = tmp_path_factory.mktemp("regions") / "model.pt"
    torch.manual_seed(1)
    network = multi_task_unet(in_channels=4, mask_channels=3)
    with torch.no_grad():  # so that every region is predicted somewhere
        network.decoder.final.weight[:4] = 0.0
        network.decoder.final.bias.copy_(torch.tensor([1.0, 0.0, 0.0]).repeat_interleave(4))
    sha256 = save_weights(network, path)
    card = {"sha256": sha256, "network_name": "cpu", "modalities": SEQUENCES, "regions": NAMES, "trained_on": {}}
    write_json(path.with_name("report.json"), {"schema_version": 1, "model": card, "decision": {}})
    return path


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    return write_volumes(folder, 1, slices=10, side=112, spacing_mm=5.0, modalities=SEQUENCES)[0]


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor(model, device="cpu")


@pytest.fixture(scope="module")
def whole(predictor: Predictor, case: Path) -> dict[str, Any]:
    """The prediction of all sequences."""
    return predictor.predict(files_of(case), include_cam=True, include_uncertainty=True)


def files_of(case: Path, without: str = "") -> list[Path | None]:
    return [None if name == without else case / f"{case.name}_{name}.nii.gz" for name in SEQUENCES]


def test_the_mask_holds_the_codes_of_brats_and_each_region_its_volume(whole: dict[str, Any]) -> None:
    labels, result = whole["pred"].as_tensor().numpy(), whole["result"]
    assert set(np.unique(labels)) == {0, 1, 2, 4} and labels.shape[0] == 1
    regions = {one["name"]: one for one in result["regions"]}
    assert {name: one["codes"] for name, one in regions.items()} == {"wt": [2, 1, 4], "tc": [1, 4], "et": [4]}
    assert [one["title"] for one in result["regions"]] == ["whole tumor", "tumor core", "enhancing tumor"]
    for one in regions.values():
        assert one["volume_ml"] == pytest.approx(np.isin(labels, one["codes"]).sum() * 5.0 / 1000)
    assert regions["wt"]["volume_ml"] == result["volume_ml"] == pytest.approx((labels > 0).sum() * 5.0 / 1000)
    assert "regions_withheld" not in {flag["code"] for flag in result["flags"]}


def test_probability_and_deviation_are_of_the_whole_tumor(whole: dict[str, Any]) -> None:
    labels, probability = whole["pred"].as_tensor().numpy(), whole["probability"].as_tensor().numpy()
    assert probability.shape == whole["mask_deviation"].shape == labels.shape
    assert (probability[labels > 0] > 0.5).all()


@pytest.mark.parametrize("without", SEQUENCES)
def test_without_a_sequence_the_whole_tumor_alone_is_given(predictor: Predictor, case: Path, without: str) -> None:
    found = predictor.predict(files_of(case, without))
    result = found["result"]
    assert set(found["pred"].as_tensor().unique().tolist()) == {0, 2}, "no core, by the codes of BraTS"
    assert [one["name"] for one in result["regions"]] == ["wt"]
    assert result["regions"][0]["volume_ml"] == result["volume_ml"] > 0
    assert "regions_withheld" in {flag["code"] for flag in result["flags"]}


def test_a_scan_of_unknown_sequence_gets_the_whole_tumor_alone(predictor: Predictor, case: Path) -> None:
    found = predictor.predict((case / f"{case.name}_flair.nii.gz").read_bytes())
    assert [one["name"] for one in found["result"]["regions"]] == ["wt"]
    assert "regions_withheld" in {flag["code"] for flag in found["result"]["flags"]}


def test_predict_writes_one_mask_with_its_codes(model: Path, case: Path, whole: dict[str, Any], tmp_path: Path) -> None:
    command = ["predict", str(case), "--model", str(model), "--output", str(tmp_path)]
    assert main(command) == 0
    result = json.loads((tmp_path / f"{case.name}.json").read_text())
    image: Any = nib.load(tmp_path / f"{case.name}_mask.nii.gz")
    assert image.get_data_dtype() == np.uint8 and not image.header.get_slope_inter()[0]
    assert np.array_equal(np.asarray(image.dataobj), whole["pred"].as_tensor()[0].numpy())
    assert result["regions"] == whole["result"]["regions"]
    schema = json.loads((ROOT / "docs" / "schemas" / "prediction.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(result)
    assert main(command) == 0, "kept, not refused"


def test_a_picture_of_each_sequence_has_gray_levels_of_the_codes(predictor: Predictor, tmp_path: Path) -> None:
    scan = head(128, 112).astype(np.uint8)
    paths = [tmp_path / f"{name}.png" for name in SEQUENCES]
    for path in paths:
        Image.fromarray(scan).save(path)
    found = predictor.predict(paths)
    levels = np.asarray(Image.open(BytesIO(predictor.files(found)["mask.png"])))
    assert np.array_equal(levels, found["pred"].as_tensor()[0, :, :, 0].numpy() * 63)


def test_the_overlay_has_a_color_for_each_region_and_a_legend(
    whole: dict[str, Any], predictor: Predictor, case: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: list[str] = []
    monkeypatch.setattr("bundle.pictures.overlay.text", lambda picture, line, *place: words.append(line))
    picture = np.asarray(Image.open(BytesIO(overlay_png(whole))))
    for region in REGIONS.values():
        assert (picture == region.color).all(axis=2).any(), region.title
    assert words[-4:-1] == ["orange: whole tumor", "blue: tumor core", "pink: enhancing tumor"]
    words.clear()
    part = np.asarray(Image.open(BytesIO(overlay_png(predictor.predict(files_of(case, "t1"))))))
    assert words[-2] == "orange: whole tumor"
    assert not (part == REGIONS["tc"].color).all(axis=2).any()


def test_sizes_in_words_name_the_regions(whole: dict[str, Any]) -> None:
    text = sizes_of(whole["result"])
    assert text is not None and "ml (tumor core " in text and ", enhancing tumor " in text
    assert sizes_of({"volume_ml": 2.0}) == "2.0 ml"


def test_service_and_viewer_name_the_regions(predictor: Predictor, case: Path, whole: dict[str, Any]) -> None:
    answer = response_of(predictor, predictor.read(files_of(case)), False, False).json()
    checked = Prediction(**answer)
    assert checked.regions == whole["result"]["regions"]
    planes = {"scan": whole["scan"].as_tensor().numpy()[:1], "pred": whole["pred"].as_tensor().numpy()}
    shown = {"id": "x", "result": whole["result"], "planes": planes, "edges": (), "files": {"cam.nii.gz": b""}}
    affine = np.asarray(whole["pred"].meta["original_affine"], dtype=np.float64)
    arguments = viewer_arguments({**shown, "affine": affine})
    colors = {image["name"]: image.get("color") for image in arguments["images"]}
    assert colors["tc"] == REGIONS["tc"].color and colors["et"] == REGIONS["et"].color
    core: Any = nib.Nifti1Image.from_bytes(gzip.decompress(arguments["tc"]))
    assert np.array_equal(np.asarray(core.dataobj) > 0, np.isin(planes["pred"][0], [1, 4]))


def test_a_dicom_series_of_one_sequence_gets_one_segment(predictor: Predictor, tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    references = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5", "SeriesDescription": "FLAIR"}
    for index in range(4):
        data = written(mr_dataset(head(128, 112).astype(np.uint16), position=index * 5.0, **references))
        (tmp_path / f"{index}.dcm").write_bytes(data)
    found = predictor.predict(tmp_path)
    seg = highdicom.seg.segread(BytesIO(predictor.dicom_seg(found, tmp_path)))
    assert [one["name"] for one in found["result"]["regions"]] == ["wt"]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["Whole tumor"]


def test_weights_of_one_region_say_nothing_of_regions(pipeline_run: Path, synthetic: Path) -> None:
    found = Predictor(pipeline_run / "models" / "model.pt").predict(next((synthetic / "brats").rglob("*_flair.nii.gz")))
    assert "regions" not in found["result"] and "highest_code" not in found["pred"].meta


def test_info_names_the_regions(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(model)]) == 0
    assert "segments wt, tc, et" in capsys.readouterr().out


def test_other_regions_than_the_weights_are_one_line(
    model: Path, case: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four = ["--modalities", ",".join(SEQUENCES)]
    for options, reason in (
        ([*four, "--initial-weights", str(model), "--regions", "wt"], "segments wt,tc,et, not wt"),
        (["--modalities", "flair,t1", "--regions", "wt,tc,et"], "--regions: tc (tumor core) needs t1ce"),
        (["--regions", "wt,tc"], "--regions: tc (tumor core) needs t1ce"),
    ):
        words = ["pipeline", "--volumes", str(case.parent), *options, "--output", str(tmp_path / "run")]
        assert main(words) == 2
        assert reason in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        main(["pipeline", "--volumes", "x", "--regions", "tc"])
    assert "choose wt, or wt, tc, or wt, tc, et" in capsys.readouterr().err
