"""The page says what the JSON says, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bundle.errors import UserError
from bundle.reporting.collect import GALLERY, collect, collect_gallery, collect_scores
from bundle.reporting.estimates import mean
from bundle.reporting.report import (
    PAGE,
    interval,
    number,
    write_report,
)
from bundle.reporting.results import SEGMENTATION, finished, most_wrong

ROOT = Path(__file__).resolve().parent.parent.parent.parent
COMMITTED = ROOT / "docs" / "results"
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
HASH = re.compile(r"\b[0-9a-f]{64}\b")  # which may begin with digits


def numbers_in(content: Any) -> Iterator[float]:
    """Every number in JSON, and those within its words."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from numbers_in(key)
            yield from numbers_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from numbers_in(value)
    elif isinstance(content, str):
        yield from (float(found) for found in NUMBER.findall(content))
    elif isinstance(content, (int, float)):
        yield float(content)


def unexplained(page: str, results: Path) -> list[str]:
    """Numbers of a page that are neither in the results, nor their negative, nor in the template's own words."""
    values = {0.0}
    for path in results.rglob("*.json"):
        if path.name == "splits.json":  # on no page
            continue
        values |= set(numbers_in(json.loads(path.read_text())))
    known = {f"{sign * value:.3f}" for value in values for sign in (1, -1)}
    known |= {str(int(value)) for value in values if value == int(value)}
    template = re.sub(
        r"{[{%].*?[%}]}", " ", (ROOT / "bundle" / "reporting" / "report.md.j2").read_text(), flags=re.DOTALL
    )
    known |= set(NUMBER.findall(template + " ".join(SEGMENTATION.values())))
    for name in sorted(names_in(results), key=len, reverse=True):  # numbers in the names of files are no scores
        page = page.replace(name, "")
    return [
        found for found in NUMBER.findall(HASH.sub("", page)) if found not in known and found not in map(str, values)
    ]


def names_in(results: Path) -> set[str]:
    """Names of the evaluated cases."""
    report = json.loads((main_of(results) / "report.json").read_text())
    return {row["case"] for scores in report["classification"].values() for row in scores.get("cases", ())}


