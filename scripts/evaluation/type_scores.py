"""Scores of the types of tumors, over images whose type is known, whether or not a tumor was detected in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .intervals import auc_within_folds, bootstrap

__all__ = ["scores_of_types", "type_scores"]

Row = Mapping[str, Any]


def scores_of_types(rows: Sequence[Row], resamples: int) -> dict[str, Any]:
    """Scores of each source, by its name, of the rows with a known type; a source with fewer than two is left out.

    Args:
        rows: of the predictions, "source", "group", maybe "fold", and where they are known "tumor_type", a name, and
            "type_probabilities", by name.
        resamples: of the bootstrap.
    """
    sources: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("tumor_type") is not None and row.get("type_probabilities") is not None:
            sources.setdefault(row["source"], []).append(row)
    return {
        source: type_scores(known, resamples)
        for source, known in sorted(sources.items())
        if len({row["tumor_type"] for row in known}) > 1
    }


def type_scores(rows: Sequence[Row], resamples: int) -> dict[str, Any]:
    """Scores of one source.

    A type's ROC-AUC compares its probability in images of the type and of all others, within each fold. An image is
    called the type with the highest probability.

    Args:
        rows: see `scores_of_types`, all with a known type.
        resamples: of the bootstrap over patients and clusters.

    Returns:
        "types" in the order of the network; "n"; "groups"; "macro_roc_auc", the mean over types; "balanced_accuracy",
        the mean of the sensitivities; "ci95" of both; "by_type": "n", "roc_auc", "sensitivity" and their "ci95";
        "confusion": of each type the number of its images by the type that they are called. Types without an image, or
        without one of another type, have no score, None, and are left out of the means.
    """
    types = list(rows[0]["type_probabilities"])
    truth = np.array([types.index(row["tumor_type"]) for row in rows])
    probabilities = np.array([[row["type_probabilities"][name] for name in types] for row in rows])
    folds, groups = [row.get("fold", 0) for row in rows], [row["group"] for row in rows]
    called = probabilities.argmax(axis=1)
    ranked = [auc_within_folds(truth == n, probabilities[:, n], folds) for n in range(len(types))]

    def scores(chosen: np.ndarray) -> dict[str, float | None]:
        correct = called[chosen] == truth[chosen]
        aucs = [ranked[n](chosen)["roc_auc"] for n in range(len(types))]
        shares = [_mean(correct[truth[chosen] == n]) for n in range(len(types))]
        found = {"macro_roc_auc": _mean(aucs), "balanced_accuracy": _mean(shares)}
        found |= {f"roc_auc {name}": auc for name, auc in zip(types, aucs, strict=True)}
        return found | {f"sensitivity {name}": share for name, share in zip(types, shares, strict=True)}

    value, interval = scores(np.arange(len(rows))), bootstrap(groups, scores, resamples)
    counts = np.zeros((len(types), len(types)), dtype=int)
    np.add.at(counts, (truth, called), 1)
    means = ("macro_roc_auc", "balanced_accuracy")
    return {
        "types": types,
        "n": len(rows),
        "groups": len(set(groups)),
        **{name: value[name] for name in means},
        "ci95": {name: interval.get(name) for name in means},
        "by_type": {
            name: {
                "n": int((truth == number).sum()),
                **{score: value[f"{score} {name}"] for score in ("roc_auc", "sensitivity")},
                "ci95": {score: interval.get(f"{score} {name}") for score in ("roc_auc", "sensitivity")},
            }
            for number, name in enumerate(types)
        },
        "confusion": {
            name: dict(zip(types, row, strict=True)) for name, row in zip(types, counts.tolist(), strict=True)
        },
    }


def _mean(values: Sequence[float | None] | np.ndarray) -> float | None:
    """Mean of the known values; None without any."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
