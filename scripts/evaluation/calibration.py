"""Fit temperature and operating point, on cases that are neither training nor test cases."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit

from ..core.documents import SCHEMA_VERSION, Kind
from ..core.files import sha256_of, write_json
from ..core.shared_work import is_first_process
from ..inference.decision import Calibration, Decision, report_of
from .intervals import RESAMPLES, bootstrap
from .reports import is_scored

__all__ = [
    "fit_calibration",
    "fit_decision",
    "fit_operating_point",
    "fit_temperature",
    "with_evidence_of_others",
    "write_decision",
]

TEMPERATURES = (0.25, 20.0)  # bounds; lower ones, of separable data, would round probabilities to 1


def fit_temperature(classes: np.ndarray, logits: np.ndarray) -> float:
    """Temperature with the largest likelihood.

    Args:
        classes: (N,) of 0 and 1, both present.
        logits: (N,) finite.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    signs = np.where(classes > 0.5, -1.0, 1.0)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, signs * logits / math.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=[math.log(limit) for limit in TEMPERATURES], method="bounded")
    return math.exp(float(found.x))


def fit_operating_point(classes: np.ndarray, probabilities: np.ndarray, target_sensitivity: float) -> float:
    """Highest threshold at which the sensitivity still reaches its target, rounded down to six digits.

    >>> fit_operating_point(np.array([0, 1, 1, 1, 1]), np.array([0.1, 0.2, 0.6, 0.7, 0.9]), 0.75)
    0.6
    """
    positives = np.sort(probabilities[classes > 0.5])
    missed = math.floor((1.0 - target_sensitivity) * len(positives) + 1e-9)
    return math.floor(float(positives[missed]) * 1e6) / 1e6


