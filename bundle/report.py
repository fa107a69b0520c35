"""The evaluation report: a page and its HTML twin, made of committed JSON and of nothing else."""

from __future__ import annotations

import base64
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .manifest import read_json, write_json

__all__ = ["collect", "describe_run", "write_report"]

PAGE = "MULTITASK_EVALUATION_REPORT"
WORST = 12
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
MEANS = ("pointing", "outside_brain", "energy_inside", "chance", "centre_energy")


def collect(run: Path, results: Path) -> None:
    """Copy what a report is made of from a finished run of experiments; nothing of the data is in it.

    Args:
        run: output of `ablate` or `crossvalidate`.
        results: folder of the JSON files to commit.

    Raises:
        UserError: when the run is not finished.
    """
    names = ["summary.json", "report.json", "run.json"]
    folders = sorted(run.glob("runs/fold*_seed0/*/evaluation"))
    found = {name: run / name for name in names}
    for folder in (folder for folder in folders if (folder / "audit.json").is_file()):
        fold = folder.parent.parent.name.removesuffix("_seed0")
        found |= {f"{name}_{fold}.json": folder / f"{name}.json" for name in ("audit", "explanation")}
    for path in found.values():
        if not path.is_file():
            raise UserError(f"{path}: missing, finish the run first")
    shutil.rmtree(results, ignore_errors=True)
    for name, path in found.items():
        write_json(results / name, read_json(path))
    explanations = [read_json(path) for path in sorted(results.glob("explanation_fold*.json"))]
    write_json(results / "maps.json", pooled_maps(explanations))


def write_report(results: Path, docs: Path, pictures: Mapping[str, Path] | None = None) -> Path:
    """Write the page, its HTML twin and its charts.

    Args:
        results: folder of JSON files, see `collect`.
        docs: gets MULTITASK_EVALUATION_REPORT.md and .html, and images/.
        pictures: further ones, by caption, for the HTML twin alone: what shows scans does not belong into a repository.

    Returns:
        The page.

    Raises:
        UserError: when there are no results.
    """
    import jinja2

    from .report_charts import draw_charts

    facts = load(results)
    charts = draw_charts(facts, docs / "images")

    def picture(name: str, caption: str) -> str:
        return f"![{caption}](images/{charts[name].name})" if name in charts else ""

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the page is Markdown, and every value is our own number or name
    )
    environment.filters |= {"number": number, "interval": interval, "mean": mean}
    page = environment.get_template("report.md.j2").render(**facts, picture=picture, local_pictures={})
    docs.mkdir(parents=True, exist_ok=True)
    (docs / f"{PAGE}.md").write_text(page)
    (docs / f"{PAGE}.html").write_text(as_html(page, docs, pictures or {}))
    return docs / f"{PAGE}.md"


def load(results: Path) -> dict[str, Any]:
    """Everything that the page speaks of."""
    if not (results / "report.json").is_file():
        raise UserError(f"{results}: no results here, collect them with: python -m bundle report --run OUTPUT")
    summary, report, run, maps = (read_json(results / f"{name}.json") for name in ("summary", "report", "run", "maps"))
    audits = [read_json(path) for path in sorted(results.glob("audit_fold*.json"))]
    sources = report["classification"]
    rows = [{**row, "source": name} for name, found in sources.items() for row in found.get("cases", ())]
    kinds = {name: "mean_patient_roc_auc" in found for name, found in sources.items()}
    differences = {name: v["against_reference"]["dice"] for name, v in summary["variants"].items()}
    gains = {name: reversed_gain(found) for name, found in differences.items() if found["n"]}
    return {
        "results": results.name,
        "summary": summary,
        "report": report,
        "run": run,
        "recipe": summary["variants"][summary["reference"]],
        "brats": next((sources[name] for name, volumes in kinds.items() if volumes), {}),
        "images": {name: sources[name] for name, volumes in kinds.items() if not volumes},
        "segmentation_names": SEGMENTATION,
        "gains": gains,
        "against_stage1": summary["variants"].get("stage_1", {}).get("against_reference", {"seeds": 0}),
        "audits": audits,
        "audit_parts": [name for name, part in (audits[0] if audits else {}).items() if is_part(part)],
        "baselines": baselines(audits),
        "maps": maps,
        "worst": sorted(rows, key=lambda row: -abs(row["probability"] - row["cls"]))[:WORST],
    }


