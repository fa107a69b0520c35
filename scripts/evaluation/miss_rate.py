"""Fit thresholds below which "no tumor" is said with a bound on the share of tumors that are missed."""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..inference.decision import Decision
from ..inference.no_tumor_bounds import NoTumorBounds, Population
from .calibration import volume_probabilities
from .reports import is_scored

__all__ = ["CONFIDENCE", "MISS_RATE", "fit_bounds", "fit_threshold", "tumors_needed"]

MISS_RATE, CONFIDENCE = 0.1, 0.9
THRESHOLDS = np.arange(1, 51) / 100  # fixed in advance, from the safest on


def tumors_needed(miss_rate: float, confidence: float) -> int:
    """From how many tumors on a bound is possible at all, if none of them is missed.

    >>> tumors_needed(0.1, 0.9)
    22
    """
    return math.ceil(math.log(1.0 - confidence) / math.log(1.0 - miss_rate) - 1e-9)


def fit_threshold(probabilities: np.ndarray, miss_rate: float, confidence: float) -> float | None:
    """Highest threshold below which at most a share of tumors falls, with a confidence.

    Thresholds are tested from the lowest to the first that fails (fixed-sequence testing of Learn then Test, by MAPIE).
    The share is over tumors like these and holds for a confidence's share of draws of them.

    Args:
        probabilities: of independent tumors (N,).
        miss_rate: largest share.
        confidence: of the bound.

    Returns:
        In [0.01, 0.5]; None if not even the lowest can be shown, as with fewer than `tumors_needed`.

    Reference:
        Angelopoulos, Bates, Candès, Jordan and Lei, Learn then Test: Calibrating Predictive Algorithms to Achieve Risk
        Control, Annals of Applied Statistics 19(2), 2025.
    """
    if len(probabilities) < tumors_needed(miss_rate, confidence):
        return None
    from mapie.risk_control import BinaryClassificationController

    controller = BinaryClassificationController(
        predict_function=lambda values: np.column_stack([1.0 - values, values]),
        risk="recall",
        target_level=1.0 - miss_rate,
        confidence_level=confidence,
        list_predict_params=THRESHOLDS,
        fwer_method="fixed_sequence",
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="mapie")  # that all thresholds hold, or none
        controller.calibrate(np.asarray(probabilities, dtype=np.float64), np.ones(len(probabilities), dtype=int))
    valid = np.asarray(controller.valid_predict_params, dtype=np.float64)
    return float(valid.max()) if valid.size else None


def fit_bounds(
    predictions: Sequence[Mapping[str, Any]],
    decision: Decision,
    miss_rate: float = MISS_RATE,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Fit the bounds of each source, whose volumes or images are a population.

    Images of one cluster and volumes of one patient are not independent: each such group counts as one tumor, with the
    lowest probability of its scans with a tumor, so that it is missed if any of them is.

    Args:
        predictions: rows of `predictions.json`, of scans that the weights were not trained on.
        decision: calibrates the probabilities, as it does in a prediction.
        miss_rate: see `fit_threshold`.
        confidence: see `fit_threshold`.

    Returns:
        `NoTumorBounds` as JSON, for the report beside the weights.

    Raises:
        ModuleNotFoundError: without mapie, if any source has enough tumors.
    """
    populations = {}
    for source in sorted({row["source"] for row in predictions}):
        rows = [row for row in predictions if row["source"] == source]
        kind = "volume" if any(row["kind"] == "volume" for row in rows) else "image"
        scans = _scans([row for row in rows if row["kind"] == kind], kind, decision)
        lowest: dict[str, float] = defaultdict(lambda: 1.0)
        for group, tumor, probability in scans:
            if tumor:
                lowest[group] = min(lowest[group], probability)
        tumors, needed = np.array(list(lowest.values())), tumors_needed(miss_rate, confidence)
        populations[source] = Population(
            kind=kind,
            tumors=len(tumors),
            threshold=fit_threshold(tumors, miss_rate, confidence),
            needed=needed if len(tumors) < needed else None,
            probabilities=sorted(round(probability, 6) for _, _, probability in scans),
        )
    return asdict(NoTumorBounds(miss_rate, confidence, populations))


def _scans(rows: Sequence[Mapping[str, Any]], kind: str, decision: Decision) -> list[tuple[str, bool, float]]:
    """Group, whether there is a tumor, and the probability of each scan with a prediction."""
    if kind == "volume":
        groups = {row["case"]: row["group"] for row in rows}
        found = volume_probabilities(rows, lambda case: decision)
        return [(groups[case], tumor, probability) for case, (tumor, probability) in found.items()]
    return [
        (row["group"], row["cls"] > 0.5, float(decision.probability(row["logit"], "image")))
        for row in rows
        if is_scored(row)
    ]
