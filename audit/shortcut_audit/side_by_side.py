"""`python -m shortcut_audit.side_by_side PAGE NAME=REPORT ...`: verdicts on several classifiers in one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checks import QUESTIONS
from .page import numbers

__all__ = ["END", "START", "main", "table"]

START, END = "<!-- audits: written by `python -m shortcut_audit.side_by_side` -->", "<!-- end of audits -->"


def table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Verdict and numbers of every question, in Markdown, a column for each classifier.

    Args:
        reports: of `checks.audit`, by the classifiers' names.
    """
    lines = [f"| question | {' | '.join(reports)} |", f"|---|{'---|' * len(reports)}"]
    for name in QUESTIONS:
        cells = [f"**{report[name]['verdict']}** {'; '.join(numbers(report[name]))}" for report in reports.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table between the markers of a page."""
    parser = argparse.ArgumentParser(prog="python -m shortcut_audit.side_by_side", description=__doc__)
    parser.add_argument("page", type=Path, help="Markdown with both markers")
    parser.add_argument("reports", nargs="+", metavar="NAME=REPORT", help="report.json of a classifier")
    options = parser.parse_args(arguments)
    named = [entry.partition("=") for entry in options.reports]
    before, start, rest = options.page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        print(f"error: {options.page}: add the lines {START} and {END}", file=sys.stderr)
        return 2
    found = {name: json.loads(Path(path).read_text()) for name, _, path in named}
    options.page.write_text(f"{before}{START}\n{table(found)}{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
