"""Lists of the cases behind weights, with hashes, clusters and folds, described as Croissant with RAI.

From them anybody rebuilds clusters and folds from an own copy of the open data.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as resources
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from ..core import files
from ..manifest import read_json

__all__ = ["data_of", "describe_data"]

SPLITS = Path("docs") / "results" / "crossvalidation" / "splits.json"
FOLDER, DESCRIPTION = "docs", "croissant.json"
NAMES = {"cases": "every case", "duplicates": "cases of clusters and patients with several"}
COLUMNS = {
    "case": "source and name of the file",
    "source": "data set",
    "cluster": "patient of a volume and its slices, or near-duplicate cluster of an image",
    "fold": "fold of the cross-validation; empty where none is known",
    "subset": "train: these weights were trained on the case",
    "sha256": "of the file's content; of a .gz file of what it holds; of a slice of the file that preprocessing wrote",
    "phash": "64-bit perceptual hash of the preprocessed image, empty for volumes and their slices",
}
OF_DUPLICATES = ("cluster", "case", "source")
Row = dict[str, Any]


def describe_data(root: Path, report: Mapping[str, Any], target: Path) -> None:
    """Write cases.csv, duplicates.csv and croissant.json into the docs of a packed bundle.

    Args:
        root: the bundle's folder; its cross-validation's split is used where it has every training case of the weights.
        report: of the weights.
        target: folder of the pack.
    """
    rows = cases_of(report.get("model", {}).get("trained_on", {}), root / SPLITS)
    several: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        several[row["cluster"]].append(row)
    shared = [row for cluster in sorted(several) if len(several[cluster]) > 1 for row in several[cluster]]
    tables = {"cases": (rows, tuple(COLUMNS)), "duplicates": (shared, OF_DUPLICATES)}
    place = target / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    for name, (content, columns) in tables.items():
        (place / f"{name}.csv").write_text(_as_csv(content, columns))
    described = yaml.safe_load((resources(__package__) / "croissant.yaml").read_text())
    described["version"] = str(report.get("model", {}).get("version", "0.0.0"))
    described["distribution"] = [_file(place / f"{name}.csv", words) for name, words in NAMES.items()]
    described["recordSet"] = [_records(name, NAMES[name], columns, "case") for name, (_, columns) in tables.items()]
    (place / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n")


def cases_of(trained: Mapping[str, Mapping[str, Any]], splits: Path) -> list[Row]:
    """A row for each case, in the order of their names.

    Args:
        trained: case -> sha256, phash, group, of the weights' report.
        splits: a split file, which may be of other data or absent.
    """
    split = read_json(splits)["cases"] if splits.is_file() else {}
    if any(split.get(case, {}).get("sha256") != found.get("sha256") for case, found in trained.items()):
        split = {}
    return [
        {
            "case": case,
            "source": found.get("source", case.partition("/")[0]),
            "cluster": found.get("group") or case,
            "fold": found.get("fold", ""),
            "subset": trained.get(case, {}).get("subset", "train" if case in trained else ""),
            "sha256": found["sha256"],
            "phash": found.get("phash") or "",
        }
        for case, found in sorted({**trained, **split}.items())
    ]


def data_of(folder: Path) -> list[dict[str, Any]]:
    """The lists of a packed bundle as a component of its bill of materials."""
    description = folder / FOLDER / DESCRIPTION
    described = read_json(description)
    return [
        {
            "type": "data",
            "bom-ref": f"{FOLDER}/{DESCRIPTION}",
            "name": described["name"],
            "version": described["version"],
            "hashes": [{"alg": "SHA-256", "content": files.sha256_of(description)}],
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "data": [
                {
                    "type": "dataset",
                    "name": f"{FOLDER}/{entry['contentUrl']}",
                    "description": entry["description"],
                    "contents": {"url": f"{FOLDER}/{entry['contentUrl']}"},
                    "sensitiveData": described["rai:personalSensitiveInformation"],
                }
                for entry in described["distribution"]
            ],
        }
    ]


def _as_csv(rows: Iterable[Row], columns: Sequence[str]) -> str:
    buffer = StringIO()
    table = csv.DictWriter(buffer, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return buffer.getvalue()


def _file(path: Path, words: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": words,
        "contentUrl": path.name,
        "encodingFormat": "text/csv",
        "sha256": files.sha256_of(path),
    }


def _records(name: str, words: str, columns: Iterable[str], key: str) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": COLUMNS[column],
            "dataType": "sc:Text",
            "source": {"fileObject": {"@id": f"{name}.csv"}, "extract": {"column": column}},
        }
        for column in columns
    ]
    records = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": words}
    return {**records, "key": {"@id": f"{name}/{key}"}, "field": fields}
