"""The page without a browser: words, pictures, the sheet, and one run of the whole with phantoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bundle import NOTICE, Predictor
from bundle.ui.drawing import MAP, OUTLINE, outside_head, overlay, upright
from bundle.ui.launch import OPTIONS
from bundle.ui.paper import sheet
from bundle.ui.words import STATES, evidence, kind_of, reasons_for_doubt, size_of

PAGE = Path(__file__).resolve().parents[3] / "bundle" / "ui" / "page.py"
FOUND = {
    "sensitivity": 0.95,
    "specificity": 0.5,
    "n": 201,
    "at_display_threshold": {"sensitivity": 0.9, "specificity": None},
}
KNOWN = {"temperature": 1.0, "operating_point": 0.26, "fitted_on": "201 images", "evidence": FOUND}
UNKNOWN = {"temperature": 1.0, "operating_point": 0.5, "fitted_on": "nothing: defaults", "evidence": {}}
BY_AREA = {
    "50-200 mm2": {"positives": 28, "sensitivity": 0.6},
    "2000 mm2 and more": {"positives": 9, "sensitivity": 1.0},
}
DESCRIBED: dict[str, Any] = {
    "decision": {"image": KNOWN, "volume": UNKNOWN, "display_threshold": 0.3},
    "scores": {"classification": {"kaggle": {}, "brats": {"by_tumor_area": BY_AREA}}},
    "scored": "out-of-fold",
}
VOLUME = {"slice_probabilities": [0.1, 0.9], "slice_axis": 2, "flags": []}


def test_evidence_gives_sensitivity_and_specificity_with_n_or_says_that_there_is_none() -> None:
    """T17, T24."""
    _, operating, display = evidence({}, DESCRIBED)
    assert operating == "At the operating point, 0.26: sensitivity 95%, specificity 50%, n = 201."
    assert display == "At the display threshold, 0.30: sensitivity 90%, specificity unknown, n = 201."
    assert evidence(VOLUME, DESCRIBED) == [
        "No report belongs to these weights: nothing is known of how often such answers are right."
    ]
    assert kind_of(VOLUME) == "volume" and size_of({}) is None


@pytest.mark.parametrize(("area", "words"), [(60.0, "60% of 28"), (5000.0, "100% of 9"), (900.0, ""), (None, "")])
def test_doubts_name_flags_the_map_and_lesions_of_this_size(area: float | None, words: str) -> None:
    doubts = reasons_for_doubt({**VOLUME, "flags": ["the heads disagree"]}, DESCRIBED, 0.5, area)
    assert doubts[0] == "Flag: the heads disagree." and doubts[1].startswith("50% of the map lies outside")
    assert any(doubt.startswith("Tumors of") and words in doubt for doubt in doubts) is bool(words)
    assert doubts[-1] == "The scores are out-of-fold."


@given(codes=st.permutations(["RL", "AP", "SI"]), picks=st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_slice_is_shown_upright_whatever_the_files_axes(codes: list[str], picks: list[bool]) -> None:
    """Front up, the patient's left on the right."""
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


def test_outline_and_map_are_drawn_where_they_are() -> None:
    image, mask, cam = np.tile(np.linspace(0, 1, 32), (32, 1)), np.zeros((32, 32)), np.zeros((32, 32))
    mask[4:12, 4:12], cam[20:30, 20:30] = 1, 1
    drawn = np.asarray(overlay(image, mask, cam, 0.2, 1.0))
    assert tuple(drawn[4, 6]) == OUTLINE and tuple(drawn[25, 25]) == MAP
    assert len(set(drawn[16, 2])) == 1, "the rest is grey"
    plain = np.asarray(overlay(image, mask, cam, 0.0, 0.0))
    assert (plain == plain[:, :, :1]).all()
    assert outside_head(cam, np.where(np.arange(32) < 25, 1.0, 0.0) * np.ones((32, 1))) == pytest.approx(0.5)
    assert outside_head(np.zeros((4, 4)), np.ones((4, 4))) is None


@pytest.mark.parametrize("state", sorted(STATES))
def test_the_sheet_is_one_page_and_repeatable(state: str) -> None:
    model = {"version": "0.2.0", "sha256": "0" * 64, "report": "matches these weights"}
    result = {"state": state, "tumor_probability": 0.5, "threshold": 0.4, "model": model}
    first, again = (sheet(result, Image.new("RGB", (40, 40)), ["a doubt " * 40] * 5) for _ in range(2))
    assert (
        first.startswith(b"%PDF")
        and first == again
        and first.count(b"/Type /Page\n") + first.count(b"/Type /Page ") == 1
    )


@pytest.fixture
def page(pipeline_run: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv(OPTIONS, json.dumps({"model": str(pipeline_run / "models" / "model.pt")}))
    return AppTest.from_file(str(PAGE), default_timeout=240)


def test_the_page_answers_a_phantom_by_one_state(page: Any, pipeline_run: Path) -> None:
    """T16, T18."""
    page.run()
    assert not page.exception and any(NOTICE in warning.value for warning in page.warning)
    sha256 = Predictor(pipeline_run / "models" / "model.pt").describe()["model"]["sha256"]
    assert any(sha256 in caption.value for caption in page.caption)
    page.sidebar.radio[0].set_value(page.sidebar.radio[0].options[2]).run()
    assert not page.exception
    said = [box.value for kind in (page.info, page.warning, page.error) for box in kind]
    assert sum(any(box.startswith(f"### {title}") for title, _ in STATES.values()) for box in said) == 1


def test_the_page_asks_for_the_token(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_TOKEN", "s3cret")
    page.run()
    assert not page.radio and page.text_input[0].label == "Token"
    page.text_input[0].set_value("wrong").run()
    assert page.error[0].value == "That is not the token." and not page.radio
    page.text_input[0].set_value("s3cret").run()
    assert page.sidebar.radio
