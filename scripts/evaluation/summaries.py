"""Summaries over folds, seeds and variants: cross-validation reports and paired comparisons."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from ..core.files import write_json
from ..inference.decision import Decision
from .calibration import fit_decision, with_evidence_of_others
from .intervals import auc_within_folds, bootstrap, paired_difference
from .miss_rate import CONFIDENCE, MISS_RATE, fit_bounds
from .reports import is_scored, make_report, manual_volumes, of_learned, patient_scores, pool
from .text_tables import table

__all__ = ["cross_fitted", "summarize"]

logger = logging.getLogger(__name__)

Content = Mapping[str, Any]
SEGMENTATION = ("dice", "hd95_mm")
OTHER_FOLDS, OUT_OF_FOLD = "predictions of the other folds", "out-of-fold predictions"
OTHER_PATIENTS = "predictions of other patients of the fold"
PARTS = 5  # of a single fold
CLASSIFICATION = ("roc_auc", "pr_auc", "sensitivity", "specificity", "specificity_at_95_sensitivity")


def cross_fitted(
    parts: Sequence[Content],
    decision: Decision,
    target_sensitivity: float,
    resamples: int,
    sources: Sequence[str] | None = None,
) -> dict[str, Decision]:
    """The decision for every case, fitted on the predictions of the other folds.

    Of a single fold it is fitted on other patients and clusters of the fold, in five parts.

    Args:
        parts: the predictions of each fold.
        decision: its display threshold and volume rule are kept.
        target_sensitivity: of the operating point.
        resamples: of the bootstrap.
        sources: to fit on, see `fit_decision`.

    Returns:
        By case: a decision fitted without the case's own prediction, on predictions of weights trained on the case.
    """
    decisions: dict[str, Decision] = {}
    words = OTHER_FOLDS if len(parts) > 1 else OTHER_PATIENTS
    parts = parts if len(parts) > 1 else _by_group(parts[0])
    for fold, part in enumerate(parts):
        others = [row for number, other in enumerate(parts) if number != fold for row in other["predictions"]]
        fitted = fit_decision(others, decision, target_sensitivity, words, resamples, sources)
        decisions |= {row["case"]: fitted for row in part["predictions"]}
    return decisions


def _by_group(part: Content) -> list[Content]:
    """The predictions of a fold in parts; a patient or cluster is in one of them."""
    rows = part["predictions"]
    groups = sorted({(row["source"], row["group"]) for row in rows})  # so that each part has some of every source
    number = {group: index % PARTS for index, (_, group) in enumerate(groups)}
    return [{"predictions": [row for row in rows if number[row["group"]] == index]} for index in range(PARTS)]


def summarize(
    variants_file: str | Path,
    reference: str,
    decision: Decision,
    target_sensitivity: float,
    margin: float,
    resamples: int,
    output_dir: str | Path,
    automatic_masks: Sequence[str] = (),
    miss_rate: float = MISS_RATE,
    confidence: float = CONFIDENCE,
    printed: bool = True,
) -> dict[str, Any]:
    """Write `summary.json`: scores of every variant over all folds and seeds, each compared with the reference.

    Each case is scored by weights that were not trained on it, its patient or its cluster; temperature and operating
    point are fitted on the other folds. The reference's report is written to `report.json` (first seed, with intervals)
    and `report_seed1.json` etc. (further seeds).

    Args:
        variants_file: JSON, by name: "description"; "learns": the trained tasks, "segmentation" and "classification";
            "sources" of the training data, if not all; and "seeds": for each seed the `predictions.json` of every fold.
        reference: name of the variant that the others are compared with.
        decision: defaults; its display threshold and volume rule are kept.
        target_sensitivity: see `cross_fitted`.
        margin: see `paired_difference`.
        resamples: of the bootstrap.
        output_dir: folder for the files.
        automatic_masks: see `make_report`.
        miss_rate: of the bounds on missed tumors in the reference's report, see `fit_bounds`.
        confidence: of these bounds.
        printed: print the scores as a table.

    Raises:
        ValueError: when the reference is not among the variants, a variant lacks a key, or variants were scored on
            different cases.
    """
    variants = json.loads(Path(variants_file).read_text())
    for name, variant in variants.items():
        if absent := {"description", "learns", "seeds"} - variant.keys():
            raise ValueError(f"{variants_file}: variant '{name}' lacks '{min(absent)}'")
    if reference not in variants:
        raise ValueError(f"no variant '{reference}' to compare with, there are {', '.join(variants)}")
    parts = {
        name: [
            [of_learned(json.loads(Path(file).read_text()), variant["learns"]) for file in files]
            for files in variant["seeds"]
        ]
        for name, variant in variants.items()
    }
    pooled = {name: [pool(folds) for folds in seeds] for name, seeds in parts.items()}
    summary: dict[str, Any] = {"reference": reference, "margin": margin, "resamples": resamples, "variants": {}}
    for name, seeds in parts.items():
        reports, learned_from = [], variants[name].get("sources")
        per_fold_decisions = [cross_fitted(folds, decision, target_sensitivity, 0, learned_from) for folds in seeds]
        for number, decisions in enumerate(per_fold_decisions):
            full = resamples if number == 0 else 0
            reports.append(make_report(pooled[name][number], decision, full, decisions, automatic_masks))
        summary["variants"][name] = {
            "description": variants[name]["description"],
            "folds": len(seeds[0]),
            "seeds": [_scores_of(report) for report in reports],
            "against_reference": _compare(pooled[reference], pooled[name], margin, resamples, automatic_masks),
        }
        if name == reference:
            every = pooled[name][0]["predictions"]
            fitted = fit_decision(every, decision, target_sensitivity, OUT_OF_FOLD, resamples, learned_from)
            fitted = with_evidence_of_others(fitted, every, per_fold_decisions[0], learned_from)
            bounds = _bounds(every, fitted, miss_rate, confidence)
            told = {"decision_out_of_fold": asdict(fitted), **bounds}
            write_json(Path(output_dir) / "report.json", {**reports[0], **told})
            for number, report in enumerate(reports[1:], start=1):
                write_json(Path(output_dir) / f"report_seed{number}.json", report)
    write_json(Path(output_dir) / "summary.json", summary)
    if printed:
        print(_as_text(summary))
    return summary


def _bounds(
    predictions: Sequence[Mapping[str, Any]], decision: Decision, miss_rate: float, confidence: float
) -> dict[str, Any]:
    """The bounds on missed tumors as an entry of the report; none without the package that fits them."""
    try:
        return {"no_tumor_bounds": fit_bounds(predictions, decision, miss_rate, confidence)}
    except ModuleNotFoundError as error:
        logger.warning("no bounds on missed tumors: %s is not installed; pip install -e '.[risk]'", error.name)
        return {}


def _scores_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a report by which variants are compared."""
    segmentation = report["segmentation"]
    intervals = segmentation["mean"]["ci95"]
    scores: dict[str, Any] = {
        "segmentation": {name: segmentation["mean"].get(name) for name in SEGMENTATION},
        "classification": {},
    }
    scores["segmentation"]["ci95"] = {name: intervals.get(name) for name in SEGMENTATION}
    scores["segmentation"]["manual"] = segmentation.get("manual")
    scores["segmentation"] |= {"regions": segmentation["regions"]} if "regions" in segmentation else {}
    scores["segmentation"]["patients"] = {row["id"]: row["dice"] for row in segmentation["patients"]}
    calls = report["patients"]
    scores["patients"] = {**calls.get("sources", {}), "all": calls["all"]} if calls else {}
    for source, found in report["classification"].items():
        kept = {name: found.get(name) for name in ("kind", "n", "positives", *CLASSIFICATION)}
        kept["ci95"] = {name: found.get("ci95", {}).get(name) for name in CLASSIFICATION}
        kept["within_folds"] = found.get("within_folds", {"roc_auc": None, "ci95": None})
        if "mean_patient_roc_auc" in found:
            kept["mean_patient_roc_auc"] = found["mean_patient_roc_auc"]
        scores["classification"][source] = kept
    of_types = report.get("tumor_types", {})
    return scores | ({"tumor_types": of_types} if of_types else {})


