"""The report beside weights, whether it is theirs, and which tasks the weights learned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .documents import SCHEMA_VERSION
from .files import sha256_of

__all__ = ["TASKS", "auc_of", "learned_by", "learned_of", "notes_beside", "report_beside", "require_version"]

TASKS = ("segmentation", "classification")


def learned_of(model: Mapping[str, Any]) -> Sequence[str]:
    """The tasks that weights were trained for, by their description; both where it does not say.

    >>> learned_of({"learned": ["classification"]}), learned_of({})
    (['classification'], ('segmentation', 'classification'))
    """
    learned: Sequence[str] = model.get("learned", TASKS)
    return learned


def auc_of(scores: Mapping[str, Any]) -> dict[str, Any]:
    """ROC-AUC of a source, by one rule wherever it is shown alone.

    Of volumes it is the mean over patients of the ROC-AUC of a patient's slices; of images that of all images, compared
    within folds.

    Args:
        scores: of a source, of a report's "classification".

    Returns:
        "value" and "ci95", None where unknown, and "patients", their number, None of images.

    >>> auc_of({"roc_auc": 0.9, "mean_patient_roc_auc": {"value": 0.8, "ci95": None, "n": 1}})
    {'value': 0.8, 'ci95': None, 'patients': 1}
    """
    if patients := scores.get("mean_patient_roc_auc"):
        return {"value": patients["value"], "ci95": patients["ci95"], "patients": patients["n"]}
    found = scores.get("within_folds", {"roc_auc": scores.get("roc_auc")})
    interval = found.get("ci95", (scores.get("ci95") or {}).get("roc_auc"))
    return {"value": found["roc_auc"], "ci95": interval, "patients": None}


def report_beside(model_path: Path) -> tuple[dict[str, Any] | None, str]:
    """The report if it belongs to these weights, and a code of `messages.REPORTS`."""
    file = model_path.with_name("report.json")
    try:
        report = json.loads(file.read_text())
        if report["model"]["sha256"] == sha256_of(model_path):
            return report, "matching"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None, "of_other_weights" if file.is_file() and model_path.is_file() else "missing"


def notes_beside(weights: str | Path | None) -> dict[str, Any]:
    """The notes of a training beside weights, if they belong to these weights; empty if there are none."""
    if weights is None:
        return {}
    for notes in (Path(weights).with_suffix(".json"), Path(weights).with_name("report.json")):
        try:
            content = json.loads(notes.read_text())
            content = content.get("model", content)
            if content["sha256"] == sha256_of(weights) and "trained_on" in content:
                return dict(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return {}


def learned_by(weights: str | Path | None) -> Sequence[str]:
    """The tasks that weights were trained for, by the notes beside them; none without weights."""
    return learned_of(notes_beside(weights)) if weights is not None else ()


def require_version(report: dict[str, Any] | None, model_path: Path) -> None:
    """Refuse a report of another version of the bundle: its numbers may have another meaning.

    Raises:
        ValueError: in one line that says what to do.
    """
    if report is not None and report.get("schema_version") != SCHEMA_VERSION:
        file = model_path.with_name("report.json")
        raise ValueError(
            f"{file}: of another version of the bundle; fit it again, or remove it: then no scores are known"
        )
