"""Run all trainings of a plan: ablations and cross-validation. Finished runs are kept, interrupted ones resumed.

OUTPUT/data/                            slice store and split
OUTPUT/runs/fold0_seed0/a+b+c/          model.pt of step c, trained from that of a+b; evaluation/ at a chain's end
OUTPUT/runs/fold0_seed0/a+b+c.json      manifest of that run: settings, versions, times
OUTPUT/summary.json, report.json        scores of every variant over all folds and seeds; full report of the reference
OUTPUT/report_seed1.json                report of the reference's second repetition, and so on
OUTPUT/run.json                         time, machine and versions
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..core import files
from ..errors import UserError
from ..loading import run_workflow
from ..manifest import Manifest, contents, lock_folder, read_json, removed_if_refused
from ..reporting.results import describe_run
from ..weights import OF_NETWORK, release, release_ood_detector, report_beside
from . import stages
from .plans import Plan, Task

__all__ = ["release_reference", "run_plan"]

STORE, SPLIT = "data/store.json", "data/splits.json"  # in the folder of all results


def run_plan(
    plan: Plan,
    output: str | Path,
    volumes: str | Path | Sequence[str] | None,
    images: Sequence[str],
    processes: int = 1,
    reading: Mapping[str, Any] | None = None,
    before_training: Callable[[Path], None] = lambda store: None,
) -> Path:
    """Run every training of a plan that is not finished yet, then summarize.

    Args:
        plan: the variants to train.
        output: folder of all results.
        volumes: folders of volumes.
        images: folders of images, each "DIR" or "NAME=DIR".
        processes: trainings in parallel, one core each.
        reading: how preprocessing reads the folders, see `run_pipeline`.
        before_training: gets the slice store; its UserError refuses the run.

    Returns:
        `summary.json`.

    Raises:
        UserError: when the plan's reference is none of its variants, the split lacks its fold, the folder holds other
            results, or another run is active there.
    """
    if plan.reference not in plan.variants:
        raise UserError(f"the plan's reference '{plan.reference}' is none of its variants: {', '.join(plan.variants)}")
    output = Path(output).resolve()
    with lock_folder(output):
        count = prepare(plan, output, volumes, images, reading, before_training)
        for tasks in plan.rounds(count):
            run_tasks(plan, output, tasks, processes)
        return summarize(plan, output, count)


def prepare(
    plan: Plan,
    output: Path,
    volumes: str | Path | Sequence[str] | None,
    images: Sequence[str],
    reading: Mapping[str, Any] | None = None,
    before_training: Callable[[Path], None] = lambda store: None,
) -> int:
    """Write the slice store and its split, as far as they are not there yet, in a locked folder; see `run_plan`.

    Returns:
        The number of folds.

    Raises:
        UserError: when the folder holds other results, the data cannot be used, or the split lacks a fold of the plan.
    """
    folders = {**stages.source_folders(volumes, images), **(reading or {})}
    folds = {"folds": plan.folds, "image_folds": plan.image_folds}
    with removed_if_refused(output, {path for path in contents(output) if path.name != ".lock"}):
        run = Manifest(output, {**folds, "network": plan.network, **plan.identity})
        run.step("data", lambda: stages.preprocess(output / "data", folders, **folds), always=True)
        count = number_of_folds(output / SPLIT)
        plan.chosen(count)
        before_training(output / "data")
    return count


def run_tasks(plan: Plan, output: Path, tasks: Sequence[Task], processes: int) -> None:
    """Train and score chains, none of which trains what another one trains too."""
    from joblib import Parallel, delayed

    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started from here on
    jobs = (delayed(run_task)(plan, output, task, os.getpid()) for task in tasks)
    for folder in Parallel(n_jobs=processes, return_as="generator_unordered")(jobs):
        print(f"done: {folder}", flush=True)


def number_of_folds(split_file: Path) -> int:
    """Number of folds of a split; it may be smaller than requested."""
    return 1 + max(entry["fold"] for entry in read_json(split_file)["cases"].values())


def run_task(plan: Plan, output: Path, task: Task, parent: int) -> str:
    """Train a chain and score its last weights, if not finished yet; a worker process ends with its parent."""
    import torch

    if os.getpid() != parent:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(1)
    folder = train_chain(plan, output, task)
    settings = _settings(plan, output, task) | ({"subset": "val"} if task.inner else {})
    settings |= {k: v for k, v in plan.steps[task.chain[-1]]["settings"].items() if k.startswith("network")}
    first = task.seed == 0 and not task.inner
    is_reference = first and task.chain == plan.variants[plan.reference].steps
    audited = first and plan.is_audited(task.chain)
    further = (["explanation.json", "audit.json"] if audited else []) + (["distances.json"] if is_reference else [])
    predictions = ["predictions.json", "report.json", *further]
    needs = [output / STORE, output / SPLIT, folder / "model.pt"]
    run = _manifest(plan, output, task)
    work = partial(score, folder, audited, is_reference, printed=plan.prints_scores, **settings)
    run.step(f"{task.folder}/evaluation", work, needs, predictions)
    return task.folder


def train_chain(plan: Plan, output: Path, task: Task) -> Path:
    """Train the unfinished steps of a chain; return the folder of its last weights."""
    needs, shared = [output / STORE, output / SPLIT], _settings(plan, output, task)
    asked = {name: shared[name] for name in ("validation", "sources") if name in shared}
    alone = stages.taught_by(output / "data", task.fold, **asked)["kinds"] == ["volume"]
    for start in task.starts():
        step, folder = plan.steps[start.chain[-1]], output / start.folder
        before = {"initial_weights": str(needs[-1])} if len(start.chain) > 1 else {}
        settings = {"seed": task.seed, **shared, **before, **plan.common}
        if alone and step.get("overlays"):  # of stages that train on both kinds
            settings["kinds"] = ["volume"]
        settings |= step["settings"]
        if task.inner:  # scored after the training only: the last weights count, as on the outer folds
            settings |= {"validation": True, "val_interval": 1 + settings["max_epochs"]}
        if "weights" in step:
            make = partial(take_weights, Path(step["weights"]), folder, settings)
        else:
            make = partial(stages.train, step["overlays"], folder, **settings)
        _manifest(plan, output, start).step(start.folder, make, needs, ["model.pt"])
        needs = [*needs[:2], folder / "model.pt"]
    return folder


def take_weights(weights: Path, folder: Path, settings: Mapping[str, Any]) -> None:
    """Weights in the place of trained ones, with the notes and the config that a training leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "config.json", {**settings, "do_seg": True, "do_cls": True})
    files.write_json(folder / "model.json", report_beside(weights).get("model", {}))
    shutil.copyfile(weights, folder / "model.pt")