def _compare(
    reference: Sequence[Content],
    other: Sequence[Content],
    margin: float,
    resamples: int,
    automatic_masks: Sequence[str],
) -> dict[str, Any]:
    """Compare in pairs of patients and clusters, on the seeds that both have; scores are first averaged over seeds."""
    seeds = min(len(reference), len(other))
    sides = (reference, other) if reference[0]["segmentation"] and other[0]["segmentation"] else ((), ())

    def dice(among: Sequence[str]) -> dict[str, Any]:
        volumes = [[manual_volumes(content["segmentation"], among) for content in side[:seeds]] for side in sides]
        scores = [_mean_over_seeds([patient_scores(rows, "dice") for rows in side]) for side in volumes]
        return paired_difference(scores[0], scores[1], margin)

    sources = sorted({row["source"] for row in reference[0]["predictions"]})
    return {
        "seeds": seeds,
        "dice": dice([]),
        **({"dice_manual": dice(automatic_masks)} if automatic_masks else {}),
        "roc_auc": {source: _auc_difference(reference[:seeds], other[:seeds], source, resamples) for source in sources},
    }


def _mean_over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {patient: float(np.mean([score[patient] for score in scores])) for patient in (scores[0] if scores else ())}


def _auc_difference(
    reference: Sequence[Content], other: Sequence[Content], source: str, resamples: int
) -> dict[str, Any]:
    """Difference of the ROC-AUC within source and fold, on the same slices or images, with its interval over groups.

    Raises:
        ValueError: when variants or seeds were scored on different slices or images.
    """
    sides = [[_classified(content, source) for content in side] for side in (reference, other)]
    rows = sides[0][0] if sides[1][0] else []
    for seed in (seed for side in sides for seed in side if rows):
        if different := {_place(row) for row in seed} ^ {_place(row) for row in rows}:
            raise ValueError(f"scored on different slices or images, such as {min(different)[0]}")
    classes, groups, folds = (np.array([row[key] for row in rows]) for key in ("cls", "group", "fold"))
    within = [
        [auc_within_folds(classes, expit(np.array([row["logit"] for row in seed])), folds) for seed in side]
        for side in sides
    ]

    def difference(chosen: np.ndarray) -> dict[str, float | None]:
        before, after = (_mean([seed(chosen)["roc_auc"] for seed in side]) for side in within)
        return {"difference": None if before is None or after is None else after - before}

    found = difference(np.arange(len(rows)))["difference"] if rows else None
    interval = bootstrap(groups.tolist(), difference, resamples).get("difference")
    return {"difference": found, "ci95": interval, "n": len(rows)}


def _place(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["case"], row["slice"]


def _classified(content: Content, source: str) -> list[Mapping[str, Any]]:
    rows = [row for row in content["predictions"] if row["source"] == source and is_scored(row)]
    return sorted(rows, key=_place)


def _as_text(summary: Mapping[str, Any]) -> str:
    """One line per variant: means over seeds."""
    sources = list(next(iter(summary["variants"].values()))["seeds"][0]["classification"])
    rows = []
    for name, variant in summary["variants"].items():
        seeds = variant["seeds"]
        dice = [seed["segmentation"]["dice"] for seed in seeds]
        aucs = [[seed["classification"][source]["within_folds"]["roc_auc"] for seed in seeds] for source in sources]
        gain = variant["against_reference"]["dice"]["mean_difference"]
        rows.append([name, len(seeds), *(_mean(values) for values in (dice, *aucs)), gain])
    return table(["variant", "seeds", "dice", *(f"auc {source}" for source in sources), "dice against reference"], rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
