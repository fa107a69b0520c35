"""Scores of corrupted scans in the report: a chart, with a panel for each source and score, and the rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["chart", "draw", "worst_of"]

matplotlib.use("Agg")

SCORES = {  # title, and whether high values are good
    "dice": ("Dice", True),
    "roc_auc": ("ROC-AUC", True),
    "ece": ("calibration error", False),
    "wrong_without_flag": ("wrong without a flag", False),
}


def worst_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The unchanged scans of a source, and each corruption at its highest severity: names and scores."""
    return [("unchanged", next(iter(found.values()))[0]), *((name, rows[-1]) for name, rows in found.items())]


def draw(content: Mapping[str, Any], file: Path) -> None:
    """Draw the scores of `robustness.json` to a PNG file."""
    figure = chart(content)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def chart(content: Mapping[str, Any]) -> Figure:
    """One row of panels per source; a score that a source does not have has no panel content but a dash."""
    sources = content["sources"]
    rows = max(len(found) for found in sources.values())
    figure = Figure(figsize=(13, (1.3 + 0.32 * rows) * len(sources)), layout="constrained")
    grid = figure.subplots(len(sources), len(SCORES), squeeze=False)
    for line, (source, found) in zip(grid, sources.items(), strict=True):
        for axis, (score, (title, high_is_good)) in zip(line, SCORES.items(), strict=True):
            panel(axis, found, score, high_is_good)
            axis.set_title(f"{source}: {title}", fontsize=9)
        for axis in line[1:]:
            axis.set_yticks([])
    return figure


def panel(axis: Axes, found: Mapping[str, Sequence[Mapping[str, Any]]], score: str, high_is_good: bool) -> None:
    """Values of one score: a row per corruption, a column per severity."""
    severities = sorted({row["severity"] for rows in found.values() for row in rows})
    values = [[value_of(rows, severity, score) for severity in severities] for rows in found.values()]
    axis.imshow(values, cmap="RdYlGn" if high_is_good else "RdYlGn_r", vmin=0, vmax=1, aspect="auto", alpha=0.7)
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            axis.text(x, y, "-" if math.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=8)
    axis.set_yticks(range(len(found)), [name.replace("_", " ") for name in found], fontsize=8)
    axis.set_xticks(range(len(severities)), [str(severity) for severity in severities], fontsize=8)
    axis.set_xlabel("severity", fontsize=8)


def value_of(rows: Sequence[Mapping[str, Any]], severity: int, score: str) -> float:
    """A score at one severity; NaN where it is undefined."""
    found = [row[score]["value"] for row in rows if row["severity"] == severity]
    return math.nan if not found or found[0] is None else float(found[0])
