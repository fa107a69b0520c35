"""The page in a real browser, at three widths: the scan first, nothing cut off, left and right, keys, bad files.

With BUNDLE_SCREENSHOTS, a folder, the page is kept in pictures: those of `docs/images`, and one of each bad file.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle import NOTICE
from bundle.ui.launch import TITLE
from bundle.ui.scans import EXAMPLES, example
from tests.hostile import OK, corpus
from tests.hostile.dicoms import mr_dataset, written
from tests.sessions.serving import process

pytestmark = pytest.mark.session

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LONGEST_S = 240.0
WIDTHS = {390: 844, 1280: 900, 1920: 1080}  # of a phone, a laptop and a large screen: height
STATES = ("No tumor detected", "Uncertain: review", "Tumor pattern")
REFERENCES = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
VOLUME, FAILURE = "Volume with a tumor", "A failure: missed tumor"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.fail("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path_factory.mktemp("downloads"))})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    found.set_script_timeout(LONGEST_S)
    yield found
    found.quit()


@pytest.fixture(scope="module")
def address(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("page") / "log.txt"
    with process("ui", log, "/_stcore/health", "--model", str(weights)) as (found, _):
        yield found


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    """The page, new, on a laptop's screen."""
    resize(browser, 1280)
    browser.get(address)
    see(browser, "How well these weights were tested")
    return browser


