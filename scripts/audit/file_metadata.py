"""The audit's question about the data: do properties of the files predict the label?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..dataset.sampling import SliceDataset
from ..io.datalists import Case
from .baselines import forest, out_of_fold
from .picture_properties import file_properties, gray_levels
from .questions import NOT_APPLICABLE, Part, Predictions, alarm_verdict, verdict_of

__all__ = ["FILES_TELL", "Pictures", "metadata", "pictures_of"]

FILES_TELL = 0.6  # AUC above which the files predict the label


@dataclass(frozen=True)
class Pictures:
    """Labeled training images of a classifier, also the training data of the baselines.

    Args:
        positive: boolean (N,), whether each shows a tumor.
        source: (N,) names.
        path: (N,) raw files.
        gray: (N, B), see `gray_levels`.
    """

    positive: np.ndarray
    source: np.ndarray
    path: np.ndarray
    gray: np.ndarray

    def of(self, source: str) -> Pictures:
        """The images of one source, or all if there are none of it."""
        rows = self.source == source if (self.source == source).any() else np.ones(len(self.source), dtype=bool)
        return Pictures(self.positive[rows], self.source[rows], self.path[rows], self.gray[rows])


def pictures_of(dataset: SliceDataset, cases: Sequence[Case]) -> Pictures:
    """The images of a data set that have a class."""
    files = {case["id"]: str(case["image"]) for case in cases if case["kind"] == "image"}
    chosen = [i for i, record in enumerate(dataset.data) if record["case"] in files and np.isfinite(record["cls"])]
    records = [dataset.data[i] for i in chosen]
    return Pictures(
        positive=np.array([record["cls"] > 0.5 for record in records], dtype=bool),
        source=np.array([record["source"] for record in records], dtype=str),
        path=np.array([files[record["case"]] for record in records], dtype=str),
        gray=np.array([gray_levels(np.asarray(dataset[i]["image"])) for i in chosen]),
    )


def metadata(predictions: Predictions, training: Pictures | None = None) -> Part:
    """Compare the model with classifiers of the files' properties and of the histogram of gray levels.

    Whether the files predict the label is tested on the test images themselves, by cross-validation ("files").

    Args:
        predictions: of the model.
        training: the model's training images. The baselines are trained on those of the same source, or on all if there
            are none of it; without training images on the test images, by cross-validation.
    """
    values: dict[str, Any] = {}
    verdicts, count, seed = [], 0, predictions.seed
    for source, every in predictions.sources("image"):
        taught = training.of(source) if training is not None and len(training.path) else None
        known = taught.path.tolist() if taught is not None else []
        properties, readable = file_properties([*predictions.path[every].tolist(), *known])
        rows = every[readable[: len(every)]]
        tested = {"metadata": properties[: len(every)][readable[: len(every)]], "histogram": predictions.gray[rows]}
        scores = {"model": predictions.probability["served"]}
        for name, columns in tested.items():
            scores[name] = np.full(len(predictions.source), np.nan)
            if taught is None:
                probabilities = out_of_fold(
                    forest(seed), columns, predictions.positive[rows], predictions.group[rows], seed
                )
            elif len(rows) == 0 or not readable[len(every) :].any():  # no test or no training images
                probabilities = None
            else:
                seen = {"metadata": properties[len(every) :], "histogram": taught.gray}[name][readable[len(every) :]]
                probabilities = forest(seed).fit(seen, taught.positive[readable[len(every) :]]).predict_proba(columns)
            if probabilities is not None and probabilities.shape[1] == 2:
                scores[name][rows] = probabilities[:, 1]
        among = (tested["metadata"], predictions.positive[rows], predictions.group[rows])
        own = out_of_fold(forest(seed), *among, seed) if len(rows) else None
        if own is not None:
            scores["files"] = np.full(len(predictions.source), np.nan)
            scores["files"][rows] = own[:, 1]
        learned_from = "training images" if taught is not None else "test images, cross-validated"
        values[source] = {"n": len(rows), "unreadable": len(every) - len(rows), "baselines_learned_from": learned_from}
        count += len(rows)
        known = {name: column for name, column in scores.items() if len(rows) and not np.isnan(column[rows]).any()}
        if known.keys() <= {"model"}:
            verdicts.append(NOT_APPLICABLE)
            continue

        def compared(part: np.ndarray, known: Mapping[str, np.ndarray] = known) -> dict[str, float]:
            aucs = {name: predictions.auc(part, column) for name, column in known.items()}
            if not {"metadata", "histogram"} <= known.keys():
                return aucs
            return {**aucs, "margin": aucs["model"] - max(aucs["metadata"], aucs["histogram"])}

        values[source] |= predictions.estimates(rows, compared)
        bound = values[source]["files"]["ci95"] if "files" in known else None
        verdicts.append(alarm_verdict(bound, bound is not None and bound[0] > FILES_TELL))
    return {"sources": values}, verdict_of(verdicts), count
