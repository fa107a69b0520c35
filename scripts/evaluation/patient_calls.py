"""Volumes as a whole: is a tumor called where there is one, and how much is outlined where there is none?"""

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
LOW_DICE = 0.1  # a tumor that is as good as missed


def volume_rows(
    content: Mapping[str, Any], decision: Decision, decisions: Mapping[str, Decision] | None = None
) -> list[dict[str, Any]]:
    """One row for each volume with a mask: what its slices say together.

    Args:
        content: "segmentation" and "predictions", as `ScoreCases` writes them.
        decision: temperature and thresholds.
        decisions: by case, where every fold has its own.

    Returns:
        Dicts with id, source, patient, tumor (whether the mask holds any), probability (None where there is no
        prediction), state, outlined_ml and dice.
    """
    logits: dict[str, list[float]] = defaultdict(list)
    for row in content["predictions"]:
        if row["kind"] == "volume" and row["logit"] is not None:
            logits[row["case"]].append(row["logit"])
    rows = []
    for scored in content["segmentation"]:
        judge = (decisions or {}).get(scored["id"], decision)
        known = logits.get(scored["id"])
        probability = judge.volume_probability(judge.probability(np.array(known), "volume")) if known else None
        rows.append(
            {key: scored[key] for key in ("id", "source", "patient", "dice")}
            | {
                "tumor": scored["reference_ml"] > 0,
                "outlined_ml": scored.get("predicted_ml", 0.0),
                "probability": probability,
            }
            | {"state": "no_prediction" if probability is None else judge.state(probability, "volume")}
        )
    return rows


def patient_calls(
    content: Mapping[str, Any], decision: Decision, decisions: Mapping[str, Decision] | None = None
) -> dict[str, Any]:
    """Sensitivity and specificity over volumes, and false volumes, of all together and of each source.

    A volume counts as called where its state is "tumor". Patients without a tumor are those whose mask is empty.

    Args:
        content: see `volume_rows`.
        decision: see `volume_rows`.
        decisions: see `volume_rows`.

    Returns:
        "all" and "sources", each with n, tumors, sensitivity, specificity, roc_auc, states (of volumes with and without
        a tumor), low_dice (tumors below 0.1), dice (mean and median), and false_ml: what is outlined in volumes without
        a tumor, median and largest. Empty where there is no volume.
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
    false_ml = [row["outlined_ml"] for row in free]
    return {
        "n": len(rows),
        "tumors": len(tumors),
        "sensitivity": _share(tumors, called=True),
        "specificity": _share(free, called=False),
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
