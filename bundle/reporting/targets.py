"""Targets and their values, from the JSON of finished experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .estimates import mean, mean_of_folds, negated
from .results import PATIENTS

__all__ = ["attempted", "evaluated"]

DECLARED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
TARGETS: dict[str, dict[str, Any]] = DECLARED["targets"]
ATTEMPTED: dict[str, dict[str, list[str]]] = DECLARED["attempted"]
SCORES = {
    "dice": "Dice",
    "volumes": "ROC-AUC of volumes' slices",
    "images": "ROC-AUC of images",
    "left_out": "ROC-AUC of images of a source that is only tested",
}

SEVERITY = 3  # of corruptions, of 5

Facts = Mapping[str, Any]
Estimate = tuple[float | None, Sequence[float] | None]  # a number and its interval, if any


def evaluated(facts: Facts) -> list[dict[str, Any]]:
    """One row per target.

    Args:
        facts: see `results.load`.

    Returns:
        Rows with "name", "measure", "floor", "goal", "value" (mean over seeds, None without an experiment), "ci95" (of
        the first seed, or None), "met" (by the value: "goal", "floor", "no", or "not measured") and "shown": whether
        the whole interval meets the floor, None without an interval.
    """
    rows = []
    for name, target in TARGETS.items():
        value, interval = MEASURES[name](facts) if name in MEASURES else _told(facts, target)
        sign = -1.0 if target.get("at_most") else 1.0
        met, shown = "not measured", None
        if value is not None:
            held = [bound for bound in ("goal", "floor") if sign * value >= sign * target[bound]]
            met = held[0] if held else "no"
        if interval is not None:
            shown = min(sign * bound for bound in interval) >= sign * target["floor"]
        bounds = {bound: target[bound] for bound in ("floor", "goal")}
        found = {"value": value, "ci95": interval, "met": met, "shown": shown}
        rows.append({"name": name, "measure": target["measure"], **bounds, **found})
    return rows


def attempted(facts: Facts, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Variants that were tested for missed goals, from the experiments of the report.

    Args:
        facts: see `results.load`.
        rows: see `evaluated`.

    Returns:
        By name of the score: variants that were meant to raise it, with "description" and "gain" over the reference.
    """
    missed = {TARGETS[row["name"]].get("score") for row in rows if row["met"] in ("floor", "no")}
    found = {SCORES[score]: _gains(facts, score) for score in ATTEMPTED if score in missed}
    return {words: gains for words, gains in found.items() if gains}


def _gains(facts: Facts, score: str) -> list[dict[str, Any]]:
    gains = []
    for experiment, names in ATTEMPTED[score].items():
        compared = facts["comparisons"].get(experiment, {"variants": {}})["variants"]
        for variant in (compared[name] for name in names if name in compared):
            against = variant["against_reference"]
            gain = against["dice"]["mean_difference"] if score == "dice" else _auc_gain(facts, against, score)
            gains += [] if gain is None else [{"description": variant["description"], "gain": gain}]
    return gains


def _auc_gain(facts: Facts, against: Mapping[str, Any], score: str) -> float | None:
    """Mean gain in AUC over the sources of one kind."""
    learned = facts["learned"] or facts["images"]
    kinds = {name: "images" if name in learned else "left_out" for name in facts["images"]}
    found = against["roc_auc"].items()
    return mean(difference["difference"] for name, difference in found if kinds.get(name, "volumes") == score)


def _told(facts: Facts, target: Mapping[str, Any]) -> Estimate:
    """Mean over repetitions of the score at the place that the target names, and the interval of the first."""
    seeds = facts["recipe"]["seeds"]
    values = [_at(seed, target["of"]) for seed in seeds]
    return mean(values), _at(seeds[0], target["interval"]) if "interval" in target else None


def _at(content: Any, place: Sequence[str]) -> Any:
    """What is at a place in nested dicts; None where there is nothing."""
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _manual(facts: Facts) -> list[Mapping[str, Any]]:
    """Scores of the patients with manual masks, of each seed."""
    return [seed["segmentation"]["manual"] or {} for seed in facts["recipe"]["seeds"]]


def _dice(facts: Facts) -> Estimate:
    found = _manual(facts)
    return mean(seed.get("dice") for seed in found), found[0].get("ci95")


def _worst_dice(facts: Facts) -> Estimate:
    return mean(seed.get("worst_dice") for seed in _manual(facts)), None


