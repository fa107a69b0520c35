"""Scores of whole volumes: sensitivity and specificity, and false-positive mask volume without a tumor."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inference.decision import Decision
from .classification_scores import roc_auc

__all__ = ["patient_calls", "volume_rows"]

Row = Mapping[str, Any]
STATES = ("tumor", "uncertain", "no_tumor", "no_prediction")
LOW_DICE = 0.1  # below this Dice a tumor counts as missed


def volume_rows(
    content: Mapping[str, Any], decision: Decision, decisions: Mapping[str, Decision] | None = None
) -> list[dict[str, Any]]:
    """One row for each volume with a reference mask.

    Args:
        content: "segmentation" and "predictions", as `ScoreCases` writes them.
        decision: temperature and thresholds.
        decisions: by case, if every fold has its own.

    Returns:
        Dicts with id, source, patient, tumor (whether the reference is not empty), probability (None without a
        prediction), state, mask_ml and dice.
    """
    logits: dict[str, list[float]] = defaultdict(list)
    for row in content["predictions"]:
        if row["kind"] == "volume" and row["logit"] is not None:
            logits[row["case"]].append(row["logit"])
    rows = []
    for scored in content["segmentation"]:
        rules = (decisions or {}).get(scored["id"], decision)
        known = logits.get(scored["id"])
        probability = rules.volume_probability(rules.probability(np.array(known), "volume")) if known else None
        rows.append(
            {key: scored[key] for key in ("id", "source", "patient", "dice")}
            | {
                "tumor": scored["reference_ml"] > 0,
                "mask_ml": scored.get("predicted_ml", 0.0),
                "probability": probability,
            }
            | {"state": "no_prediction" if probability is None else rules.state(probability, "volume")}
        )
    return rows


def patient_calls(
    content: Mapping[str, Any], decision: Decision, decisions: Mapping[str, Decision] | None = None
) -> dict[str, Any]:
    """Sensitivity, specificity and false-positive mask volume, over all volumes and by source.

    A volume is called positive if its state is "tumor". Patients without a tumor have an empty reference mask.

    Args:
        content: see `volume_rows`.
        decision: see `volume_rows`.
        decisions: see `volume_rows`.

    Returns:
        "all" and "sources", each with n, tumors, sensitivity, specificity, roc_auc, states (of volumes with and without
        a tumor), low_dice (tumors below 0.1), dice (mean and median), and false_ml: mask volume in volumes without a
        tumor, median and largest. Empty without volumes.
    """
    rows = volume_rows(content, decision, decisions)
    if not rows:
        return {}
    sources = sorted({row["source"] for row in rows})
    return {
        "all": _calls(rows),
        "sources": {source: _calls([row for row in rows if row["source"] == source]) for source in sources},
        "without_tumor": [row for row in rows if not row["tumor"]],
    }


def _calls(rows: Sequence[Row]) -> dict[str, Any]:
    tumors, free = ([row for row in rows if row["tumor"] is has] for has in (True, False))
    predicted = [row for row in rows if row["probability"] is not None]
    classes, probabilities = (np.array([row[key] for row in predicted]) for key in ("tumor", "probability"))
    auc = roc_auc(classes.astype(bool), probabilities) if len({row["tumor"] for row in predicted}) == 2 else None
    dice = [row["dice"] for row in tumors if row["dice"] is not None]
    false_ml = [row["mask_ml"] for row in free]
    return {
        "n": len(rows),
        "tumors": len(tumors),
        "sensitivity": _share(tumors, called=True) if predicted else None,
        "specificity": _share(free, called=False) if predicted else None,
        "roc_auc": auc,
        "states": {"tumor": _states(tumors), "none": _states(free)},
        "dice": {"mean": float(np.mean(dice)), "median": float(np.median(dice))} if dice else None,
        "low_dice": sum(value < LOW_DICE for value in dice),
        "false_ml": {"median": float(np.median(false_ml)), "largest": max(false_ml)} if false_ml else None,
    }


def _share(rows: Sequence[Row], called: bool) -> float | None:
    return float(np.mean([(row["state"] == "tumor") is called for row in rows])) if rows else None


def _states(rows: Sequence[Row]) -> dict[str, int]:
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}
