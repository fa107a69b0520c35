"""The page without a browser: its texts, its images, the PDF, and one run with phantoms."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bundle import NOTICE, Predictor
from bundle.core.messages import STATES, flag, report_note
from bundle.errors import UserError
from bundle.intake import Limits
from bundle.intake.limits import MIB
from bundle.pictures.drawing import CAM_COLOR, MASK_COLOR, outside_head, overlay, upright, windowed
from bundle.pictures.views import size_of
from bundle.service import Settings
from bundle.ui.launch import OPTIONS, TITLE, launch, titled
from bundle.ui.report_sheet import sheet
from bundle.ui.texts import evidence, limitations, rule_of
from scripts.networks.multitask_unet import multi_task_unet
from tests.hostile import sample
from tests.hostile.cases import head

PAGE = Path(__file__).resolve().parents[3] / "bundle" / "ui" / "page.py"
FOUND = {
    "sensitivity": 0.95,
    "specificity": 0.5,
    "n": 201,
    "at_display_threshold": {"sensitivity": 0.9, "specificity": None},
}
KNOWN = {"temperature": 1.0, "operating_point": 0.26, "fitted_on": "201 images", "evidence": FOUND}
UNKNOWN = {"temperature": 1.0, "operating_point": 0.5, "fitted_on": "nothing: defaults", "evidence": {}}
BY_AREA = [
    {"low_mm2": 50.0, "high_mm2": 200.0, "positives": 28, "sensitivity": 0.6},
    {"low_mm2": 2000.0, "high_mm2": None, "positives": 9, "sensitivity": 1.0},
]
BRATS = {"kind": "volume", "n": 60, "by_tumor_area": BY_AREA}
DESCRIBED: dict[str, Any] = {
    "decision": {"image": KNOWN, "volume": UNKNOWN, "display_threshold": 0.3},
    "scores": {"classification": {"kaggle": {"kind": "image"}, "brats": BRATS}},
    "scored": "cross-validation",
}
VOLUME = {"kind": "volume", "slice_probabilities": [0.1, 0.9], "slice_axis": 2, "flags": []}
PREDICTED: dict[str, Any] = {
    **VOLUME,
    **{"input": "case_1.nii.gz", "input_sha256": "f" * 64, "tumor_probability": 0.5, "threshold": 0.345},
    "model": {"version": "0.2.0", "sha256": "0" * 64, "report": report_note("matching")},
}


def test_a_used_port_or_an_impossible_one_is_one_line(pipeline_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = pipeline_run / "models" / "model.pt"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for port in (taken.getsockname()[1], 99999):
            with pytest.raises(UserError, match=r"choose another with --port$"):
                launch(Settings(model, port=port))
    assert capsys.readouterr().out == "", "no address that does not answer"


def test_the_title_is_ours_before_the_script_has_run() -> None:
    import streamlit

    html = titled(Path(streamlit.__file__).parent)
    assert html.count(f"<title>{TITLE}</title>") == 1 and "<title>Streamlit" not in html


def test_evidence_gives_sensitivity_specificity_and_n_or_says_that_they_are_unknown() -> None:
    _, operating, display = evidence("image", DESCRIBED)
    assert operating == "At the operating point, 0.26: sensitivity 95%, specificity 50%, n = 201."
    assert display == "At the display threshold, 0.30: sensitivity 90%, specificity unknown, n = 201."
    assert evidence("volume", DESCRIBED) == [
        "There is no report for these weights: sensitivity and specificity are unknown."
    ]
    assert size_of({}) is None


def test_evidence_of_volumes_comes_before_that_of_their_slices() -> None:
    """A volume is called at an operating point of its own."""
    patient = {"operating_point": 0.76, "fitted_on": "19 volumes", "evidence": {**FOUND, "n": 19}}
    del patient["evidence"]["at_display_threshold"]
    described = {**DESCRIBED, "decision": {"volume": KNOWN, "patient": patient, "display_threshold": 0.3}}
    of_volumes, operating, of_slices, *points = evidence("volume", described)
    assert (of_volumes, of_slices) == ("Thresholds of volumes: 19 volumes.", "Thresholds of slices: 201 images.")
    assert operating == "At the operating point of volumes, 0.76: sensitivity 95%, specificity 50%, n = 19."
    assert [point[: point.index(":")] for point in points] == [
        "At the operating point of slices, 0.26",
        "At the display threshold of slices, 0.30",
    ]


@pytest.mark.parametrize(("area", "words"), [(60.0, "60%, n = 28"), (5000.0, "100%, n = 9"), (900.0, ""), (None, "")])
def test_limitations_name_flags_the_cam_and_tumors_of_this_size(area: float | None, words: str) -> None:
    limits = limitations({**VOLUME, "flags": [flag("tumor_without_mask")]}, DESCRIBED, 0.5, area)
    assert limits[0] == f"Flag: {flag('tumor_without_mask')['text']}." and limits[1].startswith(
        "50% of the CAM lies outside"
    )
    assert any(limit.startswith("Tumors of") and words in limit for limit in limits) is bool(words)
    assert limits[-1] == "Scores: cross-validation."


@given(codes=st.permutations(["RL", "AP", "SI"]), picks=st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_slice_is_upright_for_any_axes_of_the_file(codes: list[str], picks: list[bool]) -> None:
    """Anterior up, the patient's left on the right."""
    wanted = [pair[int(pick)] for pair, pick in zip(codes, picks, strict=True)]
    world = np.zeros((6, 7, 5))  # R, A, S
    world[5, 6, :] = 1.0  # right, front
    world[0, 6, :] = 2.0  # left, front
    start = nib.orientations.axcodes2ornt(("R", "A", "S"))
    turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(wanted))
    volume = nib.orientations.apply_orientation(world, turn)
    affine = nib.orientations.inv_ornt_aff(turn, world.shape)
    axis = next(number for number, code in enumerate(wanted) if code in "SI")
    shown = upright(np.take(volume, 2, axis=axis), affine, axis)
    assert shown.shape == (7, 6) and shown[0, 0] == 1.0 and shown[0, -1] == 2.0


