"""`python -m bundle.followup`: measure how often the band covers a known change; write the numbers and their table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..core import files
from ..loading import BUNDLE_ROOT
from ..manifest import read_json
from ..predictor import Predictor
from .coverage import measure, write_table

DOCS = BUNDLE_ROOT / "docs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write results/compare.json and the table of how-to/compare.md."""
    parser = argparse.ArgumentParser(prog="python -m bundle.followup", description=__doc__)
    parser.add_argument("--pairs", type=int, default=6, help="of phantoms for each change (default: 6)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=DOCS, help="folder of results/ and how-to/")
    parser.add_argument("--table", action="store_true", help="only write the table of results/compare.json anew")
    options = parser.parse_args(arguments)
    results, rows = options.output / "results" / "compare.json", []
    if options.table:
        rows = read_json(results)["pairs"]
    else:
        for row in measure(Predictor(), options.pairs, options.seed):
            rows.append(row)
            print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
            files.write_json(results, {"seed": options.seed, "pairs": rows})
    write_table(options.output / "how-to" / "compare.md", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
