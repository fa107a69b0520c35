"""The change between two dates: the band covers repeats of nothing new, and what is larger is named."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.command_line.cli import main
from bundle.core import messages
from bundle.datasets.phantoms import write_images, write_volumes
from bundle.followup.compare import matched, verdict
from bundle.followup.coverage import END, START, table, write_table
from bundle.followup.phantom_pairs import write_date

ROOT = Path(__file__).resolve().parents[3]


def test_the_band_is_left_by_one_in_twenty_comparisons_of_the_same() -> None:
    rng, left = np.random.default_rng(0), 0
    for _ in range(2000):
        centers = rng.normal(20, 1, (2, 1))  # of each date, which is scanned once
        left += verdict((centers + rng.normal(0, 1, (2, 8))).tolist())["shown"] != "no change shown"
    assert 0.03 < left / 2000 < 0.08


def test_a_change_beyond_the_band_has_its_direction() -> None:
    low, high, between = [10.0, 10.1, 9.9], [13.0, 13.1, 12.9], [10.1, 10.2, 10.0]
    assert verdict([low, high])["shown"] == "growth shown"
    assert verdict([high, low])["shown"] == "shrinkage shown"
    assert verdict([low, between])["shown"] == "no change shown"
    assert verdict([[0.0, 0.0], [0.0, 0.0]]) == {
        **{"change_ml": 0.0, "change_percent": None, "band_ml": 0.0, "shown": "no change shown"},
        "repeats_ml": {"first": [0.0, 0.0], "second": [0.0, 0.0]},
    }


def test_lesions_are_kept_new_gone_merged_and_split() -> None:
    first, second = np.zeros((2, 20, 20, 4), dtype=bool)
    first[1:4, 1:4, 1] = first[6:8, 1:4, 1] = second[1:8, 1:4, 1] = True  # 9 and 6 voxels become one of 21
    first[10:12, 10:12, 2] = True  # gone
    second[15:17, 15, 3] = True  # new
    assert matched(first, second) == [
        {"first": [1, 2], "second": [1]},
        {"first": [3], "second": []},
        {"first": [], "second": [2]},
    ]
    assert matched(first & False, first & False) == []


def test_the_command_compares_a_scan_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(tmp_path, 1, slices=12, side=128, seed=21, spacing_mm=6.0)
    scan = next(tmp_path.rglob("*_flair.nii.gz"))
    assert main(["compare", str(scan), str(scan), "--output", str(tmp_path / "out"), "--repeats", "2"]) == 0
    assert "change +0.0 ml" in (said := capsys.readouterr().out) and messages.NOTICE in said
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert found["shown"] == "no change shown" and found["registration"]["right"]
    assert all(entry["first"] == entry["second"] for entry in found["lesions"])
    masks = [(tmp_path / "out" / f"{date}_mask.nii.gz").read_bytes() for date in ("first", "second")]
    assert masks[0] == masks[1]


def test_pictures_and_absent_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = write_images(tmp_path, 2, seed=1)[0]
    out = tmp_path / "out"
    assert main(["compare", str(picture), str(picture), "--output", str(out)]) == 2
    assert f"{picture}: a single slice; compare needs volumes" in capsys.readouterr().err and not out.exists()
    assert main(["compare", str(picture), str(tmp_path / "no.nii"), "--output", str(out)]) == 2
    assert main(["compare", str(picture), str(picture), "--output", str(out), "--repeats", "1"]) == 2


def test_the_table_counts_what_was_said_and_what_the_band_covers(tmp_path: Path) -> None:
    same = {"growth": 1.0, "true_ml": 0.0, "change_ml": 3.0, "band_ml": 2.0, "shown": "growth shown"}
    same["correlation"] = 0.9
    grown = {"growth": 2.5, "true_ml": 9.0, "change_ml": 6.0, "band_ml": 4.0, "shown": "growth shown"}
    grown["correlation"] = 0.4
    missed = grown | {"change_ml": 3.0, "shown": "no change shown"}
    page = tmp_path / "page.md"
    with pytest.raises(ValueError, match="add the lines"):
        page.write_text("no markers")
        write_table(page, [same])
    page.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_table(page, [same, grown, missed])
    assert page.read_text().splitlines()[4:6] == [
        "| x 1.0 | 1 | +0.0 ml | 1 growth shown | 0 of 1 | 0 of 1 | 2.0 ml | 1 of 1 |",
        "| x 2.5 | 2 | +9.0 ml | 1 growth shown, 1 no change shown | 2 of 2 | 1 of 2 | 4.0 ml | 0 of 2 |",
    ]
    assert "old" not in page.read_text() and page.read_text().endswith(f"{END}\nafter\n")


def test_the_table_of_the_page_is_of_the_committed_pairs() -> None:
    rows = json.loads((ROOT / "docs" / "results" / "compare.json").read_text())["pairs"]
    assert table(rows) in (ROOT / "docs" / "how-to" / "compare.md").read_text()
    same = [row for row in rows if row["growth"] == 1.0]
    assert sum(row["shown"] == "no change shown" for row in same) >= 0.75 * len(same)
    assert sum(abs(row["change_ml"] - row["true_ml"]) <= row["band_ml"] for row in rows) >= 0.75 * len(rows)
    assert all(row["shown"] != "shrinkage shown" for row in rows if row["growth"] > 1)


def test_a_grown_phantom_has_the_growth_that_was_asked_for(tmp_path: Path) -> None:
    folder = write_volumes(tmp_path, 1, slices=20, side=128, spacing_mm=6.0, seed=33)[0]
    scan, mask = next(folder.glob("*_flair.nii.gz")), next(folder.glob("*_seg.nii.gz"))
    first_ml = float((np.asarray(nib.load(mask).dataobj) > 0).sum()) * 6.0 / 1000
    for growth in (0.5, 1.0, 2.5):
        change_ml, _ = write_date(scan, mask, tmp_path / "later.nii.gz", growth)
        assert (first_ml + change_ml) / first_ml == pytest.approx(growth, rel=0.2)
