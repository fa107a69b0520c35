"""The browser app in Debian's chromium, its server stopped after loading: equal to the predictor, scan by scan.

WEB_SITE: a folder that `python -m bundle web` wrote (default: it is written); WEB_ARCHIVES: see its `--packages`.
WEB_SCANS: further scans, a list of files or folders, one a line. WEB_DATA: such a list for the app's Python in a
process without a browser, many times faster. WEB_DOCS: the folder docs/, whose results/web.json and table in
how-to/browser.md are written.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.predictor import Predictor
from tests.browser_app import differences, predictions_without_browser
from tests.hostile.dicoms import mr_dataset, written

pytestmark = pytest.mark.session

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LONGEST_S = 900.0
START, END = "<!-- browser: written by `nox -s web` with WEB_DOCS=docs -->", "<!-- end of browser -->"


def phantoms(folder: Path) -> list[Path]:
    """A volume, the same as a DICOM series, two pictures, and a file that is no scan."""
    import nibabel as nib
    import numpy as np

    volume = next(write_volumes(folder, 1, slices=12, side=128, seed=21, spacing_mm=6.0)[0].glob("*_flair.nii.gz"))
    pictures = write_images(folder, 4, seed=1)[1:3]
    series = folder / "series"
    series.mkdir()
    for number, plane in enumerate(np.moveaxis(np.asarray(nib.load(volume).dataobj), 2, 0)):
        spacing = {"PixelSpacing": [1, 1], "SliceThickness": 6, "SeriesDescription": "FLAIR"}
        dataset = mr_dataset(plane.T.astype(np.uint16), 6.0 * number, InstanceNumber=number + 1, **spacing)
        (series / f"{number:03d}.dcm").write_bytes(written(dataset))
    damaged = folder / "damaged.nii.gz"
    damaged.write_bytes(volume.read_bytes()[:2000])
    return [volume, series, *pictures, damaged]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("WEB_SITE"):
        return Path(given)
    output = tmp_path_factory.mktemp("web") / "site"
    archives = os.environ.get("WEB_ARCHIVES") or str(tmp_path_factory.mktemp("archives"))
    assert main(["web", "--output", str(output), "--packages", archives]) == 0
    return output


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Any]:
    """The loaded page, whose server is gone."""
    if CHROMIUM is None or DRIVER is None:
        pytest.fail("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    found.set_script_timeout(LONGEST_S)  # software draws the viewer
    found.get(f"http://127.0.0.1:{server.server_address[1]}/index.html")
    await_that(lambda: of_body(found, "ready") or refused(found), "the app")
    server.shutdown()
    server.server_close()
    yield found
    found.quit()


def of_body(page: Any, name: str) -> str | None:
    return page.execute_script("return document.body.dataset[arguments[0]] ?? null", name)  # type: ignore[no-any-return]


def refused(page: Any) -> None:
    """Fail with what the page says it could not do."""
    words = page.find_element("id", "status")
    if "error" in (words.get_attribute("class") or ""):
        pytest.fail(f"{words.text}; {page.get_log('browser')}")


def await_that(found: Callable[[], Any], what: str) -> Any:
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        if result := found():
            return result
        time.sleep(0.3)
    raise AssertionError(f"{what} did not come in {LONGEST_S:.0f} s")


def asked(page: Any, scan: Path) -> dict[str, Any] | str:
    """The result of a scan in the browser, or its error."""
    count = int(of_body(page, "done") or 0)
    page.find_element("id", "folder" if scan.is_dir() else "file").send_keys(str(scan.resolve()))
    await_that(lambda: int(of_body(page, "done") or 0) > count, f"the prediction of {scan.name}")
    words = page.find_element("id", "status")
    if "error" in (words.get_attribute("class") or ""):
        return str(words.text)
    return dict(json.loads(str(of_body(page, "result"))))


def listed(variable: str) -> list[Path]:
    """The scans of a list that an environment variable names."""
    path = os.environ.get(variable)
    return [Path(line) for line in Path(path).read_text().splitlines() if line] if path else []


def row_of(name: str, found: dict[str, Any], expected: dict[str, Any], ms: int = 0) -> dict[str, Any]:
    """What is kept of a comparison."""
    gap = abs((found["tumor_probability"] or 0) - (expected["tumor_probability"] or 0))
    slices, told = len(found.get("slice_probabilities", [0])), differences(found, expected)
    return {"scans": name, "slices": slices, "ms": ms, "gap": gap, "differs": told}


def sum_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Number of scans, of those without a difference, and the largest difference of a probability."""
    same = sum(not row["differs"] for row in rows)
    return {"scans": len(rows), "same": same, "gap": max(row["gap"] for row in rows)}