def test_mask_and_cam_are_overlaid_at_their_place() -> None:
    image, mask, cam = np.tile(np.linspace(0, 1, 32), (32, 1)), np.zeros((32, 32)), np.zeros((32, 32))
    mask[4:12, 4:12], cam[20:30, 20:30] = 1, 1
    shown = np.asarray(overlay(image, mask, cam, 1.0, 1.0))
    assert tuple(shown[4, 6]) == MASK_COLOR and tuple(shown[25, 25]) == CAM_COLOR
    assert len(set(shown[16, 2])) == 1, "the rest is gray"
    plain = np.asarray(overlay(image, mask, cam, 0.0, 0.0))
    assert (plain == plain[:, :, :1]).all()
    assert outside_head(cam, np.where(np.arange(32) < 25, 1.0, 0.0) * np.ones((32, 1))) == pytest.approx(0.5)
    assert outside_head(np.zeros((4, 4)), np.ones((4, 4))) is None


@pytest.mark.parametrize("state", sorted(STATES))
def test_the_pdf_has_one_page_and_is_reproducible(state: str) -> None:
    result = {**PREDICTED, "state": state}
    picture = Image.new("RGB", (40, 40))
    first, again = (sheet(result, picture, ["a limitation " * 30] * 5, 1, "2026-11-30") for _ in range(2))
    assert (
        first.startswith(b"%PDF")
        and first == again
        and first.count(b"/Type /Page\n") + first.count(b"/Type /Page ") == 1
    )