def _settings(plan: Plan, output: Path, task: Task) -> dict[str, Any]:
    """Settings that training and scoring have in common."""
    shared = {name: plan.common[name] for name in ("validation", "sources", *OF_NETWORK) if name in plan.common}
    shared |= {"validation": True} if task.inner else {}
    return {"dataset_dir": str(output / "data"), "fold": task.fold, "network_name": plan.network, **shared}


def _manifest(plan: Plan, output: Path, task: Task) -> Manifest:
    """Manifest of a chain's last step: a file beside its folder, since a restarted step removes the folder."""
    folder, step = output / task.folder, plan.steps[task.chain[-1]]
    settings = {"step": step, "common": plan.common, "network": plan.network}
    return Manifest(output, settings, folder.with_name(f"{folder.name}.json"))


def score(folder: Path, audited: bool, is_reference: bool, printed: bool, **settings: Any) -> None:
    """Score the weights in a folder; if the report is about them, also audit them and fit their OOD detector."""
    stages.evaluate(folder / "model.pt", folder / "evaluation", explain=False, printed=printed, **settings)
    if audited:
        stages.audit(folder / "model.pt", folder / "evaluation", **settings)
    if is_reference:
        stages.fit_ood_detector(folder / "model.pt", folder / "evaluation", **settings)


def _end_with(parent: int) -> None:
    """End this process when its parent has ended; an orphan would go on training."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def summarize(plan: Plan, output: Path, folds: int) -> Path:
    """Combine the folds of every variant and seed."""
    predictions = {
        name: {
            "description": variant.description,
            "learns": trained_tasks(output, Task(plan.chosen(folds)[0], 0, variant.steps)),
            "sources": plan.common.get("sources"),
            "seeds": [
                [
                    str(output / Task(fold, seed, variant.steps).folder / "evaluation" / "predictions.json")
                    for fold in plan.chosen(folds)
                ]
                for seed in range(variant.seeds)
            ],
        }
        for name, variant in plan.variants.items()
    }
    files.write_json(output / "variants.json", predictions)
    told: dict[str, Any] = {"reference": plan.reference, "printed": plan.prints_scores}
    run_workflow("summarizing", ["cross_validation.yaml"], output_dir=str(output), **told)
    files.write_json(output / "run.json", describe_run(output, plan.name, plan.network, plan.command))
    return output / "summary.json"


def trained_tasks(output: Path, task: Task) -> list[str]:
    """Tasks that a chain of trainings trained, by their configs."""
    configs = [read_json(output / start.folder / "config.json") for start in task.starts()]
    flags = {"segmentation": "do_seg", "classification": "do_cls"}
    return [name for name, flag in flags.items() if any(config[flag] for config in configs)]


def release_reference(plan: Plan, output: Path, models: Path) -> None:
    """Release the reference's weights with the scores and the decision of the cases that were left out.

    After a single fold they are the fold's own. After several they are trained on the cases of all folds, also of those
    that were not tested.

    Raises:
        UserError: when the plan has not been run to its end, or another run is active in the folder.
    """
    if not (output / "report.json").is_file():
        raise UserError(f"{output / 'report.json'}: missing, finish the run first")
    chain = plan.variants[plan.reference].steps
    with lock_folder(output):
        count = number_of_folds(output / SPLIT)
        folds = [Task(fold, 0, chain) for fold in plan.chosen(count)]
        evaluations = [output / fold.folder / "evaluation" for fold in folds]
        if len(folds) == 1:
            trained, detector = output / folds[0].folder, evaluations[0]
            scored = f"fold {folds[0].fold} of {count}, which these weights were not trained on"
        else:
            everything = Task(None, 0, chain)
            trained = train_chain(plan, output, everything)
            detector = trained / "ood_detector"
            stages.fit_ood_detector(trained / "model.pt", detector, **_settings(plan, output, everything))
            tested = f"{len(folds)} of {count} folds" if len(folds) < count else "cross-validation"
            scored = f"{tested}: each case by weights not trained on it; released are weights trained on all cases"
        report = read_json(output / "report.json")
        decision = report.pop("decision_out_of_fold")
        release(trained, {**report, "decision": decision, "scored": scored}, models)
        held_out = [row for folder in evaluations for row in _held_out_rows(folder / "distances.json")]
        release_ood_detector(detector / "ood_detector.npz", held_out, models)


def _held_out_rows(distances: Path) -> list[dict[str, Any]]:
    """Held-out scans of a fold, from the sources of the training data."""
    learned = {case.partition("/")[0] for case in read_json(distances.parent.parent / "model.json")["trained_on"]}
    return [row for row in read_json(distances)["rows"] if row["case"].partition("/")[0] in learned]
