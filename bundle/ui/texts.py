"""Texts of the page; every number comes from the report of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..core import weights_report
from ..pictures.views import area_range

__all__ = ["evidence", "limitations", "rule_of", "scores_of"]


def evidence(kind: str, described: Mapping[str, Any]) -> list[str]:
    """Sensitivity and specificity at the thresholds of this kind of scan, in sentences.

    Args:
        kind: "image" or "volume", of the prediction.
        described: see `Predictor.describe`.
    """
    decision = described["decision"]
    if not decision[kind]["evidence"]:
        return ["There is no report for these weights: sensitivity and specificity are unknown."]
    display = decision["display_threshold"]
    patient = decision.get("patient") if kind == "volume" else None
    if not patient:
        return _evidence(decision[kind], display)
    return [*_evidence(patient, display, " of volumes"), *_evidence(decision[kind], display, " of slices")]


def _evidence(calibration: Mapping[str, Any], display: float, of: str = "") -> list[str]:
    """Sentences of one calibration; `of` says what it is of."""
    found = calibration["evidence"]
    points = {f"{display:.2f}": ("display threshold", found.get("at_display_threshold"))}
    points |= {f"{calibration['operating_point']:.2f}": ("operating point", found)}  # one sentence if both are equal
    sentences = [
        f"At the {name}{of}, {point}: sensitivity {_share(scores['sensitivity'])}, "
        f"specificity {_share(scores['specificity'])}, n = {found['n']}."
        for point, (name, scores) in reversed(points.items())
        if scores
    ]
    return [f"Thresholds{of}: {calibration['fitted_on']}.", *sentences]


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"


def rule_of(result: Mapping[str, Any]) -> str:
    """What the probability means, in a sentence.

    >>> rule_of({"threshold": 0.4, "display_threshold": 0.3})
    'Below 0.30: no tumor detected; from 0.40 on: tumor pattern; between them: uncertain.'
    """
    low, high = sorted((result["threshold"], result["display_threshold"]))
    between = "; between them: uncertain" if f"{low:.2f}" != f"{high:.2f}" else ""
    return f"Below {low:.2f}: no tumor detected; from {high:.2f} on: tumor pattern{between}."


def scores_of(described: Mapping[str, Any]) -> str:
    """The scores of the weights as a table in Markdown.

    Args:
        described: see `Predictor.describe`.
    """
    scores = described["scores"]
    if not scores:
        return "There is no report for these weights: their accuracy is unknown."
    segmentation = scores["segmentation"]
    patients = segmentation["patients_n"]
    rows = {f"Dice, mean of {patients} patients": segmentation.get("mean", {}).get("dice")} if patients else {}
    for name, found in scores["classification"].items():
        auc = weights_report.auc_of(found)
        count = auc["patients"]
        of = f"{name}, n = {found['n']}" if count is None else f"slices of {name}, mean of {count} patients"
        rows[f"ROC-AUC within {of}"] = auc["value"]
    for name, found in scores.get("tumor_types", {}).items():
        rows[f"Types of tumors in {name}, n = {found['n']}: macro ROC-AUC"] = found["macro_roc_auc"]
    lines = [f"| {name} | {'unknown' if value is None else f'{value:.2f}'} |" for name, value in rows.items()]
    return "\n".join(["| score | |", "|---|---|", *lines])


def limitations(
    result: Mapping[str, Any], described: Mapping[str, Any], outside: float | None, area_mm2: float | None
) -> list[str]:
    """Limitations of this prediction, from the report and the prediction.

    Args:
        result: of the scan.
        described: see `Predictor.describe`.
        outside: share of the CAM outside the head; None without a CAM.
        area_mm2: area of the mask in the displayed slice; None if unknown or empty.
    """
    reasons = [f"Flag: {flag['text']}." for flag in result["flags"]]
    if outside is not None and outside > 0.3:
        reasons.append(f"{outside:.0%} of the CAM lies outside the head: the prediction may depend on the background.")
    reasons += evidence(result["kind"], described)
    reasons += _by_size(described, area_mm2) if result["kind"] == "volume" else []
    if described.get("scored"):
        reasons.append(f"Scores: {described['scored']}.")
    return reasons


def _by_size(described: Mapping[str, Any], area_mm2: float | None) -> list[str]:
    """Sensitivity for tumors of this size."""
    sources = described["scores"].get("classification", {}).values()
    volumes = [source for source in sources if source["kind"] == "volume" and source["n"]]
    bins: list[Mapping[str, Any]] = volumes[0]["by_tumor_area"] if volumes else []
    if area_mm2 is None:
        return []
    for scores in bins:
        high = math.inf if scores["high_mm2"] is None else scores["high_mm2"]
        if scores["low_mm2"] <= area_mm2 < high and scores["sensitivity"] is not None:
            found = f"sensitivity {scores['sensitivity']:.0%}, n = {scores['positives']} slices"
            return [f"Tumors of {area_range(scores)} in a slice: {found}."]
    return []
