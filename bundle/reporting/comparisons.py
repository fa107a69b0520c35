"""What the comparison of variants found, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["clear_differences", "scored_sources"]

Comparison = Mapping[str, Any]


def scored_sources(comparison: Comparison) -> list[str]:
    """Sources with a ROC-AUC of the reference or of another variant, in the order of the reference.

    Args:
        comparison: content of a summary.json.
    """
    seeds = [variant["seeds"][0]["classification"] for variant in comparison["variants"].values()]
    names = comparison["variants"][comparison["reference"]]["seeds"][0]["classification"]
    return [name for name in names if any(_auc(seed, name) is not None for seed in seeds)]


def _auc(seed: Mapping[str, Any], source: str) -> float | None:
    found: float | None = seed.get(source, {}).get("within_folds", {}).get("roc_auc")
    return found


def clear_differences(comparison: Comparison) -> dict[str, list[str]]:
    """By description of a variant the differences to the reference whose interval does not include zero, in words.

    Args:
        comparison: content of a summary.json.
    """
    found = {
        variant["description"]: list(_clear(variant["against_reference"]))
        for name, variant in comparison["variants"].items()
        if name != comparison["reference"]
    }
    return {description: differences for description, differences in found.items() if differences}


def _clear(against: Mapping[str, Any]) -> Iterator[str]:
    scores = {"Dice": (against["dice"]["mean_difference"], against["dice"]["ci95"])}
    scores |= {f"AUC {name}": (found["difference"], found["ci95"]) for name, found in against["roc_auc"].items()}
    for score, (value, bounds) in scores.items():
        if value is not None and bounds and bounds[0] * bounds[1] > 0:
            yield f"{score} {value:+.3f}"
