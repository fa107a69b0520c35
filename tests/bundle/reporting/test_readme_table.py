"""The README's table of scores: generated from committed JSON, with good and bad scores, intervals and n."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.errors import UserError
from bundle.reporting.readme_table import END, START, readme_table, write_readme_table
from bundle.reporting.results import load

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def table() -> str:
    return readme_table(load(ROOT / "docs" / "results"))


def test_the_readme_contains_the_table_of_the_committed_results(table: str) -> None:
    text = (ROOT / "README.md").read_text()
    assert text.partition(START)[2].partition(END)[0].strip() == table.strip()


def test_every_row_has_a_number_and_a_count(table: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert all(float(score) >= 0 and int(count.split()[0]) > 0 for _, score, _, count in rows)
    names = " ".join(row[0] for row in rows)
    for name in ("Dice of the worst patient", "sensitivity for images", "specificity for images"):
        assert name in names


def test_the_table_is_replaced_between_its_markers(table: str, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_readme_table(readme, ROOT / "docs" / "results")
    assert readme.read_text() == f"before\n{START}\n{table}{END}\nafter\n"


def test_missing_markers_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no table\n")
    with pytest.raises(UserError, match=r"README\.md: no place for the table of scores"):
        write_readme_table(tmp_path / "README.md", ROOT / "docs" / "results")