def _scores(facts: Facts, kind: str, left_out: bool = False) -> list[Mapping[str, Any]]:
    """Scores of the volumes' slices, or of images of training or tested sources; one entry per seed and source."""
    learned = facts["learned"]
    return [
        scores
        for seed in facts["recipe"]["seeds"]
        for source, scores in seed["classification"].items()
        if scores["kind"] == kind and bool(learned and source not in learned) is left_out
    ]


def _seeds(facts: Facts) -> int:
    return len(facts["recipe"]["seeds"])


def _slice_auc(facts: Facts) -> Estimate:
    found = [scores["mean_patient_roc_auc"] for scores in _scores(facts, kind="volume") if scores["n"]]
    return mean(scores["value"] for scores in found), _of_one(found, "ci95", _seeds(facts))


def _image_auc(left_out: bool) -> Callable[[Facts], Estimate]:
    """Mean over folds and seeds."""

    def auc(facts: Facts) -> Estimate:
        found = [scores["within_folds"] for scores in _scores(facts, kind="image", left_out=left_out)]
        return mean(scores["roc_auc"] for scores in found), _of_one(found, "ci95", _seeds(facts))

    return auc


def _image_specificity(facts: Facts) -> Estimate:
    found, name = _scores(facts, kind="image"), "specificity_at_95_sensitivity"
    return mean(scores[name] for scores in found), _of_one([scores["ci95"] for scores in found], name, _seeds(facts))


def _margin(left_out: bool) -> Callable[[Facts], Estimate]:
    """Margin of the network over the better baseline, mean over the folds of the first seed."""

    def margin(facts: Facts) -> Estimate:
        rows = [row for row in facts["baselines"] if (row["source"] not in facts["learned"]) is left_out]
        found = mean_of_folds(row["margin"] for row in rows)
        return found["value"], found["ci95"] if len({row["source"] for row in rows}) == 1 else None

    return margin


def _dice_kept(patients: str) -> Callable[[Facts], Estimate]:
    """Gain of joint training over stage 1, in the experiment of the report."""

    def gain(facts: Facts) -> Estimate:
        own = [row for row in facts["costs"] if row["experiment"] == facts["run"]["experiment"]]
        found = [row for row in own if row["patients"] == PATIENTS[patients]][:1]  # of segmentation alone
        return mean(row["mean_difference"] for row in found), _of_one(found, "ci95")

    return gain


def _joint_gain(facts: Facts) -> Estimate:
    variants = facts["comparisons"].get("ablations", {"variants": {}})["variants"]
    if "images_only" not in variants:
        return None, None
    differences = variants["images_only"]["against_reference"]["roc_auc"]
    found = [difference for name, difference in differences.items() if name in facts["images"]]
    gain = mean(difference["difference"] for difference in found)
    return (None if gain is None else -gain), negated(_of_one(found, "ci95"))


def _map_energy(facts: Facts) -> Estimate:
    found = [found for found in facts["maps"].values() if found["energy_ratio"] is not None]
    return mean(source["energy_ratio"] for source in found), _of_one(found, "ci95")


def _blanked_excess(facts: Facts) -> Estimate:
    """Mean over the folds whose volumes have both classes of slices, with its interval over folds."""
    found = facts["audited_volumes"]["mean"]["filled_excess"]
    return found["value"], found["ci95"]


def _unflagged(facts: Facts) -> Estimate:
    """Share that is wrong without a flag, of the worst corruption of each source at a middle severity; their mean."""
    found = facts["robustness"]["sources"].values() if facts.get("robustness") else []
    shares = [
        [row["wrong_without_flag"]["value"] for rows in source.values() for row in rows if row["severity"] == SEVERITY]
        for source in found
    ]
    return mean(max(of_source) for of_source in shares if of_source), None


def _of_one(found: Sequence[Mapping[str, Any]], name: str, seeds: int = 1) -> Sequence[float] | None:
    """The first interval; None if the value is a mean over several sources."""
    return found[0][name] if len(found) == seeds else None


MEASURES: dict[str, Callable[[Facts], Estimate]] = {
    "dice": _dice,
    "worst_dice": _worst_dice,
    "slice_auc": _slice_auc,
    "image_auc": _image_auc(left_out=False),
    "image_margin": _margin(left_out=False),
    "image_specificity": _image_specificity,
    "left_out_auc": _image_auc(left_out=True),
    "left_out_margin": _margin(left_out=True),
    "dice_kept": _dice_kept("dice"),
    "dice_kept_manual": _dice_kept("dice_manual"),
    "joint_gain": _joint_gain,
    "map_energy": _map_energy,
    "blanked_excess": _blanked_excess,
    "unflagged": _unflagged,
}
