"""The data of the report: JSON collected from finished experiments.

RESULTS/ablations/        summary.json, report.json, run.json, audit_foldK.json, explanation_foldK.json; maps.json and
                          volumes.json: their summaries; splits.json: fold of each case, by hash;
                          report_seedN.json: report of further repetitions
RESULTS/NAME/             the same, of the plan NAME.yaml; source_probes.json, if several variants were audited
RESULTS/crossvalidation/  the same; if present, the report is about it, and the other experiments are sections
RESULTS/attempts/NAME/    targets.json and run.json of earlier versions of the training, in name order
RESULTS/mask_depths.json  depth of masks of held-out images in the head, and how often the flag is raised
RESULTS/sequences.json    how well the look of a scan tells its sequence, as in models/sequences.json, if any
RESULTS/choices.json      settings that were chosen with scores of tested cases, if any
RESULTS/kept_apart.json   scores of released weights on held-out cases that were not used in development, if any
RESULTS/robustness.json   scores of weights on corrupted scans that these were not trained on, if any
RESULTS/subsets.json      scores of combinations of sequences, of weights that read several, if any
RESULTS/screening.json    variants and patients of the choice of the augmentation, if any
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..manifest import machine, read_json
from .audit_summary import baselines, is_part, learned_sources
from .estimates import negated

__all__ = ["SEGMENTATION", "audits_in", "describe_run", "finished", "fold_of", "load", "recipe_of"]

CROSS_VALIDATION = "crossvalidation"
WORST = 12
OPTIONAL = ("kept_apart", "sequences", "robustness", "subsets", "choices", "mask_depths")
SEGMENTATION = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "surface_dice_1mm": "surface Dice, 1 mm",
    "surface_dice_2mm": "surface Dice, 2 mm",
    "boundary_f_1mm": "boundary F, 1 mm",
    "boundary_f_2mm": "boundary F, 2 mm",
    "lesion_dice": "lesion-wise Dice (BraTS 2023)",
    "lesion_hd95_mm": "lesion-wise HD95 (mm)",
}
PATIENTS = {"dice": "all", "dice_manual": "manual masks"}


def audits_in(folder: Path) -> dict[int, dict[str, Any]]:
    """The audit of each fold."""
    return {fold_of(path): read_json(path) for path in sorted(folder.glob("audit_fold*.json"), key=fold_of)}


def load(results: Path) -> dict[str, Any]:
    """Load all data of the report.

    Raises:
        UserError: when there are no results.
    """
    found = finished(results)
    if not found:
        raise UserError(f"{results}: no results, collect them with: python -m bundle report --run OUTPUT")
    main = next(iter(found.values()))
    summary, report, run, maps = (read_json(main / f"{name}.json") for name in ("summary", "report", "run", "maps"))
    audits = audits_in(main)
    learned = learned_sources(list(audits.values()))
    split = list(read_json(main / "splits.json")["cases"].values())
    sources = report["classification"]
    rows = [{**row, "source": name} for name, found in sources.items() for row in found.get("cases", ())]
    summaries = {name: read_json(folder / "summary.json") for name, folder in found.items()}
    return {
        "results": results.name,
        "summary": summary,
        "report": report,
        "run": run,
        "runs": {name: read_json(folder / "run.json") for name, folder in found.items()},
        "recipe": recipe_of(summary),
        "volumes": {
            name: found
            for name, found in sources.items()
            if found["kind"] == "volume" and found.get("roc_auc") is not None
        },
        "images": {name: found for name, found in sources.items() if found["kind"] == "image"},
        "segmentation_names": SEGMENTATION,
        "costs": [cost for name, content in summaries.items() for cost in costs(name, content)],
        "comparisons": {name: summary for name, summary in summaries.items() if name != CROSS_VALIDATION},
        "audits": audits,
        "audit_parts": [name for name, part in next(iter(audits.values()), {}).items() if is_part(part)],
        "audited_volumes": read_json(main / "volumes.json"),
        "source_probes": {name: if_any(folder / "source_probes.json") for name, folder in found.items()},
        "other_audits": {name: audits_in(folder) for name, folder in found.items() if folder != main},
        "learned": learned,
        "split_folds": 1 + max(case["fold"] for case in split),
        "near_duplicates": near_duplicates(split, learned),
        "baselines": baselines(audits),
        "maps": maps,
        **{name: if_any(results / f"{name}.json") for name in OPTIONAL},
        "screened": screened(results / "screening.json"),
        "attempts": {path.parent.name: attempt(path) for path in sorted(results.glob("attempts/*/targets.json"))},
        "worst": most_wrong(rows)[:WORST],
        "all_show_a_tumor": all(volume["reference_ml"] > 0 for volume in report["segmentation"]["patients"]),
    }


def if_any(file: Path) -> Any:
    """The content of a JSON file that may be absent; None if it is."""
    return read_json(file) if file.is_file() else None


def near_duplicates(cases: Iterable[Mapping[str, Any]], learned: Sequence[str]) -> int:
    """Number of images of tested sources that are near-duplicates of images of training sources."""
    cases = [case for case in cases if "phash" in case]
    taught = {case["group"] for case in cases if case["source"] in learned}
    return sum(case["source"] not in learned and case["group"] in taught for case in cases)


def recipe_of(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Scores of the reference variant."""
    return summary["variants"][summary["reference"]]


