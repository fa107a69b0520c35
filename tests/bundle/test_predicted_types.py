"""Weights that tell types of tumors apart: probabilities of the types in files, pictures, service, page and exports."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from bundle import Predictor
from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.errors import UserError
from bundle.packaging.export import export
from bundle.pictures.overlay import overlay_png
from bundle.pictures.views import scan_line, types_of
from bundle.service.responses import response_of
from bundle.service.schemas import Prediction
from bundle.ui.report_sheet import sheet
from bundle.ui.texts import scores_of
from bundle.web.site import write_site
from scripts.core.files import write_json
from scripts.evaluation.type_scores import type_scores
from scripts.inference.decision import Calibration, Decision
from scripts.inference.inferers import BrainSliceInferer
from scripts.inference.postprocessing import SplitPackedd
from scripts.inference.type_probabilities import DescribeTumorTyped, type_probabilities
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights
from tests.bundle.ui.test_page import opened, upload

ROOT = Path(__file__).resolve().parents[2]
TYPES = ["glioma", "meningioma", "pituitary"]
GIVEN = [0.2, 0.7, 0.1]  # probabilities of the types in every scan
ROWS = [
    {"tumor_type": name, "type_probabilities": dict(zip(TYPES, GIVEN, strict=True)), "group": name} for name in TYPES
]


def constant(folder: Path, tumor: float, types: list[str]) -> Path:
    """Weights with constant logits of the tumor and, if there are types, of the types; and their report."""
    torch.manual_seed(1)
    network = multi_task_unet(tumor_types=len(types))
    with torch.no_grad():
        network.head.mlp[-1].weight.zero_()
        network.head.mlp[-1].bias.copy_(torch.tensor([tumor, *np.log(GIVEN[: len(types)])]))
    card: dict[str, Any] = {"network_name": "cpu", "modalities": ["flair"], "trained_on": {}}
    card |= {"tumor_types": types} if types else {}
    folder.mkdir()
    card["sha256"] = save_weights(network, folder / "model.pt")
    report = {"schema_version": 1, "model": card, "decision": {}, "scored": "here", "classification": {}}
    report |= {"segmentation": {"mean": {"ci95": {}}, "patients_n": 0}}
    write_json(folder / "report.json", report | ({"tumor_types": {"kaggle": type_scores(ROWS, 0)}} if types else {}))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        "tumor": constant(place / "tumor", 2.0, TYPES),
        "no_tumor": constant(place / "no_tumor", -5.0, TYPES),
        "uncertain": constant(place / "uncertain", -0.5, TYPES),
        "untyped": constant(place / "untyped", 2.0, []),
    }


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A picture and a volume."""
    place = tmp_path_factory.mktemp("scans")
    write_volumes(place / "brats", 1, slices=10, side=112, spacing_mm=5.0)
    write_images(place / "kaggle", 1)
    return [next((place / "kaggle").rglob("PHANTOM*")), next((place / "brats").rglob("*_flair.nii.gz"))]


def test_a_detected_tumor_has_the_probability_of_each_type(models: dict[str, Path], scans: list[Path]) -> None:
    for scan in scans:
        for state, model in models.items():
            result = Predictor(model, device="cpu").predict(scan)["result"]
            if state == "tumor":
                assert list(result["tumor_type"]) == TYPES and sum(result["tumor_type"].values()) == pytest.approx(1.0)
                assert list(result["tumor_type"].values()) == pytest.approx(GIVEN, abs=1e-5)
            else:
                assert "tumor_type" not in result, "only of a tumor, and of weights that tell types apart"
            assert result["state"] == state.replace("untyped", "tumor")


def test_other_outputs_stand_beside_the_types(models: dict[str, Path], scans: list[Path]) -> None:
    predictor = Predictor(models["tumor"], device="cpu")
    found = predictor.predict(scans[1], include_cam=True, include_uncertainty=True)
    shape = found["pred"].shape
    assert found["cam"].shape == found["mask_deviation"].shape == found["probability"].shape == shape
    assert found["result"]["tumor_type"] == predictor.predict(scans[1])["result"]["tumor_type"]
    assert len(found["result"]["slice_deviations"]) == shape[-1]


