"""What the recipe reached beside what it was meant to reach, from the JSON of finished experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .results import mean

__all__ = ["reached"]

TARGETS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())

Facts = Mapping[str, Any]


def reached(facts: Facts) -> list[dict[str, Any]]:
    """One row a target.

    Args:
        facts: see `results.load`.

    Returns:
        Rows with "name", "measure", "floor", "goal", "value" (None where no experiment tells) and "met": "goal",
        "floor", "no", or "not measured".
    """
    rows = []
    for name, target in TARGETS.items():
        value = MEASURES[name](facts)
        sign = -1.0 if target.get("at_most") else 1.0
        met = "not measured"
        if value is not None:
            held = [bound for bound in ("goal", "floor") if sign * value >= sign * target[bound]]
            met = held[0] if held else "no"
        bounds = {bound: target[bound] for bound in ("floor", "goal")}
        rows.append({"name": name, "measure": target["measure"], **bounds, "value": value, "met": met})
    return rows


def _manual(name: str) -> Callable[[Facts], float | None]:
    """A number of the patients whose masks were drawn by hand, mean over seeds."""
    return lambda facts: mean((seed["segmentation"]["manual"] or {}).get(name) for seed in facts["recipe"]["seeds"])


def _scores(facts: Facts, volumes: bool) -> list[Mapping[str, Any]]:
    """Scores of the volumes' slices, or of the images that were learned from; one entry a seed."""
    learned = facts["learned"]
    return [
        scores
        for seed in facts["recipe"]["seeds"]
        for source, scores in seed["classification"].items()
        if ("mean_patient_roc_auc" in scores) is volumes and (not learned or source in learned)
    ]


def _slice_auc(facts: Facts) -> float | None:
    return mean(scores["mean_patient_roc_auc"]["value"] for scores in _scores(facts, volumes=True))


def _image_auc(facts: Facts) -> float | None:
    return mean(scores["within_folds"]["roc_auc"] for scores in _scores(facts, volumes=False))


def _image_specificity(facts: Facts) -> float | None:
    return mean(scores["specificity_at_95_sensitivity"] for scores in _scores(facts, volumes=False))


def _margin(left_out: bool) -> Callable[[Facts], float | None]:
    """How far the network is above the better baseline, mean of the folds."""

    def margin(facts: Facts) -> float | None:
        learned = facts["learned"]
        return mean(row["margin"] for row in facts["baselines"] if (row["source"] not in learned) is left_out)

    return margin


def _left_out_auc(facts: Facts) -> float | None:
    """Mean of the folds, of the first seed."""
    learned = facts["learned"]
    sources = [scores for name, scores in facts["images"].items() if learned and name not in learned]
    return mean(scores["within_folds"]["roc_auc"] for scores in sources)


def _dice_kept(facts: Facts) -> float | None:
    return mean(row["mean_difference"] for row in facts["costs"][:1])


def _joint_gain(facts: Facts) -> float | None:
    variants = facts["comparisons"].get("ablations", {"variants": {}})["variants"]
    if "images_only" not in variants:
        return None
    differences = variants["images_only"]["against_reference"]["roc_auc"]
    gains = (-found["difference"] for name, found in differences.items() if name in facts["images"])
    return mean(gains)


def _map_energy(facts: Facts) -> float | None:
    return mean(found["energy_ratio"] for found in facts["maps"].values())


def _blanked_excess(facts: Facts) -> float | None:
    """Mean of the folds whose volumes have both kinds of slices."""
    sources = [found for audit in facts["audits"] for found in audit["blanked"]["values"]["sources"].items()]
    return mean(found["filled_excess"]["value"] for name, found in sources if name not in facts["images"])


MEASURES: dict[str, Callable[[Facts], float | None]] = {
    "dice": _manual("dice"),
    "worst_dice": _manual("worst_dice"),
    "slice_auc": _slice_auc,
    "image_auc": _image_auc,
    "image_margin": _margin(left_out=False),
    "image_specificity": _image_specificity,
    "left_out_auc": _left_out_auc,
    "left_out_margin": _margin(left_out=True),
    "dice_kept": _dice_kept,
    "joint_gain": _joint_gain,
    "map_energy": _map_energy,
    "blanked_excess": _blanked_excess,
}