def table(measured: dict[str, Any]) -> str:
    """Size, times and differences in Markdown."""
    lines = [f"| {measured['megabytes']:.0f} MB | to load |", "|---|---|"]
    lines.append(f"| {measured['load_ms'] / 1000:.0f} s | until it is ready, from this computer |")
    sums = {}
    for name in dict.fromkeys(row["scans"] for row in measured["scans"]):
        rows = [row for row in measured["scans"] if row["scans"] == name]
        per_slice = sum(row["ms"] for row in rows) / sum(row["slices"] for row in rows) / 1000
        lines.append(f"| {per_slice:.1f} s | per slice, {name} |")
        sums[name] = sum_of(rows)
    if "without_browser" in measured:
        sums["real scans in the app's Python, without a browser"] = measured["without_browser"]
    for name, found in sums.items():
        same = f"{found['same']} of {found['scans']}"
        lines.append(f"| {same} | {name} with the same state, flags, volume and probabilities |")
        lines.append(f"| {found['gap']:.1e} | largest difference of the probability, {name} |")
    return "\n".join(lines) + "\n"


def write_results(docs: Path, **measured: Any) -> None:
    """Renew this part of results/web.json, and the table in how-to/browser.md."""
    path, page = docs / "results" / "web.json", docs / "how-to" / "browser.md"
    content = {**json.loads(path.read_text()), **measured}
    path.write_text(json.dumps(content, indent=1) + "\n")
    before, _, rest = page.read_text().partition(START)
    page.write_text(f"{before}{START}\n{table(content)}{END}{rest.partition(END)[2]}")


def test_the_apps_python_predicts_what_the_predictor_does(tmp_path: Path) -> None:
    scans = listed("WEB_DATA") or phantoms(tmp_path)[:-1]
    predictor, rows = Predictor(device="cpu"), []
    for scan, (found, _, _) in zip(scans, predictions_without_browser(predictor, scans, tmp_path), strict=True):
        rows.append(row_of("real scans", found, predictor.predict(scan)["result"]))
        print(scan.name, found["state"], *rows[-1]["differs"], flush=True)
    if docs := os.environ.get("WEB_DOCS"):
        write_results(Path(docs), without_browser=sum_of(rows))
    assert not [row["differs"] for row in rows if row["differs"]]


def test_the_browser_predicts_what_the_predictor_does_without_a_network(page: Any, site: Path, tmp_path: Path) -> None:
    *scans, damaged = phantoms(tmp_path)
    real = listed("WEB_SCANS")
    predictor, rows = Predictor(device="cpu"), []
    for scan in [*scans, *real]:
        found, expected = asked(page, scan), predictor.predict(scan)["result"]
        assert not isinstance(found, str), f"{scan.name}: {found}"
        kind, ms = "real scans" if scan in real else "phantoms", int(of_body(page, "answerMs") or 0)
        rows.append(row_of(kind, found, expected, ms))
        print(scan.name, found["state"], f"{ms} ms", *rows[-1]["differs"], flush=True)
    assert "damaged gzip stream" in str(asked(page, damaged))
    megabytes = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
    measured = {"megabytes": megabytes, "load_ms": int(of_body(page, "loadMs") or 0), "scans": rows}
    print(table(measured))
    if docs := os.environ.get("WEB_DOCS"):
        write_results(Path(docs), **measured)
    assert not [row["differs"] for row in rows if row["differs"]]
    assert of_body(page, "drawn"), "the viewer drew nothing"
    assert not [entry for entry in page.get_log("browser") if "Content Security Policy" in entry["message"]]
