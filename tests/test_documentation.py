"""The pages: links and their anchors lead somewhere, every page is in the site's navigation, examples run.

`make docs` checks the links of the site again, with those of generated pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import nibabel as nib
import numpy as np
import pytest
from markdown import Markdown

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "tutorial" / "training.ipynb"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "models" / "README.md", NOTEBOOK])
KINDS = ("tutorial", "how-to", "reference", "explanation")


class Links(HTMLParser):
    """Collects where a page leads, and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.targets += [target for name in ("href", "src") if (target := found.get(name))]
        self.anchors |= {name for key in ("id", "name") if (name := found.get(key))}


def github_anchor(heading: str, separator: str) -> str:
    """The anchor of a heading on GitHub; the site's are the same."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


@cache
def links(page: Path) -> Links:
    text = page.read_text()
    if page == NOTEBOOK:
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    made = Markdown(extensions=["toc", "tables", "fenced_code"], extension_configs={"toc": {"slugify": github_anchor}})
    found = Links()
    found.feed(made.convert(text))
    return found


def dead(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere; of an address outside only the form is checked."""
    for target in links(page).targets:
        url = urlsplit(target)
        if url.scheme or url.netloc:
            if url.scheme not in ("http", "https", "mailto") or not (url.netloc or url.path) or " " in target:
                yield target
            continue
        there = page.parent.joinpath(unquote(url.path)).resolve() if url.path else page
        anchors = links(there).anchors if url.fragment and there in PAGES else set()
        if not there.exists() or not there.is_relative_to(ROOT) or (url.fragment and url.fragment not in anchors):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_anchors(page: Path) -> None:
    assert not list(dead(page))


def test_a_dead_link_and_a_dead_anchor_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A b\n[1](other.md) [2](#a-b) [3](#c) [4](https://host/x) [5](http:///x) [6](page.md#a-b)\n\n[7]: x\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "PAGES", [page])
    assert list(dead(page)) == ["other.md", "#c"]


def test_every_page_is_in_the_navigation_and_there_is_one_of_each_kind() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    named = set(re.findall(r"\S+\.(?:md|ipynb)$", navigation, re.MULTILINE))
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert {page for page in pages if not page.startswith("docs/results/")} <= named
    for kind in KINDS:
        assert len([page for page in pages if page.startswith(f"docs/{kind}/")]) >= 2


def test_the_home_page_links_every_page_of_the_four_kinds() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in links(ROOT / "docs" / "index.md").targets}
    assert {page for page in PAGES if page.parent.name in KINDS} <= linked


def test_the_notebook_has_the_outputs_of_one_run_and_no_path_of_a_machine() -> None:
    """Written by `nox -s tutorial -- --overwrite`."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not re.search(r"/(tmp|home|root|work|Users)/", json.dumps(outputs))


AXES = ["PIR", "LPS", "RAS", "SAR"]


@pytest.mark.parametrize("axes", AXES)
def test_the_arrays_for_napari_show_the_front_at_the_top_and_left_at_the_right(
    axes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "how-to" / "viewers.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if "nibabel" in block]
    voxels = np.zeros((4, 5, 6), dtype=np.uint8)  # to the right, anterior, superior; 1, 2 and 3 mm
    voxels[3, 4, 5] = 1  # right, front, top
    image = nib.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0]))
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
    )
    for name in ("SCANS/x", "PREDICTIONS/x_mask", "PREDICTIONS/x_probability"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(turned, tmp_path / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)  # the page's own code
    assert found["mask"].shape == (6, 5, 4) and found["spacing"] == (3.0, 2.0, 1.0)
    assert np.argwhere(found["mask"]).tolist() == [[5, 0, 0]]  # top, first row, first column: the right at the left
