"""What is installed, which weights are used and how good they are; read from files, without torch."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import yaml
from packaging.requirements import Requirement

from .. import __version__
from ..core import file_types, files, messages, weights_report
from ..loading import BUNDLE_ROOT
from ..manifest import PACKAGES
from ..weights import OF_NETWORK, find_weights, trained_as

__all__ = ["as_text", "info"]

DISTRIBUTION = "brain-mri-tumor-segmentation-classification"
CALIBRATIONS = {"image": "image", "volume": "slice", "patient": "volume"}  # of a report's decision: what it is for
MEASURES = ("roc_auc", "sensitivity", "specificity")
OF_TYPES = {"macro_roc_auc": "macro ROC-AUC", "balanced_accuracy": "balanced accuracy"}


def info(model: str | Path | None = None) -> dict[str, Any]:
    """Describe this installation and its weights as JSON.

    Args:
        model: weights (default: the bundle's).

    Returns:
        "bundle" and "python" (versions), "platform"; "packages": name -> version, None if absent; "extras": name ->
        whether all its packages are installed; "reads": file types; "weights": file, hash, network, modalities, learned
        tasks and a message about their report; "thresholds" of images, slices of volumes and volumes, and "scores":
        empty without a report of these weights.

    Raises:
        UserError: when there are no such weights.
    """
    path = find_weights(model)
    report, code = weights_report.report_beside(path)
    inference = yaml.safe_load((BUNDLE_ROOT / "configs" / "inference.yaml").read_text())
    names = {name: inference[name] for name in ("network_name", *OF_NETWORK)} | trained_as(path)
    learned = list(weights_report.learned_by(path))
    weights = {"file": str(path), "sha256": files.sha256_of(path), **names, "learned": learned}
    return {
        "bundle": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "extras": _extras(),
        "reads": _file_types(),
        "weights": {**weights, "report": messages.report_note(code)},
        "thresholds": _thresholds(report, inference["decision"]["display_threshold"]) if report else {},
        "scores": _scores(report) if report and "segmentation" in report else {},
    }


def as_text(found: Mapping[str, Any]) -> str:
    """The description in lines, see `info`."""
    weights, scores = found["weights"], found["scores"]
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in found["packages"].items())
    extras = ", ".join(f"{name}{'' if there else ' (not installed)'}" for name, there in found["extras"].items())
    lines = [
        f"bundle      {found['bundle']}, Python {found['python']}, {found['platform']}",
        f"packages    {packages}",
        f"extras      {extras or 'unknown: the package is not installed'}",
        f"reads       {', '.join(found['reads'])}",
        f"weights     {weights['file']}",
        f"            sha256 {weights['sha256']}",
        f"            network {weights['network_name']}, reads {', '.join(weights['modalities'])}",
        *([f"            segments {', '.join(weights['regions'])}"] if len(weights["regions"]) > 1 else []),
        *([f"            tells {', '.join(weights['tumor_types'])} apart"] if weights["tumor_types"] else []),
        f"            learned {' and '.join(weights['learned'])}",
        f"            {weights['report']['text']}",
    ]
    for name, row in found["thresholds"].items():
        points = f"operating point {row['operating_point']:.3f}, display threshold {row['display_threshold']:.3f}"
        lines.append(f"thresholds  {name}: {points}; {_shares(row)}")
    if scores:
        lines += [f"scores      {scores['scored']}"]
        lines += [f"            Dice {_dice(scores['dice'])}"] if scores["dice"] else []
    for name, row in scores.get("sources", {}).items():
        of = "ROC-AUC" if row["patients"] is None else f"ROC-AUC of slices, mean of {row['patients']} patients,"
        ranked = "" if row["roc_auc"] is None else f"{of} {_number(row['roc_auc'])}; "
        lines.append(f"            {name} ({row['kind']}): {ranked}{_shares(row)}")
    for name, row in scores.get("tumor_types", {}).items():
        means = ", ".join(f"{text} {_with_interval(row, key)}" for key, text in OF_TYPES.items())
        lines.append(f"            types of tumors in {name}: {means} (n = {row['n']})")
    return "\n".join(lines)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _extras() -> dict[str, bool]:
    """Whether each extra's packages are installed in the wanted versions; empty in a bare folder of the bundle."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}

    def complete(extra: str) -> bool:
        mine = [need for need in wanted if need.marker and need.marker.evaluate({"extra": extra})]
        return all(_installed(need) if need.name != DISTRIBUTION else all(map(complete, need.extras)) for need in mine)

    return {name: complete(name) for name in sorted(names)}


def _installed(need: Requirement) -> bool:
    version = _version(need.name)
    return version is not None and need.specifier.contains(version, prereleases=True)


def _file_types() -> list[str]:
    """Types of files that can be read with what is installed; gzip is NIfTI's and NRRD's packing."""
    without = {"gzip"} if _version("pydicom") else {"gzip", "dicom"}
    return sorted({*get_args(file_types.FileType)} - without)


def _thresholds(report: Mapping[str, Any], display: float) -> dict[str, Any]:
    """By what they are for: thresholds, temperature, and sensitivity and specificity at the operating point."""
    fitted = {name: report["decision"].get(kind) for kind, name in CALIBRATIONS.items()}
    return {
        name: {
            "display_threshold": display,
            **{field: one[field] for field in ("operating_point", "temperature", "fitted_on")},
            **{field: one["evidence"].get(field) for field in ("n", "positives", "sensitivity", "specificity")},
        }
        for name, one in fitted.items()
        if one
    }


def _scores(report: Mapping[str, Any]) -> dict[str, Any]:
    """Dice over patients, None where no mask was scored; and scores of each source, with intervals and n.

    The ROC-AUC is that of `auc_of`, as in the README; "patients" is the number that it is a mean of, None of images.
    """
    segmentation = report["segmentation"]
    mean, patients = segmentation["mean"], segmentation["patients_n"]
    dice = {"value": mean.get("dice"), "ci95": mean["ci95"].get("dice"), "patients": patients} if patients else None
    aucs = {name: weights_report.auc_of(row) for name, row in report["classification"].items()}
    sources = {
        name: {
            **{field: row.get(field) for field in ("kind", "n", "positives", *MEASURES)},
            **{"roc_auc": aucs[name]["value"], "patients": aucs[name]["patients"]},
            "ci95": {measure: (row.get("ci95") or {}).get(measure) for measure in MEASURES}
            | {"roc_auc": aucs[name]["ci95"]},
        }
        for name, row in report["classification"].items()
    }
    types = {
        name: {field: row[field] for field in ("n", *OF_TYPES, "ci95")}
        for name, row in report.get("tumor_types", {}).items()
    }
    told = {"tumor_types": types} if types else {}
    return {"scored": report.get("scored", "not said how"), "dice": dice, "sources": sources, **told}


def _with_interval(row: Mapping[str, Any], key: str) -> str:
    interval = row["ci95"][key]
    return _number(row[key]) + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _shares(row: Mapping[str, Any]) -> str:
    counts = f"n = {row['n']}, {row['positives']} with tumor"
    known = {name: row[name] for name in ("sensitivity", "specificity") if row[name] is not None}
    shares = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
    return f"{shares or 'not scored'} ({counts})"


def _dice(row: Mapping[str, Any]) -> str:
    interval = f" ({row['ci95'][0]:.3f} to {row['ci95'][1]:.3f})" if row["ci95"] else ""
    return f"{_number(row['value'])}{interval}, {row['patients']} patients"
