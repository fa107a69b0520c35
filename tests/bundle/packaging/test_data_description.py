"""From the lists beside the weights anybody rebuilds clusters and folds; mlcroissant accepts their description."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bundle.packaging.data_description import SPLITS, cases_of, data_of, describe_data
from bundle.packaging.materials import bill_of_materials
from scripts.core.files import sha256_of

ROOT = Path(__file__).resolve().parents[3]
SPLIT = json.loads((ROOT / SPLITS).read_text())["cases"]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "models" / "report.json").read_text())
    return content


@pytest.fixture(scope="module")
def pack(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pack")
    describe_data(ROOT, report, target)
    return target


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_clusters_and_folds_are_rebuilt_from_hashes_alone(pack: Path) -> None:
    by_hash = {row["sha256"]: row for row in rows(pack / "docs" / "cases.csv")}
    for entry in SPLIT.values():
        row = by_hash[entry["sha256"]]
        assert (row["cluster"], int(row["fold"]), row["phash"]) == (
            entry["group"],
            entry["fold"],
            entry.get("phash", ""),
        )


def test_the_list_of_duplicates_has_all_cases_of_clusters_with_several(pack: Path) -> None:
    counts = Counter(entry["group"] for entry in SPLIT.values())
    expected = sorted(case for case, entry in SPLIT.items() if counts[entry["group"]] > 1)
    assert sorted(row["case"] for row in rows(pack / "docs" / "duplicates.csv")) == expected


def test_training_cases_are_named(pack: Path, report: dict[str, Any]) -> None:
    trained = {row["case"] for row in rows(pack / "docs" / "cases.csv") if row["subset"] == "train"}
    assert trained == report["model"]["trained_on"].keys()


def test_a_split_of_other_data_is_not_used(tmp_path: Path) -> None:
    trained = {"a/x": {"sha256": "1", "phash": None, "group": "a/p", "subset": "train"}, "b/y": {"sha256": "2"}}
    expected = [
        {"case": "a/x", "source": "a", "cluster": "a/p", "fold": "", "subset": "train", "sha256": "1", "phash": ""},
        {"case": "b/y", "source": "b", "cluster": "b/y", "fold": "", "subset": "train", "sha256": "2", "phash": ""},
    ]
    assert cases_of(trained, ROOT / SPLITS) == expected
    describe_data(tmp_path, {}, tmp_path / "pack")  # without a report and a split
    assert rows(tmp_path / "pack" / "docs" / "cases.csv") == []


def test_the_description_is_of_these_files(pack: Path) -> None:
    described = json.loads((pack / "docs" / "croissant.json").read_text())
    for entry in described["distribution"]:
        assert sha256_of(pack / "docs" / entry["contentUrl"]) == entry["sha256"]
    assert "http://mlcommons.org/croissant/1.1" in described["conformsTo"]
    assert {"rai:dataBiases", "rai:dataLimitations", "rai:dataUseCases", "rai:dataCollection"} <= described.keys()


def test_mlcroissant_accepts_the_description_and_reads_the_records(pack: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="pip install mlcroissant")
    dataset = mlcroissant.Dataset(pack / "docs" / "croissant.json")
    context = dataset.metadata.ctx
    assert context.is_v1_1() and not context.issues.errors
    assert [warning for warning in context.issues.warnings if "datePublished" not in warning] == []
    found = {row["cases/case"].decode(): row for row in dataset.records("cases")}
    assert found.keys() == SPLIT.keys()
    assert all(int(found[case]["cases/fold"]) == entry["fold"] for case, entry in SPLIT.items())
    assert dataset.metadata.data_biases and dataset.metadata.data_limitations


def test_the_bill_has_the_weights_with_hash_data_scores_and_limits(pack: Path, report: dict[str, Any]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text())
    text = bill_of_materials("name", metadata, report, data_of(pack))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert text == bill_of_materials("name", metadata, report, data_of(pack))
    bill = json.loads(text)
    (model,) = [part for part in bill["components"] if part["type"] == "machine-learning-model"]
    assert model["hashes"] == [{"alg": "SHA-256", "content": sha256_of(ROOT / "models" / "model.pt")}]
    card = model["modelCard"]
    counts = Counter(case.partition("/")[0] for case in report["model"]["trained_on"])
    named = {entry["name"]: entry["description"] for entry in card["modelParameters"]["datasets"]}
    assert named == {source: f"{count} training cases" for source, count in counts.items()}
    scores = card["quantitativeAnalysis"]["performanceMetrics"]
    assert scores[0]["value"] == f"{report['segmentation']['mean']['dice']:.3f}" and len(scores) > 10
    assert all("slice" in score for score in scores)  # what it is of, and n
    assert len(card["considerations"]["technicalLimitations"]) >= 3
    needs = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    assert "models/model.pt" in needs["name"] and needs["models/model.pt"] == ["docs/croissant.json"]


def test_the_bill_of_weights_without_a_report_says_so(pack: Path) -> None:
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text())
    bill = json.loads(bill_of_materials("name", metadata, {}))
    (model,) = [part for part in bill["components"] if part["type"] == "machine-learning-model"]
    assert "no report: its scores are unknown" in model["modelCard"]["considerations"]["technicalLimitations"]