def fit_calibration(
    classes: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[str],
    target_sensitivity: float,
    display_threshold: float,
    fitted_on: str,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Calibration:
    """Temperature and operating point with their confidence intervals.

    Args:
        classes: (N,) of 0 and 1.
        logits: (N,) finite.
        groups: patient or cluster of each row.
        target_sensitivity: of the operating point.
        display_threshold: its sensitivity and specificity are reported too.
        fitted_on: description of these rows.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The defaults if a class is missing; `fitted_on` then gives the reason.
    """
    if len(np.unique(classes)) < 2:
        return Calibration(fitted_on=f"nothing: one class only in {fitted_on}")

    def fit(rows: np.ndarray) -> dict[str, float | None]:
        if len(np.unique(classes[rows])) < 2:
            return {"temperature": None, "operating_point": None}
        temperature = fit_temperature(classes[rows], logits[rows])
        probabilities = expit(logits[rows] / temperature)
        point = fit_operating_point(classes[rows], probabilities, target_sensitivity)
        return {"temperature": temperature, "operating_point": point}

    best = fit(np.arange(len(classes)))
    temperature, operating_point = float(best["temperature"] or 1.0), float(best["operating_point"] or 0.0)
    probabilities, tumor = expit(logits / temperature), classes > 0.5
    evidence = {
        "n": len(classes),
        "positives": int(tumor.sum()),
        "groups": len(set(groups)),
        "target_sensitivity": target_sensitivity,
        "ci95": bootstrap(groups, fit, resamples, seed),
        **_sensitivity_and_specificity(tumor, probabilities, operating_point),
        "at_display_threshold": _sensitivity_and_specificity(tumor, probabilities, display_threshold),
    }
    return Calibration(temperature, operating_point, fitted_on, evidence)


def _sensitivity_and_specificity(
    tumor: np.ndarray, probabilities: np.ndarray, threshold: float | np.ndarray
) -> dict[str, float]:
    called = probabilities >= threshold
    return {"sensitivity": float(called[tumor].mean()), "specificity": float((~called)[~tumor].mean())}


def fit_decision(
    predictions: Sequence[Mapping[str, Any]],
    decision: Decision,
    target_sensitivity: float,
    fitted_on: str,
    resamples: int = RESAMPLES,
    sources: Sequence[str] | None = None,
) -> Decision:
    """Calibrate both kinds of scan.

    Args:
        predictions: rows of `predictions.json`: kind, source, group, cls (None where unknown) and logit.
        decision: its display threshold and volume rule are kept.
        target_sensitivity: see `fit_calibration`.
        fitted_on: description of the predictions: "validation", "out-of-fold predictions".
        resamples: of the bootstrap.
        sources: to fit on, those of the training data; None: all.
    """
    fitted: dict[str, Calibration] = {}
    for kind in ("image", "volume"):
        rows = _known(predictions, kind, sources)
        classes, logits = (np.array([row[key] for row in rows], dtype=np.float64) for key in ("cls", "logit"))
        groups = [row["group"] for row in rows]
        counted = "images" if kind == "image" else "slices"
        words = f"{fitted_on}: {len(rows)} {counted} of {len(set(groups))} " + (
            "clusters" if kind == "image" else "patients"
        )
        fitted[kind] = fit_calibration(
            classes, logits, groups, target_sensitivity, decision.display_threshold, words, resamples
        )
    fit = replace(decision, image=fitted["image"], volume=fitted["volume"], patient=None)
    return replace(fit, patient=_patient_calibration(predictions, fit, target_sensitivity, fitted_on, sources))


def _patient_calibration(
    predictions: Sequence[Mapping[str, Any]],
    decision: Decision,
    target_sensitivity: float,
    fitted_on: str,
    sources: Sequence[str] | None,
) -> Calibration | None:
    """Operating point of volumes; None without patients of both classes."""
    scans = list(volume_probabilities(predictions, lambda case: decision, sources).values())
    tumor, probabilities = (np.array([scan[column] for scan in scans]) for column in (0, 1))
    if not 0 < tumor.sum() < len(tumor):
        return None
    point = fit_operating_point(tumor.astype(np.float64), probabilities, target_sensitivity)
    evidence = {"n": len(tumor), "positives": int(tumor.sum()), "target_sensitivity": target_sensitivity}
    evidence |= _sensitivity_and_specificity(tumor, probabilities, point)
    return Calibration(
        1.0, point, f"{fitted_on}: {len(tumor)} volumes, {int((~tumor).sum())} without a tumor", evidence
    )


def volume_probabilities(
    predictions: Sequence[Mapping[str, Any]],
    decision_of_case: Callable[[str], Decision],
    sources: Sequence[str] | None = None,
) -> dict[str, tuple[bool, float]]:
    """By case whether a volume shows a tumor on any slice, and its probability by the decision of the case."""
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in predictions:
        if row["kind"] == "volume" and (sources is None or row["source"] in sources):
            by_case.setdefault(row["case"], []).append(row)
    scans = {}
    for case, rows in by_case.items():
        logits = np.array([row["logit"] for row in rows if row["logit"] is not None])
        if len(logits):
            decision = decision_of_case(case)
            probability = decision.volume_probability(decision.probability(logits, "volume"))
            scans[case] = (any(row["cls"] == 1 or row.get("tumor_mm2") for row in rows), probability)
    return scans


def _known(
    predictions: Sequence[Mapping[str, Any]], kind: Kind, sources: Sequence[str] | None
) -> list[Mapping[str, Any]]:
    """Rows of one kind of scan with a class and a prediction, of some sources or of all."""
    among = [a for a in predictions if a["kind"] == kind and (sources is None or a["source"] in sources)]
    return [a for a in among if is_scored(a)]


def with_evidence_of_others(
    decision: Decision,
    predictions: Sequence[Mapping[str, Any]],
    others: Mapping[str, Decision],
    sources: Sequence[str] | None = None,
) -> Decision:
    """The same decision with sensitivity and specificity of predictions whose thresholds were fitted without them.

    Args:
        decision: fitted on all predictions.
        predictions: see `fit_decision`.
        others: by case, the decision fitted on the other folds, see `summaries.cross_fitted`.
        sources: see `fit_decision`.
    """
    found: dict[str, Calibration] = {}
    for kind in ("image", "volume"):
        calibration = decision.of(kind)
        rows = _known(predictions, kind, sources)
        tumor = np.array([row["cls"] > 0.5 for row in rows], dtype=bool)
        if calibration.evidence:
            per_fold_decisions = [others[row["case"]] for row in rows]
            probabilities = np.array(
                [j.probability(row["logit"], kind) for j, row in zip(per_fold_decisions, rows, strict=True)]
            )
            points = np.array([fold.of(kind).operating_point for fold in per_fold_decisions])
            held_out = _sensitivity_and_specificity(tumor, probabilities, points)
            at_display = _sensitivity_and_specificity(tumor, probabilities, decision.display_threshold)
            evidence = {**calibration.evidence, **held_out, "at_display_threshold": at_display}
            calibration = replace(calibration, evidence=evidence)
        found[kind] = calibration
    patient = decision.patient
    if patient is not None:
        scans = volume_probabilities(predictions, lambda case: others[case], sources)
        tumor, probabilities = (np.array([scan[column] for scan in scans.values()]) for column in (0, 1))
        points = np.array([others[case].operating_point("volume") for case in scans])
        held_out = _sensitivity_and_specificity(tumor, probabilities, points)
        patient = replace(patient, evidence={**patient.evidence, **held_out})
    return replace(decision, image=found["image"], volume=found["volume"], patient=patient)


def write_decision(
    predictions_file: str | Path,
    model_path: str | Path,
    decision: Decision,
    target_sensitivity: float,
) -> None:
    """Fit a decision on an evaluation's predictions; write it to the report beside the weights.

    Args:
        predictions_file: `predictions.json` of an evaluation of these weights.
        model_path: the weights; `report.json` beside them is replaced. Their description and training cases are kept;
            scores are removed, since they belong to another decision.
        decision: see `fit_decision`.
        target_sensitivity: see `fit_decision`.

    Raises:
        ValueError: when the predictions are not of the validation cases: test cases must not be used for the fit.
    """
    if not is_first_process():
        return
    content = json.loads(Path(predictions_file).read_text())
    subset = content["facts"]["subset"]
    if subset != "val":
        raise ValueError(f"{predictions_file}: predictions of subset '{subset}', calibrate with --subset val")
    fitted = fit_decision(content["predictions"], decision, target_sensitivity, "validation")
    model = (report_of(model_path) or {"model": {"sha256": sha256_of(model_path)}})["model"]
    report = {"schema_version": SCHEMA_VERSION, "model": model, "decision": asdict(fitted)}
    write_json(Path(model_path).with_name("report.json"), report)
