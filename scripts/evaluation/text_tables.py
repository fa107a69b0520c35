"""A report as text tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["as_text", "table"]

SEGMENTATION = ("dice", "iou", "hd95_mm", "surface_dice_2mm", "boundary_f_1mm", "boundary_f_2mm", "lesion_dice")


def as_text(report: Mapping[str, Any]) -> str:
    """The main scores of a report."""
    segmentation, classification = report["segmentation"], report["classification"]
    names = [name for name in SEGMENTATION if name in segmentation["mean"]]
    patients = [[p["id"], *(p[name] for name in names), p["reference_ml"]] for p in segmentation["patients"]]
    means = [segmentation["mean"][name] for name in names]
    patients.append([f"mean of {segmentation['patients_n']} patients", *means, None])
    columns = ["n", "positives", "roc_auc", "pr_auc", "prevalence", "threshold", "sensitivity", "specificity"]
    sources = [[source, *(scores.get(c) for c in columns)] for source, scores in classification.items()]
    empty, missing = segmentation["empty_slices"], report.get("without_reference", 0)
    volumes = [
        "",
        f"Segmentation: {report['rules']['region']}; volumetric, per case",
        table(["case", *names, "reference (ml)"], patients),
        *_regions(segmentation.get("regions")),
        *_lesions(segmentation.get("lesions")),
        f"Slices without tumor: {empty['n']}, share with a predicted mask {_cell(empty['false_positive_rate'])}, "
        f"{_cell(empty['mean_false_positive_mm2'])} mm2 on average",
    ]
    lines = [
        *(volumes if segmentation["patients_n"] else []),
        "",
        f"Classification, within each source; tumor slice of a volume: {report['rules']['tumor_slice']}",
        table(["source", *columns], sources),
        *_types(report.get("tumor_types", {})),
        *_patients(report.get("patients")),
        *([f"Training cases of these weights: {report['provenance']}"] if "provenance" in report else []),
        *([f"{missing} of the cases have neither a mask nor a class and are not scored"] if missing else []),
        "",
        report["notice"],
    ]
    return "\n".join(lines)


def _regions(found: Mapping[str, Any] | None) -> list[str]:
    """Dice of each region, one row per region."""
    if not found:
        return []
    rows = [[row["title"], row["n"], row["dice"], _interval(row["ci95"])] for row in found.values()]
    return ["", "Regions, of patients that have them", table(["region", "patients", "dice", "95 %"], rows), ""]


def _lesions(found: Mapping[str, Any] | None) -> list[str]:
    """Recall of lesions by size, one row per size."""
    if not found or not found["n"]:
        return []
    rows = [
        [
            f"{row['low_ml']:g} and more" if row["high_ml"] is None else f"{row['low_ml']:g}-{row['high_ml']:g}",
            *(row[key] for key in ("n", "touched", "matched")),
            *(_interval(row["ci95"].get(key)) for key in ("touched", "matched")),
        ]
        for row in found["by_size"]
    ]
    header = ["lesion (ml)", "n", "touched", "matched", "95 % of touched", "95 % of matched"]
    return [
        "",
        "Lesions: share of which any voxel is predicted, and share with an IoU above 0.5 with one predicted lesion",
        table(header, rows),
        "",
    ]


def _types(sources: Mapping[str, Any]) -> list[str]:
    """Scores of the types of tumors in each source, and the confusion of its types."""
    lines: list[str] = []
    for source, found in sources.items():
        rows = [["macro ROC-AUC, balanced accuracy", found["n"], found["macro_roc_auc"], found["balanced_accuracy"]]]
        rows[0] += [_interval(found["ci95"][name]) for name in ("macro_roc_auc", "balanced_accuracy")]
        rows[0] += [None] * len(found["types"])
        for name, one in found["by_type"].items():
            intervals = [_interval(one["ci95"][score]) for score in ("roc_auc", "sensitivity")]
            called = [found["confusion"][name][other] for other in found["types"]]
            rows.append([name, one["n"], one["roc_auc"], one["sensitivity"], *intervals, *called])
        header = ["type", "n", "roc_auc", "sensitivity", "95 % of roc_auc", "95 % of sensitivity"]
        text = f"Types of tumors in {source}, of images whose type is known, whether or not a tumor was detected"
        lines += ["", text, table([*header, *(f"called {name}" for name in found["types"])], rows)]
    return lines


def _patients(calls: Mapping[str, Any] | None) -> list[str]:
    """Scores of whole volumes, one row per source."""
    if not calls:
        return []
    rows = [
        [
            name,
            *(found[key] for key in ("n", "tumors", "sensitivity", "specificity", "roc_auc")),
            (found["dice"] or {}).get("mean"),
            (found["dice"] or {}).get("median"),
            found["low_dice"],
            (found["false_ml"] or {}).get("median"),
        ]
        for name, found in {**calls["sources"], "all": calls["all"]}.items()
    ]
    header = [
        "source",
        "n",
        "tumors",
        "sensitivity",
        "specificity",
        "roc_auc",
        "dice",
        "median",
        "below 0.1",
        "false ml",
    ]
    return [
        "",
        "Volumes as a whole, called where their state is tumor; false ml: mask where there is no tumor",
        table(header, rows),
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header, columns aligned.

    >>> print(table(["case", "dice"], [["a", 0.5], ["long", None]]))
    case   dice
    a     0.500
    long      -
    """
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.3f}-{bounds[1]:.3f}"
