"""Validation metrics for MONAI's engines, during training; reported scores come from `scripts/evaluation`.

An undefined metric is NaN; `handlers.BestWeights` then keeps the last weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric, MetricsLambda
from sklearn.metrics import roc_auc_score

from ..core.shared_work import of_all_processes
from ..core.statistics import mean_defined

__all__ = ["CaseDice", "MeanMetric", "SourceAUC"]


def _prediction_and_target(output: Mapping[str, Any]) -> tuple[Any, Any]:
    """Output transform of the metrics."""
    return output["pred"], output["label"]


class CaseDice(Metric):
    """Mean volumetric Dice over volumes, from all slices of a volume, independent of the batches.

    Takes MONAI's engine output: "pred" with "seg" logits and "label" with "mask", "case" and "kind". Images (also those
    with a mask) and volumes without tumor are left out of the mean; without any volume the result is NaN. Of several
    regions it is the mean of their means, each over the volumes that have the region.
    """

    def __init__(self) -> None:
        super().__init__(_prediction_and_target)

    def reset(self) -> None:
        self.counts: dict[str, np.ndarray] = {}  # of each case (R, 3): shared, predicted and reference pixels

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        prediction, target = output
        if "seg" not in prediction:
            return
        known = torch.isfinite(target["mask"]).flatten(2)  # (B, R, N), of a slice all or none
        predicted, reference = (prediction["seg"] > 0).flatten(2) & known, (target["mask"] > 0.5).flatten(2)
        counts = torch.stack([(predicted & reference).sum(2), predicted.sum(2), reference.sum(2)], dim=2).cpu().numpy()
        for case, kind, row in zip(target["case"], target["kind"], counts, strict=True):
            if kind == "volume":
                self.counts[case] = self.counts.get(case, 0) + row

    def compute(self) -> float:
        counts: dict[str, np.ndarray] = {}
        for part in of_all_processes(self.counts):
            for case, row in part.items():
                counts[case] = counts.get(case, 0) + row
        regions = len(next(iter(counts.values()), ()))
        dice = [
            [2 * shared / (p + r) for shared, p, r in (case[n] for case in counts.values()) if r > 0]
            for n in range(regions)
        ]
        return mean_defined([float(np.mean(of_region)) for of_region in dice if of_region])


class SourceAUC(Metric):
    """Mean over sources of the ROC-AUC within each; sources with one class are left out, without any it is NaN.

    Takes MONAI's engine output: "pred" with "cls" logits and "label" with "cls" and "source".
    """

    def __init__(self) -> None:
        super().__init__(_prediction_and_target)

    def reset(self) -> None:
        self.predictions: dict[str, list[tuple[float, float]]] = {}

    def update(self, output: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
        prediction, target = output
        logits = prediction["cls"].flatten().tolist()
        for source, cls, logit in zip(target["source"], target["cls"].tolist(), logits, strict=True):
            if math.isfinite(cls):
                self.predictions.setdefault(source, []).append((cls, logit))

    def compute(self) -> float:
        predictions: dict[str, list[tuple[float, float]]] = {}
        for part in of_all_processes(self.predictions):
            for source, pairs in part.items():
                predictions.setdefault(source, []).extend(pairs)
        both = [pairs for pairs in predictions.values() if len({cls for cls, _ in pairs}) == 2]
        aucs = [roc_auc_score(*zip(*pairs, strict=True)) for pairs in both]
        return float(np.mean(aucs)) if aucs else math.nan


class MeanMetric(MetricsLambda):
    """Mean of other metrics; NaN is left out, without any metric the result is NaN."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        super().__init__(lambda *values: mean_defined(values), *metrics)
