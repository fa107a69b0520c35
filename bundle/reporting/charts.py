"""Charts of the evaluation report, from its JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import robustness
from .comparisons import scored_sources

__all__ = ["draw_charts"]

matplotlib.use("Agg")

DARK, LIGHT, ORANGE = "#1f6f78", "#9fd3c7", "#ff9f1c"
CLASSES = ("none", "tumor")
IN_A_LINE = 4  # panels of a comparison


def draw_charts(facts: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Draw all charts for which there are data; return their files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    charts: dict[str, Path] = {}
    figures = {"patients": patients(facts), "curves": curves(facts)}
    figures |= {"robustness": robustness.chart(facts["robustness"]) if facts.get("robustness") else None}
    figures |= {name: comparison(summary) for name, summary in facts["comparisons"].items()}
    for name, figure in figures.items():
        if figure is not None:
            charts[name] = folder / f"evaluation_{name}.png"
            figure.savefig(charts[name], dpi=110, metadata={"Software": None})
    return charts


def patients(facts: Mapping[str, Any]) -> Figure | None:
    """Dice of each patient, worst first, with the mean and its interval."""
    rows, mean = facts["report"]["segmentation"]["patients"], facts["report"]["segmentation"]["mean"]
    rows = [row for row in rows if row["dice"] is not None]
    if not rows:
        return None
    figure = Figure(figsize=(8, 1.2 + 0.32 * len(rows)), layout="constrained")
    axis = figure.subplots()
    if mean["ci95"]["dice"]:
        axis.axvspan(*mean["ci95"]["dice"], color=LIGHT, alpha=0.4, label="95 % interval of the mean")
    axis.axvline(mean["dice"], color=DARK, linewidth=1, label="mean")
    axis.plot([row["dice"] for row in rows], range(len(rows)), "o", color=ORANGE, markeredgecolor="black")
    axis.set_yticks(range(len(rows)), [row["id"] for row in rows], fontsize=8)
    axis.set(xlim=(0, 1), xlabel="volumetric whole-tumor Dice, out of fold")
    axis.invert_yaxis()
    axis.legend(loc="lower left", fontsize=8)
    return figure


def curves(facts: Mapping[str, Any]) -> Figure | None:
    """One row per source: ROC, precision-recall, reliability, confusion matrix at the operating point."""
    sources = {name: s for name, s in facts["report"]["classification"].items() if s.get("curves", {}).get("roc")}
    if not sources:
        return None
    figure = Figure(figsize=(13, 3.3 * len(sources)), layout="constrained")
    grid = figure.subplots(len(sources), 4, squeeze=False)
    for (name, scores), (roc, pr, reliability, confusion) in zip(sources.items(), grid, strict=True):
        curve(
            *(roc, scores["curves"]["roc"], "1 - specificity", "sensitivity"),
            f"{name}: ROC, AUC of all folds together {scores['roc_auc']:.3f}",
        )
        roc.plot([0, 1], [0, 1], ":", color="gray")
        title = f"{name}: precision-recall, {scores['pr_auc']:.3f}"
        curve(pr, scores["curves"]["pr"], "sensitivity", "precision", title)
        pr.axhline(scores["prevalence"], linestyle=":", color="gray")
        bins = scores["reliability"]
        reliability.plot([0, 1], [0, 1], ":", color="gray")
        reliability.plot([b["mean_probability"] for b in bins], [b["observed"] for b in bins], "o-", color=DARK)
        for b in bins:
            point = b["mean_probability"], b["observed"]
            inwards = [-6 if place > 0.5 else 6 for place in point]
            sides = {"ha": "right" if point[0] > 0.5 else "left", "va": "top" if point[1] > 0.5 else "bottom"}
            reliability.annotate(str(b["n"]), point, inwards, textcoords="offset points", fontsize=7, **sides)
        frame(reliability, "probability", "observed", f"{name}: reliability, ECE {scores['ece']:.3f}")
        matrix(confusion, scores["confusion"], f"{name}: at the operating point, n = {scores['n']}")
    return figure


def curve(axis: Axes, points: list[list[float]], x: str, y: str, title: str) -> None:
    """A line of [x, y] points in the unit square."""
    axis.plot(*zip(*points, strict=True), color=DARK)
    frame(axis, x, y, title)


def frame(axis: Axes, x: str, y: str, title: str) -> None:
    """The unit square."""
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, aspect="equal")
    axis.set_title(title, fontsize=9)


def matrix(axis: Axes, counts: Mapping[str, int], title: str) -> None:
    """Confusion matrix; rows are the classes."""
    table = [[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]]
    shares = [[value / max(1, sum(row)) for value in row] for row in table]
    axis.imshow(shares, cmap="BuGn", vmin=0, vmax=1)
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            axis.text(j, i, str(value), ha="center", va="center", color="white" if shares[i][j] > 0.6 else "black")
    axis.set_xticks(range(2), [f"called {name}" for name in CLASSES], fontsize=8)
    axis.set_yticks(range(2), CLASSES, fontsize=8)
    axis.set_title(title, fontsize=9)


def comparison(summary: Mapping[str, Any]) -> Figure:
    """Every variant and seed of an experiment: Dice, and the AUC within each source; some panels in a line."""
    variants, sources = summary["variants"], scored_sources(summary)
    columns = min(IN_A_LINE, 1 + len(sources))
    lines = math.ceil((1 + len(sources)) / columns)
    figure = Figure(figsize=(2.4 + 3.0 * columns, lines * (1.0 + 0.34 * len(variants))), layout="constrained")
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    axes = grid.ravel()
    for place, variant in enumerate(variants.values()):
        color = ORANGE if place == 0 else DARK
        for seed in variant["seeds"]:
            aucs = [seed["classification"][source]["within_folds"]["roc_auc"] for source in sources]
            for axis, value in zip(axes, [seed["segmentation"]["dice"], *aucs], strict=False):
                axis.plot(math.nan if value is None else value, place, "o", color=color, alpha=0.8)
    for first in grid[:, 0]:
        first.set_yticks(range(len(variants)), [v["description"] for v in variants.values()], fontsize=8)
    axes[0].invert_yaxis()
    for axis, title in zip(axes, ["mean Dice", *(f"ROC-AUC within {source}" for source in sources)], strict=False):
        axis.set_title(title, fontsize=9)
        axis.grid(axis="y", alpha=0.3)
    for axis in axes[1 : 1 + len(sources)]:
        axis.axvline(0.5, linestyle=":", color="gray")
    for axis in axes[1 + len(sources) :]:
        axis.remove()
    return figure
