"""Fine-tune weights on a user's own volumes, and say whether it helps.

OUTPUT/data/, runs/, summary.json   as a cross-validation writes them, see `run_plan.py`
OUTPUT/finetuning.json              scores before, after and from scratch, their differences, and the recommendation
OUTPUT/models/                      model.pt and its report.json, ready for `predict --model`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ..core import files, weights_report
from ..errors import UserError
from ..loading import parse
from ..manifest import read_json
from ..weights import OF_NETWORK, OF_STORE, trained_as
from . import stages
from .initial_weights import cases_in_words
from .pipeline import time_in_words
from .plans import Plan, Variant
from .run_plan import release_reference, run_plan

__all__ = ["as_text", "finetune", "recommendation"]

SCHEDULES: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
AFTER, BEFORE, SCRATCH = "after", "before", "scratch"
WORDS = {BEFORE: "the weights as they are", AFTER: "fine-tuned", SCRATCH: "trained from scratch, as long"}
FEWEST_PATIENTS = 3  # for a fold that trains on two


def finetune(
    output: str | Path,
    volumes: Sequence[str],
    model: Path,
    folds: int = 10,
    epochs: int | None = None,
    precision: str = "float32",
    processes: int = 1,
    reading: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune in every fold, compare on the cases left out, then fine-tune on all cases.

    Args:
        output: folder for all results; an interrupted run there is resumed.
        volumes: folders of volumes with masks, each "DIR" or "NAME=DIR".
        model: the weights to start from.
        folds: of the patients; with fewer patients one patient is left out at a time.
        epochs: of each training (default: those of `finetuning.yaml`).
        precision: of the training's convolutions, float32 or bfloat16.
        processes: trainings in parallel, one core each.
        reading: how preprocessing reads the folders, see `run_pipeline`.

    Returns:
        What `finetuning.json` holds: "patients" (Dice of each by variant), "rows" by variant, "after_minus_before",
        "after_minus_scratch" and "recommendation".

    Raises:
        UserError: when a folder or a mask is missing, `output` holds other results, there are too few patients, or the
            weights were trained on any of the cases: before and after could not be compared.
    """
    output, known = Path(output).resolve(), trained_as(model)
    if "segmentation" not in weights_report.learned_by(model):
        raise UserError(f"{model}: not trained on masks; train them with `pipeline --initial-weights {model}` first")
    volumes = [f"{name or path.name}={path}" for name, path in map(stages.named, volumes)]
    plan = finetuning_plan(model, known, folds, epochs, precision)
    channels = {name: known[name] for name in OF_STORE if name in known}
    settings = {**(reading or {}), **channels, "require_masks": True}

    def before_training(store: Path) -> None:
        patients = _require_comparable(store, model)
        print(work_in_words(plan, len(patients), processes), flush=True)

    run_plan(plan, output, volumes, [], processes, settings, before_training)
    release_reference(plan, output, output / "models")
    found = comparison(read_json(output / "summary.json"))
    files.write_json(output / "finetuning.json", found)
    return found


def finetuning_plan(model: Path, known: Mapping[str, Any], folds: int, epochs: int | None, precision: str) -> Plan:
    """Weights as they are, fine-tuned, and trained from scratch, in every fold, without a validation fold."""
    longer = {"max_epochs": epochs} if epochs else {}
    steps: dict[str, dict[str, Any]] = {
        name: {
            "overlays": stages.OVERLAYS["stage3"],
            "settings": {**SCHEDULES[name], **longer, "kinds": ["volume"], "initial_weights": start},
        }
        for name, start in ((AFTER, str(model)), (SCRATCH, None))
    }
    steps[BEFORE] = {"weights": str(model), "settings": {}}
    variants = {name: Variant((name,), 1, words) for name, words in WORDS.items()}
    common = {"validation": False, "num_workers": 0, "precision": precision}
    common |= {name: known[name] for name in OF_NETWORK if name in known}
    command = f"finetune --folds {folds}" + (f" --epochs {epochs}" if epochs else "")
    network = known.get("network_name", "cpu")
    plan = Plan(folds, common, steps, variants, AFTER, network, "finetuning", command)
    return replace(plan, audited=(), prints_scores=False)


def work_in_words(plan: Plan, patients: int, processes: int) -> str:
    """How many trainings there are, and about how long they take."""
    folds = min(plan.folds, patients)
    lengths = {name: plan.steps[name]["settings"] for name in (AFTER, SCRATCH)}
    slices = {name: length["max_epochs"] * length["samples_per_epoch"] for name, length in lengths.items()}
    told = time_in_words(folds * sum(slices.values()) + slices[AFTER], processes)
    trainings = f"{patients} patients, {folds} folds: {2 * folds + 1} trainings and {3 * folds} scorings"
    return f"{trainings}, about {told}" if told else trainings


