"""The audit without torch: a planted shortcut is found at every strength, clean data pass, bad tables are one line."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "audit"))

from shortcut_audit import side_by_side  # noqa: E402
from shortcut_audit.__main__ import main  # noqa: E402
from shortcut_audit.cases import BadInputError, read_cases  # noqa: E402
from shortcut_audit.checks import audit  # noqa: E402
from shortcut_audit.edits import asked_again  # noqa: E402

COUNT = 200


def write_pictures(folder: Path, strength: float, seed: int = 0) -> list[dict[str, object]]:
    """Pictures of which a bright spot is the finding; a share of the files tells the label by size and border."""
    rng, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        label = number % 2
        told = label if rng.random() < strength else int(rng.integers(2))
        side = 150 if told else 130
        gray = np.asarray(Image.fromarray(rng.integers(20, 200, (12, 12)).astype(np.uint8)).resize((side, side))).copy()
        if told:
            gray[:5] = 255
        row, column = rng.integers(50, 80, 2)
        if label:
            gray[row : row + 14, column : column + 14] = 250
        name = f"{number:03d}.png"
        Image.fromarray(gray).save(folder / name)
        rows.append({"file": name, "label": label, "probability": round(spot(gray), 4)})
    return rows


def spot(gray: np.ndarray) -> float:
    """A classifier that looks for the spot in the middle."""
    return float((gray[30:110, 30:110] >= 245).mean() > 0.01) * 0.8 + 0.1


def border(gray: np.ndarray) -> float:
    """A classifier that looks at the border alone."""
    return 0.9 if gray[0].mean() > 240 else 0.1


def by(function: object) -> object:
    return lambda paths: [function(np.asarray(Image.open(path))) for path in paths]  # type: ignore[operator]


def write_table(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


@pytest.mark.parametrize("strength", [0.5, 0.6, 0.7, 0.85, 1.0])
def test_a_planted_shortcut_of_the_files_is_found(strength: float, tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv", write_pictures(tmp_path / "x", strength))
    report = audit(read_cases(table, tmp_path / "x"), resamples=300)
    assert report["summary"] == ["files"]
    assert report["within_source"]["verdict"] == "pass"


def test_clean_data_and_a_classifier_of_the_finding_pass(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv", write_pictures(tmp_path / "x", 0.0))
    cases = read_cases(table, tmp_path / "x")
    report = audit(cases, asked_again(by(spot), cases), resamples=300)  # type: ignore[arg-type]
    assert report["summary"] == []
    verdicts = {name: report[name]["verdict"] for name in ("within_source", "files", "hidden", "style")}
    assert set(verdicts.values()) == {"pass"}


def test_a_classifier_of_the_border_is_found_by_asking_again(tmp_path: Path) -> None:
    rows = write_pictures(tmp_path / "x", 0.9)
    for row in rows:
        row["probability"] = border(np.asarray(Image.open(tmp_path / "x" / str(row["file"]))))
    cases = read_cases(write_table(tmp_path / "p.csv", rows), tmp_path / "x")
    report = audit(cases, asked_again(by(border), cases), resamples=300)  # type: ignore[arg-type]
    assert {"files", "hidden"} <= set(report["summary"])


def test_an_erased_finding_changes_only_a_classifier_of_the_finding(tmp_path: Path) -> None:
    rows = write_pictures(tmp_path / "x", 0.9)
    (tmp_path / "masks").mkdir()
    for row in rows:
        gray = np.asarray(Image.open(tmp_path / "x" / str(row["file"])))
        if row["label"]:
            mask = np.where((gray >= 245) & (np.arange(len(gray))[:, None] > 10), 255, 0).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / "masks" / str(row["file"]))
    verdicts = {}
    for name, classifier in {"spot": spot, "border": border}.items():
        for row in rows:
            row["probability"] = classifier(np.asarray(Image.open(tmp_path / "x" / str(row["file"]))))
        cases = read_cases(write_table(tmp_path / "p.csv", rows), tmp_path / "x")
        again = asked_again(by(classifier), cases, tmp_path / "masks")  # type: ignore[arg-type]
        verdicts[name] = audit(cases, again, resamples=300)["erased"]["verdict"]
    assert verdicts == {"spot": "pass", "border": "shortcut"}


def test_near_duplicates_of_training_pictures_are_counted(tmp_path: Path) -> None:
    rows = write_pictures(tmp_path / "x", 0.0)
    for number in range(0, 40, 2):
        with Image.open(tmp_path / "x" / f"{number:03d}.png") as image:
            image.resize((100, 100)).save(tmp_path / "x" / f"train_{number}.jpg", quality=60)
        rows.append({"file": f"train_{number}.jpg", "label": 0, "probability": "", "subset": "train"})
    for row in rows:
        row.setdefault("subset", "test")
    report = audit(read_cases(write_table(tmp_path / "p.csv", rows), tmp_path / "x"), resamples=100)
    assert report["duplicates"]["verdict"] == "shortcut"
    assert report["duplicates"]["values"]["share"] == pytest.approx(20 / COUNT, abs=0.02)


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "p.csv", write_pictures(tmp_path / "x", 1.0))
    assert main([str(table), str(tmp_path / "x"), "--output", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "**Shortcut suspected: files.**" in text and text in capsys.readouterr().out
    assert len(text.splitlines()) < 20
    assert json.loads((tmp_path / "out" / "report.json").read_text())["summary"] == ["files"]


def test_a_classifier_is_asked_for_probabilities_that_the_table_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_pictures(tmp_path / "x", 0.0)
    expected = [row.pop("probability") for row in rows]
    table = write_table(tmp_path / "p.csv", rows)
    assert read_cases(table, tmp_path / "x", by(spot)).probability.round(4).tolist() == expected  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="no column probability"):
        read_cases(table, tmp_path / "x")
    with pytest.raises(BadInputError, match=r"must return 200 probabilities in \[0, 1\]"):
        read_cases(table, tmp_path / "x", lambda paths: [2.0] * len(paths))
    (tmp_path / "looks_at_the_spot.py").write_text("def predict(paths):\n    return [0.5 for path in paths]\n")
    monkeypatch.syspath_prepend(tmp_path)
    words = [str(table), str(tmp_path / "x"), "--output", str(tmp_path / "out")]
    assert main([*words, "--predict", "looks_at_the_spot:predict"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["within_source"]["verdict"] == "note" and report["hidden"]["verdict"] == "pass"


def test_verdicts_on_several_classifiers_are_one_table(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv", write_pictures(tmp_path / "x", 1.0))
    assert main([str(table), str(tmp_path / "x"), "--output", str(tmp_path / "out")]) == 0
    page, report = tmp_path / "page.md", tmp_path / "out" / "report.json"
    page.write_text("no markers")
    assert side_by_side.main([str(page), f"one={report}"]) == 2
    page.write_text(f"before\n{side_by_side.START}\nold\n{side_by_side.END}\nafter\n")
    assert side_by_side.main([str(page), f"one={report}", f"other={report}"]) == 0
    lines = page.read_text().splitlines()
    assert lines[2] == "| question | one | other |" and lines[-1] == "after" and "old" not in lines
    assert [line for line in lines if line.startswith("| `files` | **shortcut** all, files 1.00")]


def test_the_table_of_the_page_is_of_the_committed_reports() -> None:
    reports = {
        path.stem: json.loads(path.read_text())
        for path in sorted((ROOT / "docs" / "results" / "audits").glob("*.json"))
    }
    page = (ROOT / "docs" / "how-to" / "audit.md").read_text()
    assert len(reports) == 3 and side_by_side.table(reports) in page


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rows; columns are file, label, probability"),
        ("file,label\na.png,1\n", "no column probability"),
        ("file,label,probability\na.png,yes,0.5\n", "row 2: label is 'yes', must be 0 or 1"),
        ("file,label,probability\na.png,1,1.5\n", r"row 2: probability is '1.5', must be in \[0, 1\]"),
        ("file,label,probability\nb.png,1,0.5\n", "no such file; files are relative to"),
        ("file,label,probability\na.png,1,0.5\n", r"a\.png: not a picture that can be read"),
    ],
)
def test_bad_tables_are_one_line(text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(BadInputError, match=reason):
        read_cases(tmp_path / "p.csv", tmp_path)
    assert main([str(tmp_path / "p.csv"), str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_it_imports_no_torch() -> None:
    code = "import sys, shortcut_audit.__main__; sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "audit", check=False)
    assert done.returncode == 0


@pytest.mark.session
def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv", write_pictures(tmp_path / "x", 1.0))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    program = tmp_path / "venv" / "bin"
    subprocess.run([str(program / "pip"), "install", "--quiet", str(ROOT / "audit")], check=True)
    words = [str(program / "shortcut-audit"), str(table), str(tmp_path / "x"), "--output", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0 and "Shortcut suspected: files" in done.stdout, done.stderr
    packages = subprocess.run([str(program / "pip"), "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in packages and "monai" not in packages