def main_of(results: Path) -> Path:
    """Folder of the experiment that the page is about."""
    return next(iter(finished(results).values()))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed results."""
    folder = tmp_path_factory.mktemp("docs") / "results"
    shutil.copytree(COMMITTED, folder)
    (folder.parent / "images").mkdir()
    for picture in COMMITTED.with_name("images").glob("phantoms_*.png"):
        shutil.copy(picture, folder.parent / "images")
    return folder


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    return write_report(results, results.parent).read_text()


def test_the_committed_page_is_what_the_committed_results_give(page: str) -> None:
    assert (ROOT / "docs" / f"{PAGE}.md").read_text() == page, "run: python -m bundle report"


def test_every_number_on_the_page_is_in_the_results(page: str, results: Path) -> None:
    """No number is typed by hand."""
    assert unexplained(page, results) == []


def test_a_number_that_was_typed_by_hand_is_found(page: str, results: Path) -> None:
    assert unexplained(page + "\nDice 0.98765", results) == ["0.98765"]


def test_cam_scores_are_pooled_over_folds(page: str, results: Path) -> None:
    rows = [
        row
        for path in sorted(main_of(results).glob("explanation_fold*.json"))
        for row in json.loads(path.read_text())["sources"]["brats"]["cases"]
        if row["energy_inside"] is not None
    ]
    ratio = sum(row["energy_inside"] for row in rows) / sum(row["chance"] for row in rows)
    line = next(line for line in page.splitlines() if line.startswith("| brats |") and number(ratio) in line)
    assert f"| {len(rows)} |" in line


def test_sensitivity_never_stands_without_specificity_and_n(page: str) -> None:
    """Sensitivity is never shown without specificity."""
    for block in page.split("\n\n"):
        if "sensitivity" in block and block.startswith("|"):
            header, *rows = block.splitlines()
            if "sensitivity" not in header:  # a row is about it
                assert all("specificity" in row for row in rows if "sensitivity" in row)
                continue
            assert "specificity" in header or "specificity" in page[page.index(block) + len(block) :][:200], header


def test_every_part_of_the_audit_and_every_variant_is_on_the_page(page: str, results: Path) -> None:
    summary = json.loads((results / "ablations" / "summary.json").read_text())
    for variant in summary["variants"].values():
        assert f"| {variant['description']} |" in page
    audit = json.loads(min(main_of(results).glob("audit_fold*.json")).read_text())
    parts = [name for name, part in audit.items() if isinstance(part, dict) and "verdict" in part]
    assert len(parts) == 9 and all(f"| {name} |" in page for name in parts)


def test_volumes_as_a_whole_have_a_row_for_each_source(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "images").mkdir()
    file = main_of(tmp_path / "results") / "report.json"
    report = json.loads(file.read_text())
    found = {"sensitivity": 0.75, "specificity": None, "roc_auc": None, "low_dice": 1, "false_ml": None}
    lgg = {**found, "n": 4, "tumors": 4, "dice": {"mean": 0.625, "median": 0.6875}}
    lgg |= {"states": {"tumor": {"tumor": 3, "no_tumor": 1}, "none": {}}}
    report["patients"] = {"sources": {"lgg": lgg}, "all": lgg, "without_tumor": []}
    report["decision_out_of_fold"]["patient"] = {
        **{"temperature": 1.0, "operating_point": 0.875, "fitted_on": "9 volumes, 3 without a tumor"},
        **{"evidence": {"sensitivity": 0.5, "specificity": 0.375}},
    }
    file.write_text(json.dumps(report))
    page = write_report(tmp_path / "results", tmp_path).read_text()
    line = "| lgg | 4 | 4 | 0.750 | - | - | 0.625 | 0.688 | 1 | 3 tumor, 1 no_tumor | - | - | - |"
    assert line in page and "operating point of volumes, 0.875" in page


def test_types_of_tumors_have_rows_only_where_there_are_types(page: str, results: Path, tmp_path: Path) -> None:
    assert "Types of tumors" not in page
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "images").mkdir()
    file = main_of(tmp_path / "results") / "report.json"
    names, confusion = ["glioma", "pituitary"], {"glioma": {"glioma": 3, "pituitary": 1}}
    one = {"n": 4, "roc_auc": 0.875, "sensitivity": 0.75, "ci95": {"roc_auc": [0.5, 1.0], "sensitivity": None}}
    found = {"types": names, "n": 8, "groups": 7, "macro_roc_auc": 0.8125, "balanced_accuracy": 0.625}
    found |= {"ci95": {"macro_roc_auc": [0.625, 0.9375], "balanced_accuracy": [0.375, 0.875]}}
    found |= {"by_type": dict.fromkeys(names, one), "confusion": {**confusion, "pituitary": confusion["glioma"]}}
    file.write_text(json.dumps({**json.loads(file.read_text()), "tumor_types": {"kaggle": found}}))
    page = write_report(tmp_path / "results", tmp_path).read_text()
    assert "kaggle, n = 8 in 7 clusters: macro ROC-AUC 0.812 (0.625 to 0.938), balanced accuracy 0.625" in page
    assert "| type | n | ROC-AUC | sensitivity | called glioma | called pituitary |\n|---|---|---|---|---|" in page
    assert "\n| glioma | 4 | 0.875 (0.500 to 1.000) | 0.750 (no interval) | 3 | 1 |\n" in page
    assert not unexplained(page, tmp_path / "results")


def test_the_notice_and_the_worst_come_first(page: str, results: Path) -> None:
    assert "Research use only. Not a medical device." in page[:300]
    report = json.loads((main_of(results) / "report.json").read_text())
    worst, best = (report["segmentation"]["patients"][i]["id"] for i in (0, -1))
    assert page.index(f"| {worst} |") < page.index(f"| {best} |")


def test_the_worst_predictions_are_of_different_cases() -> None:
    told = [("a", 0, 0.9, 0), ("a", 1, 0.95, 0), ("b", 0, 0.1, 1), ("c", None, 0.5, 1), ("a", 2, 0.01, 1)]
    rows = [{"case": case, "slice": index, "probability": p, "cls": cls} for case, index, p, cls in told]
    assert [(row["case"], row["slice"]) for row in most_wrong(rows)] == [("a", 2), ("b", 0), ("c", None)]


def test_the_html_report_contains_its_pictures(page: str, results: Path) -> None:
    html = (results.parent / f"{PAGE}.html").read_text()
    assert html.count("data:image/png;base64,") == page.count("![") == 2 + len(finished(results)) + len(GALLERY)
    assert 'src="images' not in html and "<table>" in html


@pytest.mark.usefixtures("page")
def test_pictures_of_scans_go_into_the_html_only(results: Path, tmp_path: Path) -> None:
    picture = results.parent / "images" / "evaluation_curves.png"
    scans = [tmp_path / "A" / "overlays.png", tmp_path / "B & C" / "overlays & more.jpg"]
    for scan in scans:
        scan.parent.mkdir()
        shutil.copy(picture, scan)
    path = write_report(results, tmp_path, [scans[0], *scans])
    html = path.with_suffix(".html").read_text()
    assert "overlays & more" not in path.read_text() and "<h2>overlays &amp; more</h2>" in html
    assert html.count("data:image/png;base64,") == 4 + len(finished(results))
    assert html.count("data:image/jpeg;base64,") == 1 and html.endswith("</html>\n")
    with pytest.raises(UserError, match=r"gone\.png: no such image"):
        write_report(results, tmp_path, [tmp_path / "gone.png"])


def test_a_volume_without_a_tumor_has_no_dice_in_the_report(results: Path, tmp_path: Path) -> None:
    """Without manual masks nothing is compared over them."""
    other = tmp_path / "results"
    shutil.copytree(results, other)
    path = main_of(other) / "summary.json"
    summary = json.loads(path.read_text())
    for variant in summary["variants"].values():
        for seed in variant["seeds"]:
            seed["segmentation"]["patients"]["brats/empty"] = None
        nothing = {"n": 0, "mean_difference": None, "ci95": None, "better": 0, "worse": 0, "non_inferior": None}
        variant["against_reference"]["dice_manual"] = {**nothing, "margin": 0.01}
    path.write_text(json.dumps(summary))
    page = write_report(other, tmp_path).read_text()
    assert "manual masks | 0 |" not in page and "## " in page


def test_writing_the_report_again_changes_nothing(page: str, results: Path) -> None:
    before = {path.name: path.read_bytes() for path in results.parent.rglob("*.*") if path.is_file()}
    write_report(results, results.parent)
    assert before == {path.name: path.read_bytes() for path in results.parent.rglob("*.*") if path.is_file()}


def test_the_report_prefers_the_cross_validation(results: Path, tmp_path: Path) -> None:
    """The ablations stay a section of it."""
    shutil.copytree(results / "ablations", tmp_path / "results" / "ablations")
    crossed = shutil.copytree(main_of(results), tmp_path / "results" / "crossvalidation")
    summary = json.loads((crossed / "summary.json").read_text())
    summary["variants"] = {name: summary["variants"][name] for name in ("recipe", "stage_1")}
    summary["variants"]["recipe"]["folds"] = 9
    (crossed / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path / "results", tmp_path).read_text()
    assert "| folds | 9;" in page and "| images with shuffled labels |" in page
    compared = [
        row.split(" | ")[1:4:2] for row in page.splitlines() if re.match(r"\| segmentation alone \| [a-z]", row)
    ]
    among = ("all", "manual masks")
    assert compared == [[name, masks] for name in ("crossvalidation", "ablations") for masks in among]
    (tmp_path / "results" / "ablations").rename(tmp_path / "results" / "other_networks")
    assert "## Other networks" in write_report(tmp_path / "results", tmp_path).read_text()
    shutil.rmtree(tmp_path / "results" / "other_networks")
    assert "## Ablations" not in write_report(tmp_path / "results", tmp_path).read_text()


def test_patients_used_for_development_are_named(results: Path, tmp_path: Path) -> None:
    left_out = {"brats_2": {"dice": 0.5}, "brats_1": {"dice": 0.6}}
    (tmp_path / "results").mkdir()
    shutil.copytree(results / "ablations", tmp_path / "results" / "ablations")
    assert "was chosen by the Dice of" not in write_report(tmp_path / "results", tmp_path).read_text()
    (tmp_path / "results" / "screening.json").write_text(json.dumps({"variants": {"a": {"left_out": left_out}}}))
    assert (
        "was chosen by the Dice of brats_1, brats_2, each" in write_report(tmp_path / "results", tmp_path).read_text()
    )


def test_without_results_the_commands_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="python -m bundle report --run"):
        write_report(tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"summary\.json: missing, finish the run first"):
        collect(tmp_path, tmp_path / "results")


def test_combinations_of_sequences_are_a_section(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    (folder / "subsets.json").unlink(missing_ok=True)
    assert "## Combinations of sequences" not in write_report(folder, tmp_path).read_text()
    with pytest.raises(UserError, match=r"subsets\.json: missing, finish the run first"):
        collect_scores(tmp_path / "run", folder, "subsets")
    scored = {"value": 0.5, "ci95": [0.25, 0.75]}
    row = {"patients": 24, "dice": scored, "detected": 1.0, "against_alone": scored, "against_baseline": scored}
    rows = [
        {"sequences": ["flair", "t1"], "weights": "these", **row},
        {"sequences": ["flair"], "weights": "baseline", **row, "against_baseline": {"value": None, "ci95": None}},
    ]
    content = {
        "modalities": ["flair", "t1"],
        "baseline": "flair",
        "models": {"weights": [{}]},
        "sources": {"lgg": rows},
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "subsets.json").write_text(json.dumps(content))
    collect_scores(tmp_path / "run", folder, "subsets")
    page = write_report(folder, tmp_path).read_text()
    estimate = "0.500 (0.250 to 0.750)"
    assert f"| flair + t1 | 24 | {estimate} | 1.000 | {estimate} | {estimate} |" in page
    assert f"| flair (baseline) | 24 | {estimate} | 1.000 | {estimate} | - |" in page


def test_pictures_of_phantoms_come_from_a_finished_demo(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"overlays_brats\.png: missing, finish the demo first"):
        collect_gallery(tmp_path, tmp_path / "images")
    for name in GALLERY:
        (tmp_path / "evaluation").mkdir(exist_ok=True)
        Image.new("RGB", (9, len(name))).save(tmp_path / "evaluation" / f"{name}.png")
    collect_gallery(tmp_path, tmp_path / "images")
    assert Image.open(tmp_path / "images" / "phantoms_cam_kaggle.png").size == (9, len("cam_kaggle"))


def test_numbers_have_one_format() -> None:
    assert [number(value) for value in (None, 3, 0.12345, -1.0, -1e-9)] == ["-", "3", "0.123", "-1.000", "0.000"]
    assert [interval(bounds) for bounds in (None, [0.1, 0.25])] == ["(no interval)", "(0.100 to 0.250)"]
    assert mean([None, 1.0, 2.0]) == 1.5 and mean([None]) is None


def test_no_scan_is_among_the_committed_files() -> None:
    assert {path.suffix for path in COMMITTED.rglob("*") if path.is_file()} == {".json"}
    images = COMMITTED.with_name("images")
    drawn = {path.name for path in images.glob("evaluation_*.png")}
    assert {path.name for path in images.glob("phantoms_*.png")} == {f"phantoms_{name}.png" for name in GALLERY}
    assert drawn == {
        "evaluation_patients.png",
        "evaluation_curves.png",
        "evaluation_ablations.png",
        "evaluation_networks.png",
        "evaluation_contrasts.png",
        "evaluation_robustness.png",
    }


def test_the_table_of_sequences_is_the_evidence_of_the_classifier(page: str) -> None:
    told = json.loads((COMMITTED / "sequences.json").read_text())
    model = json.loads((ROOT / "models" / "sequences.json").read_text())
    assert told["fitted_on"] == model["fitted_on"]
    assert all(told[key] == model["evidence"][key] for key in ("classes", "volumes", "slices"))
    flair = told["classes"].index("flair")
    assert f"| flair | {' | '.join(map(str, told['volumes'][flair]))} |" in page
