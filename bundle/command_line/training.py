"""The subcommands that train. Modules that need torch are imported when a command runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.regions import WHOLE_TUMOR, require_regions
from ..errors import UserError
from .options import reading
from .outcome import Outcome


def pipeline(options: argparse.Namespace) -> Outcome:
    """Preprocess, train and evaluate."""
    from ..weights import OF_NETWORK
    from ..workflows.pipeline import run_pipeline

    names = ("output", "volumes", "images", "preset", "network", "precision", "seed", "fold", "device", "tracking")
    chosen = {name: getattr(options, name) for name in (*names, "skip_unreadable", *OF_NETWORK, "initial_weights")}
    require_shown(options)
    models = run_pipeline(**chosen, reading=reading(options))
    return Outcome({"weights": models / "model.pt", "evaluation": models.parent / "evaluation"})


def crossvalidate(options: argparse.Namespace) -> Outcome:
    """Train and evaluate in every fold."""
    if options.choose_from:
        return _choose(options)
    from ..weights import OF_NETWORK, OF_STORE, require_served
    from ..workflows.initial_weights import require_told
    from ..workflows.plans import cross_validation_plan
    from ..workflows.run_plan import release_reference, run_plan

    named = ("preset", "folds", "seeds", "network", "precision", "image_folds", *OF_NETWORK)
    chosen = {name: getattr(options, name) for name in named}
    plan = cross_validation_plan(
        **chosen, sources=options.learn_from or (), fold=options.fold or (), brains=options.brains
    )
    require_shown(options)
    if options.release:  # before the hours of work
        require_served({"network_name": plan.network, **_chosen(options, OF_NETWORK)}, Path(options.release))
    told = {**reading(options), **_chosen(options, OF_STORE)}

    def before_training(store: Path) -> None:
        require_told(store, options.tumor_types or (), None, sources=plan.common["sources"])

    sources = (options.volumes, options.images)
    summary = run_plan(plan, options.output, *sources, options.processes, told, before_training)
    made = {"summary": summary, "report": summary.with_name("report.json")}
    if options.release:
        release_reference(plan, summary.parent, Path(options.release))
        made["weights"] = Path(options.release) / "model.pt"
    return Outcome(made)


def _choose(options: argparse.Namespace) -> Outcome:
    """Choose a variant in every fold, and evaluate it."""
    from ..workflows.nested import run_nested
    from ..workflows.plans import nested_plan

    unused = ("release", "modalities", "regions", "tumor_types")
    if named := [name for name in unused if getattr(options, name)] + (["seeds"] if options.seeds > 1 else []):
        option = named[0].replace("_", "-")
        raise UserError(
            f"--choose-from: takes no --{option}; a plan's settings and first seeds are scored, not released"
        )
    sources = options.learn_from or ()
    chosen = {name: getattr(options, name) for name in ("folds", "network", "precision", "image_folds", "brains")}
    plan = nested_plan(options.choose_from, **chosen, sources=sources, fold=options.fold or ())
    summary = run_nested(plan, options.output, options.volumes, options.images, options.processes, reading(options))
    return Outcome(
        {"summary": summary, "report": summary.with_name("report.json"), "choices": summary.with_name("choices.json")}
    )


def _chosen(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Channels, regions and types as settings of configs; nothing if none were named."""
    return {name: chosen for name in names if (chosen := getattr(options, name))}


def require_shown(options: argparse.Namespace) -> None:
    """Refuse regions that the sequences do not show, before anything is read.

    Raises:
        UserError: naming the region.
    """
    try:
        require_regions(options.regions or WHOLE_TUMOR, options.modalities or ["flair"])
    except ValueError as error:
        if options.modalities or not getattr(options, "initial_weights", None):  # else the weights' own count
            raise UserError(f"--regions: {error}") from None


def finetune(options: argparse.Namespace) -> Outcome:
    """Fine-tune on own volumes."""
    from ..weights import find_weights
    from ..workflows.finetuning import as_text, finetune

    chosen = {name: getattr(options, name) for name in ("folds", "epochs", "precision", "processes")}
    model = find_weights(options.model)
    found = finetune(options.output, options.volumes, model, **chosen, reading=reading(options))
    weights = Path(options.output) / "models" / "model.pt"
    return Outcome({**found, "weights": weights}, as_text(found) + f"\n\nweights: {weights}")


def ablate(options: argparse.Namespace) -> Outcome:
    """Train and evaluate variants."""
    from ..workflows.plans import ablation_plan
    from ..workflows.run_plan import run_plan

    plan = ablation_plan(options.plan, options.network, options.seeds, options.precision, options.fold or ())
    sources = (options.output, options.volumes, options.images, options.processes, reading(options))
    return Outcome({"summary": run_plan(plan, *sources)})
