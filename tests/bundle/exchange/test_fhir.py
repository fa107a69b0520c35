"""A prediction as FHIR R5: every value is in it, by whom it was made, and nothing that is unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fhir.resources", reason="pip install -e '.[exchange]'")

from fhir.resources.bundle import Bundle

from bundle.command_line.cli import main
from bundle.core import messages
from bundle.datasets.phantoms import write_volumes
from bundle.exchange.fhir import diagnostic_report

MADE = datetime(2026, 3, 1, 12, tzinfo=UTC)
RESULT: dict[str, Any] = {
    **{"input": "scan.nii.gz", "input_sha256": "a" * 64, "state": "tumor", "tumor_probability": 0.91, "threshold": 0.4},
    **{"volume_ml": 12.5, "lesions": [{}, {}], "flags": [messages.flag("series_chosen")]},
    "model": {"version": "1.2.3", "sha256": "b" * 64},
}
SERIES = {"study": "1.2.3.4", "patient": "P7", "seg": "1.2.3.4.5", "sr": "1.2.3.4.6"}


def resources(text: str) -> dict[str, list[dict[str, Any]]]:
    """Resources by type; every reference within the bundle leads to one of them."""
    Bundle.model_validate_json(text)
    entries = json.loads(text)["entry"]
    addresses = {entry["fullUrl"] for entry in entries}
    assert set(references(entries)) <= addresses and len(addresses) == len(entries)
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    return found


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["reference"]] if "reference" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_value_is_in_the_report_with_unit_and_algorithm() -> None:
    found = resources(diagnostic_report(RESULT, SERIES, MADE))
    values = [one["valueQuantity"] for one in found["Observation"] if "valueQuantity" in one]
    assert [(value["value"], value["code"]) for value in values] == [(0.91, "1"), (12.5, "mL")]
    assert [one["valueInteger"] for one in found["Observation"] if "valueInteger" in one] == [2]
    (report,), (device,), (provenance,) = found["DiagnosticReport"], found["Device"], found["Provenance"]
    assert report["status"] == "preliminary" and len(report["result"]) == len(found["Observation"]) == 4
    assert messages.NOTICE in report["conclusion"] and messages.FLAGS["series_chosen"] in report["conclusion"]
    assert report["subject"]["identifier"]["value"] == "P7" and "1.2.3.4" in json.dumps(report["identifier"])
    assert device["identifier"][0]["value"] == "b" * 64 and device["version"][0]["value"] == "1.2.3"
    assert len(provenance["target"]) == 5 and {"1.2.3.4.5", "a" * 64} <= {
        entity["what"]["identifier"]["value"].removeprefix("urn:oid:") for entity in provenance["entity"]
    }


def test_what_is_unknown_is_left_out() -> None:
    result = {**RESULT, "state": "no_prediction", "tumor_probability": None, "flags": []}
    found = resources(
        diagnostic_report({k: v for k, v in result.items() if k not in ("volume_ml", "lesions")}, {}, MADE)
    )
    assert len(found["Observation"]) == 1 and "subject" not in found["DiagnosticReport"][0]


def test_the_same_prediction_gives_the_same_report() -> None:
    assert diagnostic_report(RESULT, SERIES, MADE) == diagnostic_report(RESULT, SERIES, MADE)
    other = {**RESULT, "input_sha256": "c" * 64}
    assert diagnostic_report(other, SERIES, MADE) != diagnostic_report(RESULT, SERIES, MADE)


def test_the_command_writes_a_report_for_every_prediction(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volumes(tmp_path / "a", 1, slices=8, side=96)
    assert main(["predict", str(tmp_path / "a"), "--output", str(tmp_path / "out")]) == 0
    assert main(["fhir", str(tmp_path / "out")]) == 0
    (written,) = (tmp_path / "out").rglob("*_fhir.json")
    assert len(resources(written.read_text())["DiagnosticReport"]) == 1
    assert main(["fhir", str(tmp_path)]) == 2
    assert "no predictions here (index.json); python -m bundle predict" in capsys.readouterr().err
