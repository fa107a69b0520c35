"""Nested cross-validation: the variant is chosen on inner folds, and only the chosen one is scored on the outer fold.

For outer fold k, every variant is trained without folds k and k + 1 and scored on fold k + 1, the inner one. The best
is trained without fold k and scored on it, once. So no score of an outer fold had a part in a choice.

OUTPUT/data/, runs/         as those of `run_plan`, of the chosen variants
OUTPUT/inner/               the same of all variants, on the inner folds
OUTPUT/choices.json         by outer fold: the inner scores of every variant, and which one was chosen
OUTPUT/summary.json, report.json, run.json   of the chosen variants, on the outer folds

Reference:
    Varma and Simon, Bias in error estimation when using cross-validation for model selection, BMC Bioinformatics 2006.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import files
from ..errors import UserError
from ..loading import run_workflow
from ..manifest import lock_folder, read_json
from ..reporting.results import describe_run
from .plans import Plan, Task
from .run_plan import prepare, run_tasks, trained_tasks

__all__ = ["inner_score", "run_nested"]

CHOSEN = "chosen"


def run_nested(
    plan: Plan,
    output: str | Path,
    volumes: str | Path | Sequence[str] | None,
    images: Sequence[str],
    processes: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> Path:
    """Choose a variant of a plan in each outer fold, and score the chosen ones. Finished trainings are kept.

    Args:
        plan: the variants; their first seeds are trained.
        output: folder of all results.
        volumes: folders of volumes.
        images: folders of images, each "DIR" or "NAME=DIR".
        processes: trainings in parallel, one core each.
        reading: how preprocessing reads the folders, see `run_pipeline`.

    Returns:
        `summary.json`, whose variant "chosen" has the scores of the outer folds.

    Raises:
        UserError: when the plan has one variant only, there are fewer than three folds, or another run is active in the
            folder.
    """
    if len(plan.variants) < 2:
        raise UserError("the plan has one variant, there is nothing to choose; name a plan with several")
    output, plan = Path(output).resolve(), replace(plan, audited=(), name="nested")
    with lock_folder(output):
        count = prepare(plan, output, volumes, images, reading)
        if count < 3:
            raise UserError(f"the data give {count} folds; inner folds need three, from as many patients")
        first = replace(plan, variants={name: replace(variant, seeds=1) for name, variant in plan.variants.items()})
        for tasks in first.rounds(count):
            run_tasks(plan, output, [replace(task, inner=True) for task in tasks], processes)
        choices = {fold: choice_of(plan, output, fold) for fold in plan.chosen(count)}
        files.write_json(output / "choices.json", {"measure": MEASURE, "folds": choices})
        chosen = [Task(fold, 0, plan.variants[found["chosen"]].steps) for fold, found in choices.items()]
        run_tasks(plan, output, chosen, processes)
        return summarize(plan, output, chosen)


MEASURE = "mean of the patients' mean Dice and the sources' mean ROC-AUC, as far as the inner fold has them"


def choice_of(plan: Plan, output: Path, fold: int) -> dict[str, Any]:
    """Inner scores of every variant, and the name of the best; of equal ones the first of the plan."""
    folders = {name: output / Task(fold, 0, v.steps, inner=True).folder for name, v in plan.variants.items()}
    scores = {name: inner_score(read_json(folder / "evaluation" / "report.json")) for name, folder in folders.items()}
    found = {name: score["mean"] for name, score in scores.items() if score["mean"] is not None}
    if len(found) < len(scores):
        raise UserError(f"fold {fold}: its inner fold has neither masks nor both classes; choose fewer folds")
    return {"chosen": max(found, key=lambda name: found[name]), "scores": scores}


def inner_score(report: Mapping[str, Any]) -> dict[str, float | None]:
    """What variants are chosen by, from the report of an evaluation.

    Returns:
        "dice": mean over patients; "roc_auc": mean over sources; "mean": of both. None: not scored.

    >>> inner_score({"segmentation": {"mean": {"dice": 0.8}}, "classification": {"a": {"roc_auc": 0.9}, "b": {}}})
    {'dice': 0.8, 'roc_auc': 0.9, 'mean': 0.8500000000000001}
    """
    aucs = [row["roc_auc"] for row in report["classification"].values() if row.get("roc_auc") is not None]
    dice: float | None = report["segmentation"]["mean"].get("dice")
    auc = sum(aucs) / len(aucs) if aucs else None
    known = [value for value in (dice, auc) if value is not None]
    return {"dice": dice, "roc_auc": auc, "mean": sum(known) / len(known) if known else None}


def summarize(plan: Plan, output: Path, chosen: Sequence[Task]) -> Path:
    """Combine the outer folds."""
    learned = [set(trained_tasks(output, task)) for task in chosen]
    predictions = [str(output / task.folder / "evaluation" / "predictions.json") for task in chosen]
    variant = {
        "description": "chosen on inner folds",
        "learns": sorted(set.intersection(*learned), reverse=True),
        "sources": plan.common.get("sources"),
        "seeds": [predictions],
    }
    files.write_json(output / "variants.json", {CHOSEN: variant})
    run_workflow("summarizing", ["cross_validation.yaml"], reference=CHOSEN, output_dir=str(output))
    files.write_json(output / "run.json", describe_run(output, plan.name, plan.network, plan.command))
    return output / "summary.json"
