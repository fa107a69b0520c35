"""The page in a real browser: the states, a volume, bad files.

With BUNDLE_SCREENSHOTS, a folder, the page is kept in pictures: those of `docs/images`, and one of each bad file.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bundle import NOTICE, Predictor
from bundle.datasets.phantoms import write_volumes
from tests.hostile import OK, corpus
from tests.sessions.serving import process

pytestmark = pytest.mark.session

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LONGEST_S = 90.0


@pytest.fixture(scope="module")
def page(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.fail("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--window-size=1400,1500", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    log = tmp_path_factory.mktemp("page") / "log.txt"
    with process("ui", log, "/_stcore/health", "--model", str(weights)) as (address, _):
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        try:
            browser.get(address)
            see(browser, "Evaluation of these weights")
            yield browser
        finally:
            browser.quit()


def text_of(browser: Any) -> str:
    return str(browser.find_element("tag name", "body").text)


def see(browser: Any, words: str) -> str:
    """Wait until the page shows a text and has finished loading; return all its text."""
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        running = browser.find_elements("css selector", '[data-testid="stStatusWidget"]')
        if words in text_of(browser) and not running:
            return text_of(browser)
        time.sleep(0.3)
    raise AssertionError(f"'{words}' is not on the page: {text_of(browser)[:2000]}")


def choose(browser: Any, example: str) -> None:
    labels = browser.find_elements("css selector", '[data-testid="stSidebar"] label')
    next(label for label in labels if label.text.strip() == example).click()
    time.sleep(1.0)


def keep(browser: Any, name: str) -> None:
    if folder := os.environ.get("BUNDLE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        time.sleep(1.0)
        assert browser.save_screenshot(str(Path(folder) / f"page_{name}.png"))


@pytest.mark.parametrize("example", ["Phantom image 1 with a tumor", "Phantom image 1 without a tumor"])
def test_an_image_has_one_state_limitations_and_the_notice(page: Any, example: str) -> None:
    choose(page, example)
    see(page, "Mask (mask.png)")
    said = see(page, "Limitations")
    assert sum(said.count(state) for state in ("No tumor detected", "Uncertain: review", "Tumor pattern")) == 1
    assert NOTICE in said and "Probability" in said and "Mask (mask.png)" in said
    if example.endswith("1 with a tumor"):
        keep(page, "tumor")


def test_a_volume_has_a_probability_curve_and_a_jump_button(page: Any) -> None:
    choose(page, "Phantom volume with a tumor")
    see(page, "Mask (mask.nii.gz)")
    said = see(page, "Go to the slice with the highest probability")
    assert "Probability of each slice" in said and "Mask (mask.nii.gz)" in said and " ml" in said
    keep(page, "volume")


@pytest.fixture(scope="module")
def parts(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two slices of a phantom volume for each state that these weights predict."""
    place, predictor = tmp_path_factory.mktemp("parts"), Predictor(weights)
    write_volumes(place, 3, slices=24, side=160, seed=12)
    found: dict[str, Path] = {}
    for file in sorted(place.rglob("*_flair.nii.gz")):
        image = nib.load(file)
        for index in range(2, 20):
            part = place / f"{file.parent.name}_{index}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:, :, index : index + 2], image.affine), part)
            found.setdefault(predictor.predict(part)["result"]["state"], part)
    return found


@pytest.mark.parametrize("state", ["no_tumor", "uncertain"])
def test_no_tumor_and_uncertain_are_shown_as_such(page: Any, parts: dict[str, Path], state: str) -> None:
    if state not in parts:
        pytest.skip("these weights predict this state for no phantom")
    page.find_element("css selector", 'input[type="file"]').send_keys(str(parts[state]))
    see(page, "Mask (mask.nii.gz)")
    called = {"no_tumor": "No tumor detected", "uncertain": "Uncertain: review"}
    said = see(page, called[state])
    assert [words for words in (*called.values(), "Tumor pattern") if words in said] == [called[state]]
    keep(page, state)
    page.refresh()
    see(page, "Evaluation of these weights")


@pytest.mark.parametrize("family", sorted({case.family for case in corpus()}))
def test_a_bad_file_gets_a_message_and_the_page_goes_on(page: Any, family: str, tmp_path: Path) -> None:
    case = next((c for c in corpus() if c.family == family and OK not in c.expected and len(c.bytes()) < 2**24), None)
    if case is None:
        pytest.skip("no small file of this family is refused")
    path = tmp_path / f"{family.replace(' ', '_')}.png"
    path.write_bytes(case.bytes())
    page.find_element("css selector", 'input[type="file"]').send_keys(str(path))
    said = see(page, "cannot be predicted")
    assert "Traceback" not in said and NOTICE in said
    keep(page, f"bad_{family.replace(' ', '_')}")
    page.refresh()
    see(page, "Evaluation of these weights")
