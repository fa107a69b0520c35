"""The command line: `shortcut-audit PREDICTIONS.csv FOLDER --output DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .cases import BadInputError, read_cases
from .checks import audit
from .edits import asked_again, callable_of
from .page import page

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a classifier; write report.json and report.md. Exit code 0, also with alarms; 2 for bad input."""
    parser = argparse.ArgumentParser(prog="shortcut-audit", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("table", type=Path, help="CSV: file, label, probability; optional source, group, subset")
    parser.add_argument("folder", type=Path, help="of the pictures")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--predict", metavar="MODULE:FUNCTION", help="from paths of pictures to probabilities")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="of findings, by the names of their pictures")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        predict = callable_of(options.predict) if options.predict else None
        cases = read_cases(options.table, options.folder, predict)
        again = asked_again(predict, cases.tested(), options.masks) if predict else None
        report = audit(cases, again, options.seed)
    except BadInputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = page(report, options.table.name)
    (options.output / "report.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