def test_the_types_of_a_volume_are_the_mean_over_its_slices_with_a_tumor() -> None:
    logits = np.log([[0.6, 0.2, 0.1, 0.9], [0.4, 0.8, 0.9, 0.1]])
    known = np.array([0.9, 0.7, 0.2, np.nan])
    assert type_probabilities(logits, known, 0.5) == pytest.approx([0.4, 0.6])
    assert type_probabilities(logits, known, 0.95) == pytest.approx([0.6, 0.4]), "else the highest"
    assert type_probabilities(logits, known, 0.0) == pytest.approx([0.3, 0.7]), "none without a prediction"


def test_types_are_chosen_by_calibrated_probabilities() -> None:
    result = {"state": "tumor", "threshold": 0.4}
    data = {"result": result, "slice_logits": np.array([2.0, -0.5]), "type_logits": np.log([[0.2, 0.6], [0.8, 0.4]])}
    cold, warm = Decision(), Decision(volume=Calibration(temperature=2.0))
    alone, both = (
        DescribeTumorTyped("type_logits", TYPES[:2], rule)(data)["result"]["tumor_type"] for rule in (cold, warm)
    )
    assert (alone, both) == ({"glioma": 0.2, "meningioma": 0.8}, {"glioma": 0.4, "meningioma": 0.6})
    del data["type_logits"]
    assert DescribeTumorTyped("type_logits", [], cold)(data)["result"] is result
    with pytest.raises(ValueError, match="'cyst' is no tumor type"):
        DescribeTumorTyped("type_logits", ["glioma", "cyst"], cold)


def test_skipped_slices_have_no_types() -> None:
    inferer = BrainSliceInferer(min_brain_pixels=10, tumor_types=TYPES)
    network = multi_task_unet(tumor_types=3, packed=True).eval()
    image = torch.full((1, 1, 64, 64, 3), -4.0)
    with torch.no_grad():
        nothing = inferer(image, network)
        image[..., 16:48, 16:48, 1] = 0.0
        packed = inferer(image, network)
    assert nothing.shape == packed.shape == (1, 5, 64, 64, 3) and nothing[:, 1:].isnan().all()
    image_of = MetaTensor(image[0], affine=np.eye(4))
    split = SplitPackedd(tumor_types=TYPES)({"pred": packed[0], "image": image_of})
    assert split["type_logits"].shape == (3, 3)
    assert np.isfinite(split["type_logits"]).all(axis=0).tolist() == [False, True, False]
    assert split["type_logits"][:, 1] == pytest.approx(packed[0, 2:, 0, 0, 1].numpy())
    assert "type_logits" not in SplitPackedd()({"pred": packed[0, :2], "image": image_of})