def most_wrong(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The prediction with the largest error of each case, worst first; one slice per volume."""
    worst: dict[str, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -abs(row["probability"] - row["cls"])):
        worst.setdefault(row["case"], row)
    return list(worst.values())


def attempt(path: Path) -> dict[str, Any]:
    """Values of an earlier training by the target's name, and its run."""
    rows = {row["name"]: {"value": row["value"], "met": row["met"]} for row in read_json(path)}
    return {"targets": rows, "run": read_json(path.with_name("run.json"))}


def fold_of(path: Path) -> int:
    """Fold number at the end of a file's name, for sorting."""
    return int(path.stem.rpartition("fold")[2])


def screened(path: Path) -> list[str]:
    """Patients by whose scores the augmentation was chosen."""
    variants = read_json(path)["variants"].values() if path.is_file() else []
    return sorted({patient for variant in variants for patient in variant["left_out"]})


def finished(results: Path) -> dict[str, Path]:
    """Folders of the experiments by name; the report is about the first."""
    folders = {path.parent.name: path.parent for path in sorted(results.glob("*/report.json"))}
    return {name: folders[name] for name in sorted(folders, key=lambda name: name != CROSS_VALIDATION)}


def costs(experiment: str, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Gain of joint training over segmentation only, in one experiment."""
    found = []
    for name in ("stage_1", "longer_stage_1"):
        variant = summary["variants"].get(name)
        if variant is not None:
            against = variant["against_reference"]
            named = {"experiment": experiment, "description": variant["description"], "seeds": against["seeds"]}
            for patients in (patients for patients in PATIENTS if against.get(patients, {}).get("n")):
                found.append({**named, "patients": PATIENTS[patients], **reversed_gain(against[patients])})
    return found


def reversed_gain(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Gain of the reference over a variant, from the gain of the variant over the reference."""
    turned, margin = negated(difference["ci95"]), difference["margin"]
    return {
        "n": difference["n"],
        "mean_difference": -difference["mean_difference"],
        "ci95": turned,
        "better": difference["worse"],
        "non_inferior": bool(turned and turned[0] > -margin),
    }


def describe_run(output: Path, experiment: str, network: str, command: str) -> dict[str, Any]:
    """Time, machine and versions of a run of experiments, from the manifests of its steps."""
    steps = [
        entry
        for path in sorted([output / "manifest.json", *output.glob("runs/*/*.json"), *output.glob("inner/*/*.json")])
        for entry in read_json(path)["steps"].values()
        if "seconds" in entry
    ]
    names = [name for name in steps[-1]["versions"] if name != "platform"]
    store = read_json(output / "data" / "splits.json")
    cases = [read_json(output / "data" / "cases" / case / "case.json") for case in store["cases"]]
    slabs = [
        len(case["slices"])
        for case in cases
        if case["kind"] == "volume" and "tumor_pixels" in case and min(case["tumor_pixels"]) > 0
    ]
    named = [
        (option, sorted({case["source"] for case in cases if case["kind"] == kind and "volume" not in case}))
        for option, kind in (("volumes", "volume"), ("images", "image"))
    ]
    data = "".join(
        f" --{option} {'' if len(names) == 1 else f'{name}='}DIR" for option, names in named for name in names
    )
    return {
        "experiment": experiment,
        "network": network,
        "command": f"python -m bundle {command}{data} --output OUTPUT",
        "hours": sum(entry["seconds"] for entry in steps) / 3600,
        "steps": len(steps),
        "machine": _every(entry["machine"] for entry in steps if "machine" in entry) or machine(),
        "slab_slices": slabs,
        "versions": {name: _every(entry["versions"][name] for entry in steps) for name in names},
    }


def _every(values: Iterable[str]) -> str:
    """Distinct values in their order."""
    return " and ".join(dict.fromkeys(values))