@pytest.mark.parametrize(("state", "probability"), [("no_tumor", 0.88), ("tumor", 0.12), ("uncertain", 0.99)])
def test_the_pdf_shows_the_state_of_the_prediction(
    state: str, probability: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It applies no threshold of its own to the probability."""
    texts: list[str] = []
    monkeypatch.setattr("matplotlib.figure.Figure.text", lambda self, x, y, text, **_: texts.append(text))
    result = {**PREDICTED, "state": state, "tumor_probability": probability}
    sheet(
        result,
        Image.new("RGB", (40, 40)),
        ["At the operating point, 0.34: sensitivity 95%."],
        1,
        "2026-11-30 09:00 UTC",
    )
    assert [title for title, _ in STATES.values() if title in texts] == [STATES[state][0]]
    assert {f"{probability:.2f}", "0.34", NOTICE, "0" * 64} <= set(texts)
    assert {"case_1.nii.gz", "f" * 64, "1 of 0 to 1", "2026-11-30 09:00 UTC"} <= set(texts), "file, hash, slice, date"
    assert "- At the operating point, 0.34: sensitivity 95%." in texts


@contextmanager
def opened(model: Path) -> Iterator[SimpleNamespace]:
    """The page with these weights, with its overlays, downloads and PDFs."""
    import streamlit
    from streamlit.testing.v1 import AppTest

    found = SimpleNamespace(downloads={}, overlays=[], sheets=[])

    def record(*arguments: Any) -> Image.Image:
        found.overlays.append(arguments)
        return overlay(*arguments)

    def offer(_: str, content: Any, name: str, **__: Any) -> None:
        found.downloads[name] = content() if callable(content) else content

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OPTIONS, json.dumps({"model": str(model)}))
        patch.setattr("streamlit.download_button", offer)
        patch.setattr("bundle.ui.picture.overlay", record)
        patch.setattr("bundle.ui.report_sheet.sheet", lambda *arguments: found.sheets.append(arguments) or b"%PDF")
        streamlit.cache_resource.clear()
        found.page = AppTest.from_file(str(PAGE), default_timeout=240).run()
        assert not found.page.exception
        yield found
    streamlit.cache_resource.clear()  # the next page has other weights


def upload(page: Any, content: bytes, name: str = "Case 1.NII.GZ") -> str:
    """Upload a file; return all texts of the page."""
    page.file_uploader(key="files").upload(name, content).run()
    assert not page.exception
    boxes = [*page.info, *page.warning, *page.error, *page.markdown, *page.caption]
    return "\n".join(box.value for box in boxes)


def press(page: Any, label: str) -> None:
    """Press a button of the page."""
    next(button for button in page.button if button.label == label).click().run()
    assert not page.exception


@pytest.fixture(scope="module")
def picture(synthetic: Path) -> bytes:
    return sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0].read_bytes()


@pytest.fixture(scope="module", params=["no_tumor", "tumor"])
def predicted(request: pytest.FixtureRequest, constant_weights: dict[str, Path], picture: bytes) -> SimpleNamespace:
    """A page that has predicted an image, with weights whose report leads to this state."""
    with opened(constant_weights[request.param]) as found:
        found.state, found.model, found.text = (
            request.param,
            constant_weights[request.param],
            upload(found.page, picture),
        )
    found.predictor, found.picture = Predictor(found.model), picture
    found.predicted = found.predictor.predict(picture, include_cam=True)
    return found


def test_the_name_of_an_upload_tells_the_sequence(weights_with_cam: Path, synthetic: Path) -> None:
    """As in `predict`: a volume whose name says T1 gets no prediction; the same content as FLAIR is predicted."""
    content = min((synthetic / "brats").glob("*/*_flair.nii*")).read_bytes()
    with opened(weights_with_cam) as found:
        upload(found.page, content, "P1_t1.nii")
        result = json.loads(found.downloads["P1_t1.json"])
        assert result["sequence"] == {**result["sequence"], "sequence": "t1", "by": "name"}
        assert "other_sequence" in [flag["code"] for flag in result["flags"]] and result["tumor_probability"] is None
    with opened(weights_with_cam) as found:
        upload(found.page, content, "P1_flair.nii")
        result = json.loads(found.downloads["P1_flair.json"])
        assert result["sequence"]["by"] == "name" and result["tumor_probability"] is not None


def test_page_pdf_and_files_show_the_same_state(predicted: SimpleNamespace) -> None:
    assert [state for state, (title, _) in STATES.items() if title in predicted.text] == [predicted.state]
    assert predicted.downloads.keys() == {"Case 1.json", "Case 1.pdf", "Case 1_mask.png", "Case 1_overlay.png"}
    told = {"input": "Case 1.NII.GZ", "input_sha256": hashlib.sha256(predicted.picture).hexdigest()}
    result = told | predicted.predicted["result"]
    assert json.loads(predicted.downloads["Case 1.json"]) == result and result["state"] == predicted.state
    ((shown, _, _, index, date),) = predicted.sheets
    assert shown == result and index is None and date.endswith("UTC")
    assert [metric.value for metric in predicted.page.metric] == [f"{result['tumor_probability']:.2f}", "unknown"]
    assert rule_of(result) in predicted.text


def test_an_implausible_mask_is_shown_and_saved_unchanged(predicted: SimpleNamespace) -> None:
    """A mask of the whole head or an empty one is never inverted."""
    ((_, mask, *_),) = predicted.overlays
    assert np.array_equal(mask, predicted.predicted["pred"][0, ..., 0])
    assert predicted.downloads["Case 1_mask.png"] == predicted.predictor.files(predicted.predicted)["mask.png"]
    mask = np.asarray(Image.open(io.BytesIO(predicted.downloads["Case 1_mask.png"]))) > 0
    assert mask.mean() > 0.8 if predicted.state == "no_tumor" else not mask.any()
    assert ("mask covers more than half of the head" in predicted.text) is (predicted.state == "no_tumor")


def test_scores_and_evidence_are_those_of_the_weights_report(predicted: SimpleNamespace) -> None:
    """On the page and in the PDF; no score of other weights is shown."""
    report = json.loads(predicted.model.with_name("report.json").read_text())
    assert f"| Dice, mean of 2 patients | {report['segmentation']['mean']['dice']:.2f} |" in predicted.text
    for source, scores in report["classification"].items():
        patients = scores.get("mean_patient_roc_auc")
        of = f"slices of {source}, mean of {patients['n']} patients" if patients else f"{source}, n = {scores['n']}"
        auc = patients["value"] if patients else scores["roc_auc"]
        assert f"| ROC-AUC within {of} | {auc:.2f} |" in predicted.text
    ((_, _, limits, _, _),) = predicted.sheets
    display = report["decision"]["display_threshold"]
    known = f"At the display threshold, {display:.2f}: sensitivity 91%, specificity 43%, n = 123."
    assert known in predicted.text and known in limits


def test_without_a_report_of_these_weights_no_scores_are_shown(
    weights_with_cam: Path, pipeline_run: Path, tmp_path: Path
) -> None:
    """The report beside them belongs to other weights."""
    shutil.copy(weights_with_cam, tmp_path)
    shutil.copy(pipeline_run / "models" / "report.json", tmp_path)
    with opened(tmp_path / "model.pt") as found:
        assert any("There is no report for these weights" in text.value for text in found.page.markdown)


def test_the_shown_cam_is_the_predictors_and_comes_from_one_encoder_pass(
    weights_with_cam: Path, picture: bytes, passes: list[int]
) -> None:
    """Moving a slider does not predict again."""
    with opened(weights_with_cam) as found:
        upload(found.page, picture)
        next(slider for slider in found.page.slider if slider.label == "CAM: opacity").set_value(0.5).run()
        assert passes == [1]
    expected = np.asarray(Predictor(weights_with_cam).predict(picture, include_cam=True)["cam"][0, ..., 0])
    assert expected.any() and len(found.overlays) == 2
    assert all(np.array_equal(cam, expected) for _, _, cam, *_ in found.overlays)


def test_brightness_contrast_mask_and_cam_of_a_picture_can_be_changed(weights_with_cam: Path, picture: bytes) -> None:
    """The picture that is downloaded is the one on display."""
    with opened(weights_with_cam) as found:
        page = found.page
        upload(page, picture)
        first = found.downloads["Case 1_overlay.png"]
        sliders = {slider.label: slider for slider in page.slider}
        sliders["Brightness"].set_value(50)
        sliders["Contrast"].set_value(-20).run()
        low, high = found.overlays[0][-1]
        assert (
            found.overlays[-1][-1] == windowed((low, high), 50, -20) and found.downloads["Case 1_overlay.png"] != first
        )
        press(page, "Reset")
        assert found.overlays[-1][-1] == (low, high) and found.downloads["Case 1_overlay.png"] == first
        press(page, "Hide mask")
        press(page, "Hide CAM")
        assert found.overlays[-1][3:5] == (0.0, 0.0)
        press(page, "Show mask")
        assert found.overlays[-1][3:5] == (0.2, 0.0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_of_one_slice_is_upright(weights_with_cam: Path, axis: int) -> None:
    """For any axes: rows to posterior, columns to the patient's left."""
    shown, order = head(120, 100).astype(np.float32), [0, 1]
    order.insert(axis, 2)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])[:, [*order, 3]]
    with opened(weights_with_cam) as found:
        upload(found.page, nib.Nifti1Image(np.expand_dims(shown.T, axis), affine).to_bytes())
    ((image, mask, *_),) = found.overlays
    assert np.array_equal(image, shown) and mask.shape == shown.shape


