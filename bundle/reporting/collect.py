"""Collect the JSON of a finished run of experiments, and figures of a demo; none of them contains a scan."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import files, statistics
from ..errors import UserError
from ..manifest import read_json
from .audit_summary import source_probes, volumes_by_fold
from .estimates import mean
from .results import audits_in, fold_of, recipe_of

__all__ = ["GALLERY", "collect", "collect_gallery", "collect_scores", "write_fold_summaries"]

GALLERY = ("overlays_brats", "overlays_kaggle", "cam_brats", "cam_kaggle")
MEANS = ("pointing", "outside_brain", "energy_inside", "chance", "center_energy")


def collect(run: Path, results: Path) -> None:
    """Copy the JSON files of a finished run of experiments; they contain no scans.

    Args:
        run: output of `ablate` or `crossvalidate`.
        results: folder of the JSON files; gets a folder with the experiment's name.

    Raises:
        UserError: when the run is not finished.
    """
    found = {name: run / f"{name}.json" for name in ("summary", "report", "run")}
    found["splits"] = run / "data" / "splits.json"
    require([*found.values(), run / "variants.json"])
    summary, audited = read_json(found["summary"]), audited_folders(run)
    repetitions = range(1, len(recipe_of(summary)["seeds"]))
    found |= {f"report_seed{number}": run / f"report_seed{number}.json" for number in repetitions}
    for fold, evaluation in audited.get(summary["reference"], {}).items():
        found |= {f"{name}_{fold}": evaluation / f"{name}.json" for name in ("audit", "explanation")}
    require(found.values())
    folder = results / read_json(run / "run.json")["experiment"]
    shutil.rmtree(folder, ignore_errors=True)
    for name, path in found.items():
        files.write_json(folder / f"{name}.json", read_json(path))
    if len(audited) > 1:
        audits = {name: {fold: read_json(f / "audit.json") for fold, f in by.items()} for name, by in audited.items()}
        files.write_json(folder / "source_probes.json", source_probes(audits))
    write_fold_summaries(folder)


def require(paths: Iterable[Path]) -> None:
    """Refuse a run that lacks one of these files."""
    for path in (path for path in paths if not path.is_file()):
        raise UserError(f"{path}: missing, finish the run first")


def audited_folders(run: Path) -> dict[str, dict[str, Path]]:
    """Evaluations of a run with an audit: by variant and fold ("fold0"), of the first seed."""
    found: dict[str, dict[str, Path]] = {}
    for name, variant in read_json(run / "variants.json").items():
        for path in variant["seeds"][0]:
            folder = run / Path(*Path(path).parts[-5:-1])  # runs/fold0_seed0/CHAIN/evaluation, wherever the run is now
            if (folder / "audit.json").is_file():
                found.setdefault(name, {})[folder.parent.parent.name.removesuffix("_seed0")] = folder
    return found


def write_fold_summaries(folder: Path) -> None:
    """Write `maps.json` and `volumes.json`, summaries over folds, of an experiment's collected results."""
    explanations = [read_json(path) for path in sorted(folder.glob("explanation_fold*.json"), key=fold_of)]
    files.write_json(folder / "maps.json", pooled_maps(explanations))
    classified = read_json(folder / "report.json")["classification"]
    volumes = [name for name, found in classified.items() if found["kind"] == "volume" and found["n"]]
    files.write_json(folder / "volumes.json", volumes_by_fold(audits_in(folder), volumes))


def collect_scores(run: Path, results: Path, name: str) -> None:
    """Copy the scores of a finished run of `robustness` or `subsets`.

    Args:
        run: output of the command.
        results: folder of the JSON files.
        name: of the command.

    Raises:
        UserError: when the run is not finished.
    """
    require([run / f"{name}.json"])
    files.write_json(results / f"{name}.json", read_json(run / f"{name}.json"))


def collect_gallery(demo: Path, images: Path) -> None:
    """Copy the figures of a demo's evaluation, which show phantoms.

    Args:
        demo: output of `demo`.
        images: folder for the figures.

    Raises:
        UserError: when the demo is not finished.
    """
    from PIL import Image

    for name in GALLERY:
        path = demo / "evaluation" / f"{name}.png"
        if not path.is_file():
            raise UserError(f"{path}: missing, finish the demo first")
        images.mkdir(parents=True, exist_ok=True)
        small = Image.open(path).convert("RGB").quantize(256)  # a third of the size, without visible difference
        small.save(images / f"phantoms_{name}.png", optimize=True)


def pooled_maps(explanations: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Scores of the CAMs over all folds: means over CAMs; those of random weights are means over folds."""
    pooled = {}
    for source in sorted({name for explanation in explanations for name in explanation["sources"]}):
        parts = [explanation["sources"][source] for explanation in explanations if source in explanation["sources"]]
        rows = [row for part in parts for row in part["cases"] if row["outside_brain"] is not None]  # those with a map
        means = {name: mean(row.get(name) for row in rows) for name in MEANS}
        center, chance = means["center_energy"], means["chance"]
        pooled[source] = {
            "n": sum(part["n"] - part["without_map"] for part in parts),
            **energy_ratio(parts),
            "center_energy_ratio": center / chance if center is not None and chance else None,
            "randomized_energy_ratio": mean(part.get("randomized_energy_ratio") for part in parts),
            "pointing": means["pointing"],
            "outside_brain": means["outside_brain"],
            "sanity": mean(part.get("sanity") for part in parts),
        }
    return pooled


def energy_ratio(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Energy of all CAMs of a source in the lesions over that by chance, with its interval over the folds."""
    maps = [[row for row in fold["cases"] if row.get("energy_inside") is not None] for fold in folds]
    sums = [[sum(row[name] for row in rows) for rows in maps if rows] for name in ("energy_inside", "chance")]
    return dict(zip(("energy_ratio", "ci95"), statistics.ratio_of_folds(*sums), strict=True))
