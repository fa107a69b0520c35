"""From an evaluation's predictions to its report: pure functions on JSON.

The predictions contain logits and areas, no decisions, so that folds can be pooled and calibrated without running the
network again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from typing import Any

import numpy as np
from scipy.special import expit

from ..core.documents import SCHEMA_VERSION, Kind, TumorAreaScores
from ..core.messages import NOTICE
from ..core.regions import REGIONS
from ..inference.decision import Decision
from .classification_scores import area_bins, classification_scores, curves, reliability, resampled_scores
from .intervals import RESAMPLES, auc_within_folds, bootstrap, mean_over, patient_scores
from .lesion_recall import lesion_scores
from .patient_calls import patient_calls
from .segmentation_scores import UNITS
from .type_scores import scores_of_types

__all__ = ["is_scored", "make_report", "manual_volumes", "of_learned", "patient_scores", "pool"]

CLASSES = {"none": 0.0, "tumor": 1.0}
HARD_NEGATIVE_SLICES = 5  # a slice without tumor this near to one with is a hard negative
OF_MASK = {"predicted_mm2", "predicted_share"}  # of a slice or image
COUNTS = ("id", "source", "patient", "lesions", "lesions_found", "lesions_false", "reference_ml", "predicted_ml")
TYPES = "type_probabilities"  # of an image, by weights that tell types apart
OF_PARTS = ("reference_lesions", "predicted_lesions", "regions")  # of a volume

Row = Mapping[str, Any]


def pool(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Concatenate the predictions of several folds; each gets its fold's number.

    Raises:
        ValueError: when two folds scored the same case, or have different definitions of a tumor slice.
    """
    rules = {part["min_tumor_pixels"] for part in parts}
    if len(rules) != 1:
        raise ValueError(f"folds differ in the least pixels of a tumor slice: {sorted(rules)}")
    owners: dict[str, int] = {}
    for number, part in enumerate(parts):
        for case in {row["case"] for row in part["predictions"]} | {row["id"] for row in part["segmentation"]}:
            if owners.setdefault(case, number) != number:
                raise ValueError(f"{case} was scored in two folds")
    return {
        "facts": {},
        "min_tumor_pixels": rules.pop(),
        "segmentation": [row for part in parts for row in part["segmentation"]],
        "predictions": [{**row, "fold": number} for number, part in enumerate(parts) for row in part["predictions"]],
    }


def of_learned(content: Mapping[str, Any], learned: Sequence[str]) -> dict[str, Any]:
    """Predictions without those of an untrained decoder or head, whose weights are random.

    Args:
        content: "segmentation" and "predictions", as `ScoreCases` writes them.
        learned: tasks of the weights.
    """
    masks, rows = content["segmentation"], content["predictions"]
    if "segmentation" not in learned:
        masks, rows = [], [{key: row[key] for key in row if key not in OF_MASK} for row in rows]
    if "classification" not in learned:
        rows = [{**row, "logit": None, **({TYPES: None} if TYPES in row else {})} for row in rows]
    return {**content, "segmentation": masks, "predictions": rows}