def _require_comparable(store: Path, model: Path) -> list[str]:
    """Require enough patients with a tumor, none of them among the training cases of the weights; return them."""
    checked = parse("before_training.yaml", ["patients", "known"], dataset_dir=str(store), model_path=str(model))
    if len(checked["patients"]) < FEWEST_PATIENTS:
        raise UserError(
            f"{len(checked['patients'])} patients with a tumor, fine-tuning needs {FEWEST_PATIENTS} or more"
        )
    if checked["known"]:
        named = cases_in_words(checked["known"])
        raise UserError(
            f"{model}: trained on {len(checked['known'])} of these cases, such as {named}; leave them out: before and "
            "after cannot be compared on them"
        )
    return list(checked["patients"])


def comparison(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the three variants, differences from before with their intervals, and the recommendation."""
    variants = summary["variants"]
    rows = {}
    for name, words in WORDS.items():
        scores = variants[name]["seeds"][0]
        aucs = {source: weights_report.auc_of(found)["value"] for source, found in scores["classification"].items()}
        dice, interval = scores["segmentation"]["dice"], scores["segmentation"]["ci95"]["dice"]
        rows[name] = {"description": words, "dice": dice, "ci95": interval, "roc_auc": aucs}
    after = _reversed(variants[BEFORE]["against_reference"]["dice"])
    dice = {name: variants[name]["seeds"][0]["segmentation"]["patients"] for name in WORDS}
    return {
        "patients": {patient: {name: dice[name][patient] for name in WORDS} for patient in dice[AFTER]},
        "rows": rows,
        "after_minus_before": after,
        "after_minus_scratch": _reversed(variants[SCRATCH]["against_reference"]["dice"]),
        "recommendation": recommendation(after),
    }


def _reversed(found: Mapping[str, Any]) -> dict[str, Any]:
    """Reference minus variant, of a comparison of a variant with the reference."""
    difference, interval = found["mean_difference"], found["ci95"]
    return {
        "n": found["n"],
        "mean_difference": None if difference is None else -difference,
        "ci95": None if interval is None else [-interval[1], -interval[0]],
        "better": found["worse"],
        "worse": found["better"],
    }


def recommendation(after_minus_before: Mapping[str, Any]) -> dict[str, str]:
    """What to do, by the 95 % interval of the paired difference of Dice.

    >>> recommendation({"n": 5, "mean_difference": 0.02, "ci95": [-0.01, 0.05]})["code"]
    'no_gain_shown'
    """
    interval = after_minus_before["ci95"]
    if interval is None or interval[0] <= 0 <= interval[1]:
        return {"code": "no_gain_shown", "text": "no gain shown: keep the weights as they are, or add patients"}
    if interval[0] > 0:
        return {"code": "gain", "text": "gain shown: use the fine-tuned weights on data like these"}
    return {"code": "loss", "text": "fine-tuning made it worse: keep the weights as they are"}


def as_text(found: Mapping[str, Any]) -> str:
    """The table of variants, the two differences, and the recommendation, for the terminal."""
    sources = list(found["rows"][AFTER]["roc_auc"])
    lines = [f"{'':30}{'Dice':>6}  {'95 % interval':16}" + "".join(f"{f'AUC {source}':>14}" for source in sources)]
    for row in found["rows"].values():
        aucs = "".join(f"{_number(row['roc_auc'].get(source)):>14}" for source in sources)
        lines.append(f"{row['description']:30}{_number(row['dice']):>6}  {_interval(row['ci95']):16}{aucs}")
    for key, words in (("after_minus_before", "before"), ("after_minus_scratch", "from scratch")):
        change = found[key]
        lines.append(
            f"Dice of {change['n']} patients, fine-tuned minus {words}: {_number(change['mean_difference'], '+.3f')} "
            f"{_interval(change['ci95'], '+.3f')}; better {change['better']}, worse {change['worse']}"
        )
    return "\n".join([*lines, found["recommendation"]["text"]])


def _number(value: float | None, style: str = ".3f") -> str:
    return "-" if value is None else format(value, style)


def _interval(ends: Sequence[float] | None, style: str = ".3f") -> str:
    return "" if ends is None else f"({format(ends[0], style)} to {format(ends[1], style)})"