def test_a_refused_upload_gets_a_reason_and_the_page_goes_on(
    weights_with_cam: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large and malformed files; a nox session uploads all of them."""
    hostile = [case.bytes() for case in sample(60) if case.family in ("declared size", "truncated", "other formats")]
    monkeypatch.setattr("bundle.ui.launch.SCAN_BYTES", 5 * MIB)
    with opened(weights_with_cam) as found:
        text = upload(found.page, picture[:3] + bytes(5 * MIB))
        assert "more than the 5 MiB that are allowed" in text
        for content in hostile[:4]:
            found.page.file_uploader(key="files").clear()
            text = upload(found.page, content)
            assert "Case 1.NII.GZ cannot be predicted" in text and str(PAGE.parents[2]) not in text
        found.page.file_uploader(key="files").clear()
        assert "Tumor pattern" in upload(found.page, picture)


def test_weights_of_four_modalities_predict_a_file_of_four_channels(tmp_path: Path) -> None:
    torch.save(multi_task_unet("cpu", in_channels=4).state_dict(), tmp_path / "model.pt")
    settings = {"network_name": "cpu", "modalities": ["flair", "t1", "t1ce", "t2"]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    scan = np.stack([head(160, 160).astype(np.float32)[..., None]] * 4, axis=3)
    with opened(tmp_path / "model.pt") as found:
        text = upload(found.page, nib.Nifti1Image(scan, np.eye(4)).to_bytes())
    assert "cannot be predicted" not in text and sum(title in text for title, _ in STATES.values()) == 1


def test_the_page_follows_its_settings(weights_with_cam: Path, picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[bool] = []
    infer = Predictor.infer

    def noted(self: Predictor, image: Any, include_cam: bool, include_uncertainty: bool) -> dict[str, Any]:
        wanted.append(include_uncertainty)
        return infer(self, image, include_cam, include_uncertainty)

    chosen = Settings(weights_with_cam, limits=Limits(request_bytes=5 * MIB))
    monkeypatch.setattr("bundle.ui.launch.settings", lambda: chosen)
    monkeypatch.setattr(Predictor, "infer", noted)
    with opened(weights_with_cam) as found:
        assert all(uploader.help.startswith("At most 5 MiB") for uploader in found.page.file_uploader)
        assert any("nothing of it is written to a file" in text.value for text in found.page.caption)
        upload(found.page, picture)
        uncertainty = next(box for box in found.page.checkbox if box.label == "Uncertainty")
        assert uncertainty.help == "Monte-Carlo dropout, 20 samples."
        uncertainty.check().run()
    assert wanted == [False, True]


def test_a_missing_streamlit_is_named() -> None:
    """In an installation without the packages of service and page."""
    code = """
import sys
from importlib.abc import MetaPathFinder

APP = {"fastapi", "prometheus_client", "python_multipart", "starlette", "streamlit", "uvicorn"}

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in APP:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
from bundle.command_line.cli import main
sys.exit(main(["ui"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PAGE.parents[2], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "error: the page needs Streamlit: pip install '.[app]'\n")


def test_streamlit_limits_uploads_and_hides_error_details(pipeline_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, Any] = {}
    monkeypatch.setenv(OPTIONS, "{}")
    monkeypatch.setattr("sys.argv", [])
    monkeypatch.setattr("streamlit.App.run", lambda app, config: flags.update(config))
    launch(Settings(pipeline_run / "models" / "model.pt"))
    assert flags["server.maxUploadSize"] == 256 and flags["client.showErrorDetails"] == "none"
    assert flags["server.enableXsrfProtection"] and flags["server.address"] == "127.0.0.1"


@pytest.fixture
def page(pipeline_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv(OPTIONS, json.dumps({"model": str(pipeline_run / "models" / "model.pt")}))
    return AppTest.from_file(str(PAGE), default_timeout=240)


def test_the_page_shows_one_state_for_an_example(page: Any, pipeline_run: Path) -> None:
    page.run()
    assert not page.exception and any(NOTICE in caption.value for caption in page.caption)
    sha256 = Predictor(pipeline_run / "models" / "model.pt").describe()["model"]["sha256"]
    assert any(sha256 in caption.value for caption in page.caption)
    page.pills(key="example").select("Image with a tumor").run()
    assert not page.exception
    texts = [box.value for kind in (page.info, page.warning, page.error) for box in kind]
    assert sum(any(box.startswith(f"### {title}") for title, _ in STATES.values()) for box in texts) == 1


def test_of_several_scans_one_is_chosen(weights_with_cam: Path, picture: bytes) -> None:
    with opened(weights_with_cam) as found:
        upload(found.page, picture, "*a*.jpg")
        assert [text.value for text in found.page.text] == ["*a*.jpg"], "the name of a single scan"
        found.page.file_uploader(key="files").clear()
        found.page.file_uploader(key="files").upload("b.jpg", picture)
        upload(found.page, picture[:900], "a.jpg")
        assert [error.value.partition(":")[0] for error in found.page.error] == ["a.jpg cannot be predicted"]
        press(found.page, "Next")
        assert found.page.selectbox[0].value == 1 and "b.json" in found.downloads


def test_a_folder_without_a_scan_is_named(weights_with_cam: Path) -> None:
    with opened(weights_with_cam) as found:
        found.page.file_uploader(key="folder").upload("notes/list.txt", b"no scan").run()
        assert [error.value.partition(":")[0] for error in found.page.error] == ["There is no scan in this folder"]


def test_the_page_asks_for_the_token(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_TOKEN", "s3cret")
    page.run()
    assert not page.file_uploader and page.text_input[0].label == "Token"
    page.text_input[0].set_value("wrong").run()
    assert page.error[0].value == "Wrong token." and not page.file_uploader
    page.text_input[0].set_value("s3cret").run()
    assert page.file_uploader