def resize(page: Any, width: int, dark: bool = False) -> None:
    size = {"width": width, "height": WIDTHS[width], "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def await_that(found: Callable[[], Any], what: str) -> Any:
    """Wait until something is found; return it."""
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        if result := found():
            return result
        time.sleep(0.3)
    raise AssertionError(f"{what} is missing")


def elements(page: Any, selector: str) -> list[Any]:
    return list(page.find_elements("css selector", selector))


def see(page: Any, words: str) -> str:
    """Wait until the page shows a text and has finished loading; return all its text."""

    def text() -> str:
        busy = elements(page, '[data-testid="stStatusWidget"], [data-testid="stSkeleton"], [data-testid="stSpinner"]')
        shown = str(page.find_element("css selector", "body").text)
        return shown if words in shown and not busy else ""

    return str(await_that(text, f"'{words}'"))


def choose(page: Any, title: str) -> str:
    """Choose an example; return the text of the page when its prediction is there."""
    pills = await_that(lambda: elements(page, '[data-testid="stButtonGroup"] button'), "an example")
    next(pill for pill in pills if pill.text.strip() == title).click()
    said = see(page, "Limitations of this prediction")
    await_volume(page) if EXAMPLES[title][0] == "volume" else await_picture(page)
    return said


def await_picture(page: Any) -> Any:
    """Wait until the picture is loaded; return it."""
    loaded = "return arguments[0].complete && arguments[0].naturalWidth > 0"
    selector = '[data-testid="stImage"] img'
    return await_that(
        lambda: next(
            (e for e in elements(page, selector) if e.is_displayed() and page.execute_script(loaded, e)), None
        ),
        "the picture",
    )


def pixels_of(element: Any) -> np.ndarray:
    """What an element of the page shows, (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def await_volume(page: Any) -> None:
    """Wait until NiiVue has drawn the volume."""
    frame = await_that(lambda: elements(page, "iframe"), "NiiVue")[0]
    page.switch_to.frame(frame)
    await_that(lambda: page.execute_script("return document.body.dataset.ready"), "the volume")
    page.switch_to.default_content()
    time.sleep(1.0)


def in_viewer(page: Any, script: str) -> Any:
    """Run a script in the frame of NiiVue."""
    page.switch_to.frame(elements(page, "iframe")[0])
    try:
        return page.execute_script(script)
    finally:
        page.switch_to.default_content()


def press(page: Any, key: str) -> None:
    """Press a key in the frame of NiiVue."""
    in_viewer(page, f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))")
    time.sleep(0.7)


def canvas(page: Any) -> np.ndarray:
    """What NiiVue shows, (H, W, 3)."""
    page.switch_to.frame(elements(page, "iframe")[0])
    shown = pixels_of(page.find_element("css selector", "canvas"))
    page.switch_to.default_content()
    return shown


def orange(pixels: np.ndarray) -> np.ndarray:
    """Where the mask's edge is, as columns and rows from 0 to 1, (N, 2)."""
    found = np.argwhere((pixels[..., 0] - pixels[..., 2] > 110) & (pixels[..., 1] - pixels[..., 2] > 30))
    return np.asarray(found[:, ::-1] / np.array(pixels.shape[1::-1]))


def keep(page: Any, name: str) -> None:
    if folder := os.environ.get("BUNDLE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        await_that(lambda: not elements(page, '[data-testid="stSkeleton"]'), "the rest of the page")
        time.sleep(1.0)
        shot = Image.open(io.BytesIO(page.get_screenshot_as_png())).convert("RGB")
        few = shot.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        few.save(Path(folder) / f"page_{name}.png", optimize=True)


CUT_OFF = """
return [...document.querySelectorAll('p, h1, h2, h3, h4, h5, label, button, [data-testid="stMetricValue"]')]
  .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflow !== 'visible')
  .map((e) => e.textContent)
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_the_volume_comes_first_and_nothing_is_cut_off(page: Any, width: int) -> None:
    resize(page, width)
    said = choose(page, VOLUME)
    assert NOTICE in said and [state for state in STATES if state in said] == ["Tumor pattern"] and " ml" in said
    frame = elements(page, "iframe")[0].rect
    alert = elements(page, '[data-testid="stAlert"]')[0].rect
    assert frame["y"] < 220, "the volume is the first thing"
    assert alert["y"] < WIDTHS[width] and (width == 390 or alert["x"] > frame["x"] + frame["width"])
    assert page.execute_script(CUT_OFF) == []
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    keep(page, f"volume_{width}")


def test_the_volume_is_opened_at_the_tumor_which_lies_at_the_patients_left(page: Any) -> None:
    """The phantom's tumor is at its left: at the right of the axial slice, in NiiVue as in the slice view."""
    choose(page, VOLUME)
    press(page, "2")  # axial
    across, _ = orange(canvas(page)).mean(axis=0)
    assert across > 0.55
    press(page, "m")
    assert not len(orange(canvas(page))), "without the mask"
    press(page, "m")
    press(page, "4")  # sagittal: this tumor lies in front, at the left of the picture
    assert orange(canvas(page)).mean(axis=0)[0] < 0.5
    next(tab for tab in elements(page, "[role=tab]") if tab.text == "Slice").click()
    assert orange(pixels_of(await_picture(page))).mean(axis=0)[0] > 0.52
    keep(page, "slice")


def test_the_way_back_to_the_tumor_has_one_name(page: Any) -> None:
    choose(page, VOLUME)
    said = in_viewer(page, "document.getElementById('more').open = true; return document.body.innerText")
    assert "Go to the tumor" in said and "T go to the tumor" in said


def test_keys_move_the_slice_and_reset_brightness_and_contrast(page: Any) -> None:
    choose(page, VOLUME)
    place = "return document.getElementById('place').textContent"
    before = in_viewer(page, place)
    press(page, "ArrowUp")
    assert in_viewer(page, place) != before
    press(page, "t")
    assert in_viewer(page, place) == before
    bright = canvas(page).mean()
    script = "const s = document.getElementById('{}'); s.value = {}; s.dispatchEvent(new Event('input'))"
    in_viewer(page, script.format("brightness", -80))
    time.sleep(0.7)
    assert canvas(page).mean() < bright - 3
    press(page, "w")
    assert canvas(page).mean() == pytest.approx(bright, abs=1)


@pytest.mark.parametrize("title", ["Image with a tumor", "Image without a tumor", FAILURE])
def test_an_example_has_one_state(page: Any, title: str) -> None:
    said = choose(page, title)
    states = {"Image with a tumor": "Tumor pattern", "Image without a tumor": "No tumor detected"}
    assert [state for state in STATES if state in said] == [states.get(title, "Uncertain: review")]
    keep(page, {"Image with a tumor": "tumor", "Image without a tumor": "no_tumor"}.get(title, "uncertain"))


def test_brightness_contrast_mask_and_cam_of_a_picture_follow_the_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    choose(page, "Image with a tumor")
    first = pixels_of(await_picture(page))

    def shows(condition: Callable[[np.ndarray], bool], what: str) -> None:
        await_that(lambda: condition(pixels_of(await_picture(page))), what)

    assert len(orange(first)) > 50
    page.switch_to.active_element.send_keys("m")
    shows(lambda pixels: not len(orange(pixels)), "the picture without mask")
    page.switch_to.active_element.send_keys("m")
    shows(lambda pixels: len(orange(pixels)) > 50, "the picture with mask")
    slider = await_that(lambda: elements(page, '[data-testid="stSlider"] input[aria-label="Brightness"]'), "a slider")[
        0
    ]
    page.execute_script("arguments[0].focus()", slider)
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT * 6)
    shows(lambda pixels: pixels.mean() > first.mean() + 5, "a brighter picture")
    keep(page, "brighter")
    page.find_element("css selector", "body").send_keys("w")
    shows(lambda pixels: abs(pixels.mean() - first.mean()) < 1, "the first picture")


def test_a_phone_and_a_dark_screen_show_an_image_first(page: Any) -> None:
    resize(page, 390, dark=True)
    page.refresh()
    see(page, "How well these weights were tested")
    choose(page, "Image with a tumor")
    assert elements(page, '[data-testid="stImage"]')[0].rect["y"] < 220
    assert elements(page, '[data-testid="stAlert"] h3')[0].rect["y"] < WIDTHS[390] - 60, "the state can be read, too"
    background = "return getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
    assert max(int(level) for level in page.execute_script(background)[4:-1].split(",")[:3]) < 60
    keep(page, "dark_390")


def test_limits_and_evidence_are_one_click_away(page: Any) -> None:
    choose(page, "Image with a tumor")
    next(box for box in elements(page, "summary") if "Limitations of this" in box.text).click()
    assert "sensitivity" in see(page, "At the operating point")
    keep(page, "limitations")


def test_the_name_of_scan_and_page_are_shown(page: Any, address: str) -> None:
    with urlopen(address) as first:
        assert f"<title>{TITLE}</title>" in first.read().decode()
    assert page.title == TITLE
    choose(page, "Image with a tumor")
    assert elements(page, '[data-testid="stText"]')[0].text.startswith("phantom_")


def test_several_files_and_a_folder_of_dicom_files_are_scans(page: Any, tmp_path: Path) -> None:
    volume: Any = nib.Nifti1Image.from_bytes(example(VOLUME).files[0])
    series = tmp_path / "series"
    series.mkdir()
    for index in range(8, 12):
        plane = np.asarray(volume.dataobj)[:, :, index].T.astype(np.uint16)
        (series / f"{index}").write_bytes(
            written(mr_dataset(plane, 5.0 * index, PixelSpacing=[1.0, 1.0], **REFERENCES))
        )
    one, _ = elements(page, 'input[type="file"]')
    one.send_keys("\n".join(map(str, sorted(series.iterdir()))))
    assert "cannot be predicted" not in see(page, "Limitations of this prediction")
    assert not elements(page, '[data-testid="stSelectbox"]'), "several DICOM files are one scan"
    page.refresh()
    see(page, "How well these weights were tested")
    _, folder = elements(page, 'input[type="file"]')
    folder.send_keys(str(series))
    assert "cannot be predicted" not in see(page, "Limitations of this prediction")
    next(button for button in elements(page, "button") if "Make DICOM SEG" in button.text).click()
    await_that(lambda: len([b for b in elements(page, "button") if "DICOM SEG" in b.text]) == 2, "the DICOM SEG")


def test_of_five_files_a_bad_one_gets_a_message_and_the_others_are_predicted(page: Any, tmp_path: Path) -> None:
    good, other = (example(title).files[0] for title in ("Image with a tumor", "Image without a tumor"))
    files = {"a.png": good, "b.png": b"not a picture", "c.png": other, "d.png": good, "e.png": other}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    elements(page, 'input[type="file"]')[0].send_keys("\n".join(str(tmp_path / name) for name in files))
    said = see(page, "Limitations of this prediction")
    await_picture(page)

    def selected() -> str:
        return str(elements(page, '[data-testid="stSelectbox"] input')[0].get_attribute("value"))

    assert selected() == "1 of 5: a.png" and "Tumor pattern" in said
    page.find_element("css selector", "body").send_keys("n")
    said = see(page, "b.png cannot be predicted")
    assert selected() == "2 of 5: b.png" and not any(state in said for state in STATES)
    keep(page, "several")
    page.find_element("css selector", "body").send_keys("n")
    assert "cannot be predicted" not in see(page, "No tumor detected") and selected() == "3 of 5: c.png"


@pytest.mark.parametrize("family", sorted({case.family for case in corpus()}))
def test_a_bad_file_gets_a_message_and_the_page_goes_on(page: Any, family: str, tmp_path: Path) -> None:
    case = next((c for c in corpus() if c.family == family and OK not in c.expected and len(c.bytes()) < 2**24), None)
    if case is None:
        pytest.skip("no small file of this family is refused")
    path = tmp_path / f"{family.replace(' ', '_')}.png"
    path.write_bytes(case.bytes())
    elements(page, 'input[type="file"]')[0].send_keys(str(path))
    said = see(page, "cannot be predicted")
    assert "Traceback" not in said and NOTICE in said
    keep(page, f"bad_{family.replace(' ', '_')}")


def test_no_outside_address_is_asked(page: Any, address: str) -> None:
    choose(page, VOLUME)
    script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    asked = page.execute_script(script) + in_viewer(page, script)
    assert len(asked) > 10 and all(name.startswith((address, "data:", "blob:")) for name in asked)


def test_the_description_of_the_service_works_offline(browser: Any, weights: Path, tmp_path: Path) -> None:
    with process("serve", tmp_path / "log.txt", "/livez", "--model", str(weights)) as (address, _):
        browser.get(f"{address}/docs")
        await_that(lambda: elements(browser, ".opblock"), "an operation")
        script = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        assert all(name.startswith((address, "data:", "blob:")) for name in browser.execute_script(script))
