"""The browser app in Debian's chromium, its server stopped after loading: equal to the predictor, scan by scan.

WEB_SITE: a folder that `python -m bundle web` wrote (default: it is written); WEB_ARCHIVES: see its `--packages`.
WEB_SCANS: further scans, a list of files or folders, one a line. WEB_DOCS: the folder docs/, whose results/web.json and
table in how-to/browser.md are written.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bundle.command_line.cli import main
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.predictor import Predictor
from tests.hostile.dicoms import mr_dataset, written

pytestmark = pytest.mark.session

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LONGEST_S = 900.0
CLOSE = 1e-3  # of a probability
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


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of two results differs: the state, the flags, a probability, the mask's volume."""
    told = [
        f"{name}: {found.get(name)}, {expected.get(name)}"
        for name in ("kind", "state")
        if found[name] != expected[name]
    ]
    codes = [[flag["code"] for flag in result["flags"]] for result in (found, expected)]
    told += [f"flags: {codes}"] * (codes[0] != codes[1])
    pairs = [[result["tumor_probability"], *result.get("slice_probabilities", [])] for result in (found, expected)]
    for one, other in zip(*pairs, strict=True):
        if (one is None) != (other is None) or (one is not None and abs(one - other) > CLOSE):
            told.append(f"probability: {one}, {other}")
    for name in ("volume_ml", "area_mm2"):
        if abs(found.get(name, 0.0) - expected.get(name, 0.0)) > 0.01 * max(1.0, expected.get(name, 0.0)):
            told.append(f"{name}: {found.get(name)}, {expected.get(name)}")
    return told


def table(measured: dict[str, Any]) -> str:
    """Size, times and differences in Markdown."""
    lines = [f"| {measured['megabytes']:.0f} MB | to load |", "|---|---|"]
    lines.append(f"| {measured['load_ms'] / 1000:.0f} s | until it is ready, from this computer |")
    for name in sorted({row["scans"] for row in measured["scans"]}):
        rows = [row for row in measured["scans"] if row["scans"] == name]
        per_slice = sum(row["ms"] for row in rows) / sum(row["slices"] for row in rows) / 1000
        same = sum(not row["differs"] for row in rows)
        lines.append(f"| {per_slice:.1f} s | per slice, {name} |")
        lines.append(f"| {same} of {len(rows)} | {name} with the same state, flags, volume and probabilities |")
        lines.append(f"| {max(row['gap'] for row in rows):.1e} | largest difference of the probability, {name} |")
    return "\n".join(lines) + "\n"


def write_results(docs: Path, measured: dict[str, Any]) -> None:
    """Write results/web.json and the table in how-to/browser.md."""
    (docs / "results" / "web.json").write_text(json.dumps(measured, indent=1) + "\n")
    page = docs / "how-to" / "browser.md"
    before, _, rest = page.read_text().partition(START)
    page.write_text(f"{before}{START}\n{table(measured)}{END}{rest.partition(END)[2]}")


def test_the_browser_predicts_what_the_predictor_does_without_a_network(page: Any, site: Path, tmp_path: Path) -> None:
    *scans, damaged = phantoms(tmp_path)
    listed = os.environ.get("WEB_SCANS")
    real = [Path(line) for line in Path(listed).read_text().splitlines() if line] if listed else []
    predictor, rows = Predictor(device="cpu"), []
    for scan in [*scans, *real]:
        found, expected = asked(page, scan), predictor.predict(scan)["result"]
        assert not isinstance(found, str), f"{scan.name}: {found}"
        told = differences(found, expected)
        print(scan.name, found["state"], f"{of_body(page, 'answerMs')} ms", *told, flush=True)
        rows.append(
            {
                "scans": "real scans" if scan in real else "phantoms",
                "slices": len(found.get("slice_probabilities", [0])),
                "ms": int(of_body(page, "answerMs") or 0),
                "gap": abs((found["tumor_probability"] or 0) - (expected["tumor_probability"] or 0)),
                "differs": told,
            }
        )
    assert "damaged gzip stream" in str(asked(page, damaged))
    megabytes = sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) / 1e6
    measured = {"megabytes": megabytes, "load_ms": int(of_body(page, "loadMs") or 0), "scans": rows}
    print(table(measured))
    if docs := os.environ.get("WEB_DOCS"):
        write_results(Path(docs), measured)
    assert not [row["differs"] for row in rows if row["differs"]]
    assert of_body(page, "drawn"), "the viewer drew nothing"
    assert not [entry for entry in page.get_log("browser") if "Content Security Policy" in entry["message"]]
