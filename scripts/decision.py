"""From logits to answers: temperature, thresholds, states, and the one rule for a volume."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from .files import sha256_of

__all__ = ["NOTICE", "Decision", "decision_of", "describe_model"]

NOTICE = "Research use only. Not a medical device."


@dataclass(frozen=True)
class Decision:
    """Everything that turns a logit into an answer, in one object.

    Args:
        operating_point: a probability from here on is a detected tumour.
        display_threshold: below it (and below the operating point) the answer is "no tumour"; between, "uncertain".
        temperature: logits are divided by it.
        top_slices: a volume's probability is the mean over this many of its most suspicious slices.
        fitted_on: where the operating point and temperature come from, in words.
    """

    operating_point: float = 0.5
    display_threshold: float = 0.3
    temperature: float = 1.0
    top_slices: int = 3
    fitted_on: str = "nothing: defaults"

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated tumour probabilities of logits, any shape; NaN stays NaN."""
        return np.asarray(expit(np.asarray(logits, dtype=np.float64) / self.temperature))

    def volume_probability(self, slice_probabilities: np.ndarray) -> float:
        """Probability that a volume shows a tumour, from its slices' (D,); NaN where no slice has an answer."""
        known = np.sort(slice_probabilities[np.isfinite(slice_probabilities)])
        return float(known[-self.top_slices :].mean()) if known.size else float("nan")

    def detected(self, probability: float) -> bool:
        """Whether a probability counts as a detected tumour."""
        return probability >= self.operating_point

    def state(self, probability: float) -> str:
        """Name the answer: "no_tumor", "uncertain" or "tumor"; never in conflict with `detected`."""
        if self.detected(probability):
            return "tumor"
        return "uncertain" if probability >= self.display_threshold else "no_tumor"


def report_of(model_path: str | Path) -> dict[str, Any] | None:
    """The report beside a weights file, if it was written for exactly these weights."""
    try:
        report = json.loads(Path(model_path).with_name("report.json").read_text())
        return report if report["model"]["sha256"] == sha256_of(model_path) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def decision_of(model_path: str | Path, **defaults: Any) -> Decision:
    """The decision in these weights' own report, or the defaults where there is none."""
    report = report_of(model_path)
    return Decision(**{**defaults, **((report or {}).get("decision") or {})})


def describe_model(model_path: str | Path, metadata_path: str | Path) -> dict[str, Any]:
    """What every answer says about the weights: version, hash, and whether a report belongs to them."""
    version = json.loads(Path(metadata_path).read_text())["version"]
    has_report = report_of(model_path) is not None
    exists = Path(model_path).is_file()
    return {
        "version": version,
        "sha256": sha256_of(model_path) if exists else None,
        "report": "matches these weights" if has_report else "no report for these weights",
    }