def make_report(
    content: Mapping[str, Any],
    decision: Decision,
    resamples: int = RESAMPLES,
    decisions: Mapping[str, Decision] | None = None,
    automatic_masks: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute the report with all scores.

    Args:
        content: "facts", "min_tumor_pixels", "segmentation" and "predictions", as `ScoreCases` writes them.
        decision: temperature and thresholds, fitted on other cases.
        resamples: of the bootstrap.
        decisions: by case, if every fold has its own; `decision` is for the others.
        automatic_masks: patterns of volumes' names whose masks algorithms made; the mean over the others stands beside.
    """
    decisions = decisions or {}
    sources: dict[str, list[Row]] = defaultdict(list)
    for row in content["predictions"]:
        sources[row["source"]].append(row)
    return {
        "schema_version": SCHEMA_VERSION,
        **content["facts"],
        "notice": NOTICE,
        "decision": asdict(decision),
        "rules": {
            "tumor_slice": f"at least {content['min_tumor_pixels']} pixels of 1 mm2; fewer, but not 0: left out",
            "region": "whole tumor, as one region",
            "empty": "no Dice for an empty reference; a predicted mask is then a false positive",
            "interval": _interval_rule(resamples),
            "hard_negative": f"a slice without tumor, at most {HARD_NEGATIVE_SLICES} slices from one with",
        },
        "segmentation": {
            **_segmentation(content["segmentation"], resamples),
            **({"manual": _manual(content["segmentation"], automatic_masks)} if automatic_masks else {}),
            "empty_slices": _empty_slices(content["predictions"]),
        },
        "patients": patient_calls(content, decision, decisions),
        "classification": {
            name: _source(rows, [decisions.get(row["case"], decision) for row in rows], resamples)
            for name, rows in sorted(sources.items())
        },
        **({"tumor_types": of_types} if (of_types := scores_of_types(content["predictions"], resamples)) else {}),
    }


def is_scored(row: Row) -> bool:
    """Whether a prediction can be scored: it has a class and a logit."""
    return row["cls"] is not None and row["logit"] is not None


def manual_volumes(volumes: Sequence[Row], automatic_masks: Sequence[str]) -> list[Row]:
    """Volumes with manual masks: those whose names match no pattern of automatic masks."""
    return [row for row in volumes if not any(fnmatch(row["id"].rpartition("/")[2], name) for name in automatic_masks)]


def _interval_rule(resamples: int) -> str:
    of_means = "95 %, of a mean over patients by Student's t"
    of_others = f", of others by {resamples} bootstrap resamples of patients or clusters" if resamples else ""
    return of_means + of_others


def _segmentation(volumes: Sequence[Row], resamples: int) -> dict[str, Any]:
    names = [name for name in (volumes[0] if volumes else ()) if name not in COUNTS + OF_PARTS]
    counted = bool(volumes) and all("reference_lesions" in row for row in volumes)  # older predictions have none
    mean: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name in names:
        highest = 1.0 if UNITS[name] == "1" else math.inf
        mean[name], intervals[name] = mean_over(patient_scores(volumes, name), highest)
    return {
        "n": len(volumes),
        "patients_n": len({row["patient"] for row in volumes}),
        "units": {name: UNITS[name] for name in names},
        "mean": {**mean, "ci95": intervals},
        **({"lesions": lesion_scores(volumes, resamples)} if counted else {}),
        **({"regions": _regions(volumes)} if any("regions" in row for row in volumes) else {}),
        "patients": sorted(volumes, key=lambda row: row["dice"] if row["dice"] is not None else -1.0),
    }


def _regions(volumes: Sequence[Row]) -> dict[str, Any]:
    """Dice of each region over the patients that have it, of volumes whose masks and predictions tell the regions."""
    scores: dict[str, Any] = {}
    for name, region in REGIONS.items():
        rows = [{**row, **row["regions"][name]} for row in volumes if name in row.get("regions", {})]
        of_patients = patient_scores(rows, "dice")
        value, interval = mean_over(of_patients)
        scores |= (
            {name: {"title": region.title, "n": len(of_patients), "dice": value, "ci95": interval}} if rows else {}
        )
    return scores


def _manual(volumes: Sequence[Row], automatic_masks: Sequence[str]) -> dict[str, Any]:
    """Dice of the patients with manual masks."""
    scores = patient_scores(manual_volumes(volumes, automatic_masks), "dice")
    mean, interval = mean_over(scores)
    return {"n": len(scores), "dice": mean, "ci95": interval, "worst_dice": min(scores.values(), default=None)}


def _empty_slices(predictions: Sequence[Row]) -> dict[str, Any]:
    """False positives on slices with an empty reference: rate and area."""
    areas = [row["predicted_mm2"] for row in predictions if "predicted_mm2" in row and row["cls"] == 0.0]
    positive = [area for area in areas if area > 0]
    return {
        "n": len(areas),
        "false_positive_rate": len(positive) / len(areas) if areas else None,
        "mean_false_positive_mm2": float(np.mean(areas)) if areas else None,
    }


def _source(rows: Sequence[Row], decisions: Sequence[Decision], resamples: int) -> dict[str, Any]:
    """Scores within one source, of rows with a class and a prediction."""
    predicted = [i for i, row in enumerate(rows) if is_scored(row)]
    if not predicted:
        return {"kind": _kind_of_source(rows), "n": 0, "positives": 0, "left_out": len(rows)}
    known, deciding = [rows[i] for i in predicted], [decisions[i] for i in predicted]
    kinds = [row["kind"] for row in known]  # a volume of one slice is predicted as an image
    classes, logits = (np.array([row[key] for row in known]) for key in ("cls", "logit"))
    triples = zip(deciding, logits, kinds, strict=True)
    probabilities, raw = np.array([float(d.probability(logit, kind)) for d, logit, kind in triples]), expit(logits)
    points = np.array([d.of(kind).operating_point for d, kind in zip(deciding, kinds, strict=True)])
    display_threshold = deciding[0].display_threshold

    def scores(chosen: np.ndarray) -> dict[str, Any]:
        return classification_scores(
            classes[chosen], probabilities[chosen], points[chosen], display_threshold, raw[chosen]
        )

    groups = [row["group"] for row in known]
    result = {
        "kind": _kind_of_source(known),
        **scores(np.arange(len(known))),
        "ci95": bootstrap(groups, resampled_scores(classes, probabilities, points), resamples),
        "groups": len(set(groups)),
        "left_out": len(rows) - len(known),
        "unpredicted_tumor": sum(row["cls"] == 1.0 and row["logit"] is None for row in rows),
        "curves": curves(classes, probabilities),
        "reliability": reliability(classes, probabilities),
    }
    if "fold" in known[0]:
        within = auc_within_folds(classes, probabilities, [row["fold"] for row in known])
        interval = bootstrap(groups, within, resamples).get("roc_auc")
        result["within_folds"] = {**within(np.arange(len(known))), "ci95": interval}
    result |= _of_volumes(known, classes, scores) if result["kind"] == "volume" else _of_images(known)
    probability = [round(float(p), 6) for p in probabilities]
    result["cases"] = [
        {"case": row["case"], "slice": row["slice"], "cls": row["cls"], "logit": row["logit"], "probability": p}
        for row, p in zip(known, probability, strict=True)
    ]
    return result


def _kind_of_source(rows: Sequence[Row]) -> Kind:
    """What a source consists of; a single slice of volumes among them is no image of its own."""
    return "volume" if any(row["kind"] == "volume" for row in rows) else "image"


def _of_images(known: Sequence[Row]) -> dict[str, Any]:
    """How often the predicted mask of images without reference mask is not empty, by class."""
    by_class = {}
    for name, cls in CLASSES.items():
        shares = [row.get("predicted_share") for row in known if row["cls"] == cls]
        nonempty = [share > 0 for share in shares if share is not None]
        by_class[name] = {"n": len(nonempty), "share": float(np.mean(nonempty)) if nonempty else None}
    return {"nonempty_masks": by_class} if any(found["n"] for found in by_class.values()) else {}


def _of_volumes(known: Sequence[Row], classes: np.ndarray, scores: Any) -> dict[str, Any]:
    """Scores of slices of volumes only: per patient, by tumor area, hard negatives."""
    keys = ("n", "positives", "roc_auc", "sensitivity", "specificity")
    patients = {}
    for patient in sorted({row["group"] for row in known}):
        found = scores(np.array([i for i, row in enumerate(known) if row["group"] == patient]))
        patients[patient] = {key: found[key] for key in keys}
    aucs = {patient: found["roc_auc"] for patient, found in patients.items() if found["roc_auc"] is not None}
    value, interval = mean_over(aucs)
    negative = classes == 0.0
    away = np.array([np.inf if row["slices_from_tumor"] is None else row["slices_from_tumor"] for row in known])
    hard = scores(np.flatnonzero(~negative | (away <= HARD_NEGATIVE_SLICES)))
    by_area: list[TumorAreaScores] = []
    for low, high, members in area_bins(np.array([row["tumor_mm2"] for row in known])):
        if members.any():
            found = scores(np.flatnonzero(members | negative))
            entry: TumorAreaScores = {
                "low_mm2": low,
                "high_mm2": high if math.isfinite(high) else None,
                "positives": found["positives"],
                "roc_auc": found["roc_auc"],
                "sensitivity": found["sensitivity"],
            }
            by_area.append(entry)
    return {
        "patients": patients,
        "mean_patient_roc_auc": {
            "n": len(aucs),
            "value": value,
            "ci95": interval,
        },
        "by_tumor_area": by_area,
        "hard_negatives": {"n": int(hard["n"] - hard["positives"]), **{k: hard[k] for k in ("roc_auc", "specificity")}},
    }