def test_predict_writes_and_prints_the_types(
    models: dict[str, Path], scans: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(scans[0]), "--model", str(models["tumor"]), "--output", str(tmp_path / "p")]) == 0
    assert "meningioma 0.70" in capsys.readouterr().out
    result = json.loads(next(path for path in (tmp_path / "p").glob("*.json") if path.stem != "index").read_text())
    assert result["tumor_type"] == pytest.approx(dict(zip(TYPES, GIVEN, strict=True)), abs=1e-5)
    schema = json.loads((ROOT / "docs" / "schemas" / "prediction.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(result)
    plain = {"state": "tumor", "tumor_probability": 0.9, "flags": [{"code": "contrast"}], "volume_ml": 1.0}
    assert scan_line("x", plain, 1) == "tumor          0.90     1.0 ml  x  contrast"
    typed = {**plain, "tumor_type": {"glioma": 0.9, "pituitary": 0.1}}
    assert scan_line("x", typed, 1).endswith("x  glioma 0.90; contrast")


def test_overlay_service_and_page_name_the_types(
    models: dict[str, Path], scans: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(models["tumor"], device="cpu")
    words: list[str] = []
    monkeypatch.setattr("bundle.pictures.overlay.text", lambda picture, line, *place: words.append(line))
    found = predictor.predict(scans[0])
    Image.open(BytesIO(overlay_png(found)))
    assert "type among tumors: meningioma 0.70" in words
    words.clear()
    overlay_png(Predictor(models["untyped"], device="cpu").predict(scans[0]))
    assert not any("type" in line for line in words)
    answer = response_of(predictor, predictor.read(scans[0]), False, False).json()
    assert Prediction(**answer).tumor_type == found["result"]["tumor_type"]
    assert types_of(found["result"]) == ["meningioma 0.70", "glioma 0.20", "pituitary tumor 0.10"]
    told = {"input": "x.png", "input_sha256": "0" * 64, **found["result"]}
    typed = sheet(told, Image.new("RGB", (64, 64)), ["one"], None, "today")
    del told["tumor_type"]
    assert typed != sheet(told, Image.new("RGB", (64, 64)), ["one"], None, "today")
    assert "| Types of tumors in kaggle, n = 3: macro ROC-AUC | 0.50 |" in scores_of(predictor.describe())


@pytest.mark.parametrize(("state", "shown"), [("tumor", True), ("no_tumor", False), ("untyped", False)])
def test_the_page_says_that_a_type_is_no_diagnosis(
    state: str, shown: bool, models: dict[str, Path], scans: list[Path]
) -> None:
    with opened(models[state]) as found:
        text = upload(found.page, scans[0].read_bytes(), "x.png")
    words = "Type among tumors: meningioma 0.70, glioma 0.20, pituitary tumor 0.10; not a diagnosis."
    assert (words in text) is shown and ("Type among" in text) is shown


@pytest.mark.parametrize("name", ["ts", "onnx"])
def test_an_exported_network_tells_the_same_types(name: str, models: dict[str, Path], scans: list[Path]) -> None:
    export(name, models["tumor"])
    with_export = Predictor(models["tumor"], runtime=name).predict(scans[0])["result"]
    assert with_export["tumor_type"] == pytest.approx(dict(zip(TYPES, GIVEN, strict=True)), abs=1e-4)


def test_info_names_the_types_and_their_scores(models: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(models["tumor"])]) == 0
    out = capsys.readouterr().out
    assert "tells glioma, meningioma, pituitary apart" in out
    assert "types of tumors in kaggle: macro ROC-AUC 0.500, balanced accuracy 0.333 (n = 3)" in out
    assert main(["info", "--model", str(models["untyped"])]) == 0
    assert "apart" not in capsys.readouterr().out


def test_other_types_than_the_weights_are_one_line(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "kaggle", 12)
    two = ["--tumor-types", "glioma,pituitary"]
    start = ["pipeline", "--images", str(tmp_path / "kaggle"), "--output", str(tmp_path / "run")]
    for options, reason in (
        ([*two, "--initial-weights", str(models["untyped"])], "tells no types apart, not glioma,pituitary"),
        ([*two, "--initial-weights", str(models["tumor"])], "pituitary apart, not glioma,pituitary"),
        (two, "--tumor-types: no training case tells the type glioma"),
        (["--volume-types", "brats=glioma"], "'brats', which is no source of volumes"),
    ):
        assert main([*start, *options]) == 2
        assert reason in capsys.readouterr().err.splitlines()[-1]
    for option in (["--tumor-types", "cyst,glioma"], ["--tumor-types", "glioma"], ["--volume-types", "brats"]):
        with pytest.raises(SystemExit):
            main([*start, *option])
        assert option[0] in capsys.readouterr().err


def test_the_browser_app_refuses_weights_with_types(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tell types apart"):
        write_site(Predictor(models["tumor"], device="cpu"), tmp_path / "site")
    assert not (tmp_path / "site").exists()
