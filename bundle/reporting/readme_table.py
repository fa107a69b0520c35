"""The table of main scores in the README, written between two markers from committed JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import weights_report
from ..errors import UserError
from ..pictures.views import area_range
from .report import interval, number
from .results import load

__all__ = ["END", "START", "readme_table", "write_readme_table"]

START, END = "<!-- scores: written by `python -m bundle report` -->", "<!-- end of scores -->"
HEAD = ["| cases not used for training | score | 95 % interval | n |", "|---|---|---|---|"]


def write_readme_table(readme: Path, results: Path) -> None:
    """Replace the table between the markers of a README.

    Args:
        readme: the file, with both markers.
        results: folder of JSON files, see `results.load`.

    Raises:
        UserError: when a marker is missing.
    """
    text = readme.read_text()
    if START not in text or END not in text:
        raise UserError(f"{readme}: no place for the table of scores, add the lines {START} and {END}")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{readme_table(load(results))}{END}{after}")


def readme_table(facts: Mapping[str, Any]) -> str:
    """The main scores of the cross-validation with intervals and n, good ones and bad ones.

    Args:
        facts: see `results.load`.
    """
    segmentation, volumes, learned = facts["report"]["segmentation"], facts["volumes"], facts["learned"]
    manual = segmentation["manual"] or {}
    dice = [row["dice"] for row in segmentation["patients"] if row["dice"] is not None]
    rows = [
        _row(
            "Dice of the whole tumor, mean over patients with manual masks",
            *(manual.get("dice"), manual.get("ci95"), f"{manual.get('n', 0)} patients"),
        ),
        _row(
            "Dice of the whole tumor, mean over all patients",
            *(segmentation["mean"]["dice"], segmentation["mean"]["ci95"]["dice"], f"{len(dice)} patients"),
        ),
        _row("Dice of the worst patient", min(dice, default=None), None, "1 patient"),
    ]
    for source, scores in volumes.items():
        auc = weights_report.auc_of(scores)
        count = f"{auc['patients']} patients"
        rows.append(_row(f"ROC-AUC of a volume's slices, {source}", auc["value"], auc["ci95"], count))
        smallest = min(scores["by_tumor_area"], key=lambda found: found["low_mm2"])
        name = f"sensitivity for slices with {area_range(smallest)} of tumor, {source}"
        rows.append(_row(name, smallest["sensitivity"], None, f"{smallest['positives']} slices"))
    sources = sorted(facts["images"], key=lambda name: bool(learned) and name not in learned)  # training sources first
    for name in sources:
        words = f"{name}, not trained on" if learned and name not in learned else name
        of_volumes = name.rpartition("_")[0] in _volume_sources(facts)  # slices of another sequence, as images
        rows += _image_rows(words, facts["images"][name], short=of_volumes)
    return "\n".join([*HEAD, *rows]) + "\n"


def _volume_sources(facts: Mapping[str, Any]) -> set[str]:
    """Names of the sources of volumes."""
    return {row["source"] for row in facts["report"]["segmentation"]["patients"]}


def _image_rows(name: str, scores: Mapping[str, Any], short: bool) -> list[str]:
    """Scores of the images of one source; sensitivity and specificity are those at the operating point."""
    negatives = scores["n"] - scores["positives"]
    auc, bounds = weights_report.auc_of(scores), scores["ci95"]
    rows = [_row(f"ROC-AUC of images, {name}", auc["value"], auc["ci95"], f"{scores['n']} images")]
    if auc["value"] is None:  # of one class
        return []
    if not short:
        for measure, count in (
            ("sensitivity", f"{scores['positives']} with tumor"),
            ("specificity", f"{negatives} without tumor"),
        ):
            rows.append(_row(f"{measure} for images, {name}", scores[measure], bounds[measure], count))
    return rows


def _row(name: str, value: float | None, bounds: Sequence[float] | None, count: str) -> str:
    return f"| {name} | {number(value)} | {interval(bounds).strip('()') if bounds else '-'} | {count} |"