def is_part(content: Any) -> bool:
    """Whether an entry of an audit is one of its parts."""
    return isinstance(content, dict) and "verdict" in content


def reversed_gain(difference: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe gains over a variant, from what the variant gains over the recipe."""
    bounds, margin = difference["ci95"], difference["margin"]
    turned = [-bounds[1], -bounds[0]] if bounds else None
    return {
        "n": difference["n"],
        "mean_difference": -difference["mean_difference"],
        "ci95": turned,
        "better": difference["worse"],
        "non_inferior": bool(turned and turned[0] > -margin),
    }


def baselines(audits: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What metadata and grey levels tell, source by source, beside the network."""
    rows = []
    for fold, audit in enumerate(audits):
        for source, found in audit["metadata"]["values"]["sources"].items():
            if "metadata" in found:
                aucs = {name: found[name]["value"] for name in ("metadata", "histogram", "model", "margin")}
                rows.append({"fold": fold, "source": source, **aucs})
    return rows


def pooled_maps(explanations: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Scores of the maps over all folds: means over maps; what was asked of random weights, mean over folds."""
    pooled = {}
    for source in sorted({name for explanation in explanations for name in explanation["sources"]}):
        parts = [explanation["sources"][source] for explanation in explanations if source in explanation["sources"]]
        rows = [row for part in parts for row in part["cases"] if row["outside_brain"] is not None]  # those with a map
        means = {name: mean(row.get(name) for row in rows) for name in MEANS}
        inside, centre, chance = (means[name] for name in ("energy_inside", "centre_energy", "chance"))
        pooled[source] = {
            "n": sum(part["n"] - part["without_map"] for part in parts),
            "energy_ratio": inside / chance if inside is not None and chance else None,
            "centre_energy_ratio": centre / chance if centre is not None and chance else None,
            "randomised_energy_ratio": mean(part.get("randomised_energy_ratio") for part in parts),
            "pointing": means["pointing"],
            "outside_brain": means["outside_brain"],
            "sanity": mean(part.get("sanity") for part in parts),
        }
    return pooled


def number(value: float | int | None) -> str:
    """A number as the page shows it: three digits after the point, a dash where there is none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else digits(value)


def digits(value: float) -> str:
    """Three digits after the point, and no minus before a zero."""
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(bounds: Sequence[float] | None) -> str:
    """An interval as the page shows it."""
    return "(no interval)" if not bounds else f"({digits(bounds[0])} to {digits(bounds[1])})"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def as_html(page: str, docs: Path, pictures: Mapping[str, Path]) -> str:
    """The page as one HTML file that holds its pictures."""
    import markdown

    for caption, path in pictures.items():
        page += f"\n\n## {caption}\n\n![{caption}]({path.resolve()})\n"
    body = markdown.markdown(page, extensions=["tables", "fenced_code"])
    for source in {part.split('"')[0] for part in body.split('src="')[1:]}:
        data = base64.b64encode((docs / source).read_bytes()).decode()
        body = body.replace(f'src="{source}"', f'src="data:image/png;base64,{data}"')
    style = (Path(__file__).parent / "report.css").read_text()
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Evaluation</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{style}</style></head>\n<body>{body}</body></html>\n'


def describe_run(output: Path, network: str, command: str) -> dict[str, Any]:
    """How long a run of experiments took, on what, with which versions; from the manifests of its trainings."""
    steps = [
        entry
        for path in sorted([output / "manifest.json", *output.glob("runs/*/*.json")])
        for entry in json.loads(path.read_text())["steps"].values()
        if "seconds" in entry
    ]
    versions = dict(steps[-1]["versions"])
    del versions["platform"]
    store = json.loads((output / "data" / "splits.json").read_text())
    slabs = []
    for case in store["cases"]:
        meta = json.loads((output / "data" / "cases" / case / "case.json").read_text())
        if "tumor_pixels" in meta and min(meta["tumor_pixels"]) > 0:
            slabs.append(len(meta["slices"]))
    return {
        "network": network,
        "command": f"python -m bundle {command} --brats DIR --kaggle DIR --output OUTPUT",
        "hours": sum(entry["seconds"] for entry in steps) / 3600,
        "trainings": len(steps),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "slab_slices": slabs,
        "versions": versions,
    }
