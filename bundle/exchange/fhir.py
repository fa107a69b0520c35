"""A prediction as FHIR R5: a diagnostic report with its values, the device that made it, and its provenance.

The report is preliminary: no person has read it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import NOTICE
from ..core import files, messages
from ..errors import UserError
from ..manifest import read_json
from .answers import DICOM_FILES, predictions_in

__all__ = ["diagnostic_report", "write_reports"]

LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
OWN = "urn:bundle:brain-mri"  # code system of concepts without a standard code
DICOM = "urn:dicom:uid"
NAME = "Brain MRI tumor segmentation and classification"
BRAIN_MRI = {"system": LOINC, "code": "24590-2", "display": "MR Brain"}


def write_reports(folder: Path) -> list[Path]:
    """Write NAME_fhir.json beside the JSON of every prediction in a folder.

    Raises:
        UserError: when the folder holds no predictions.
    """
    written = []
    for _, entry in predictions_in(folder):
        source = folder / entry["json"]
        report = diagnostic_report(read_json(source), _series(folder, entry), _made(source))
        target = source.with_name(f"{source.stem}_fhir.json")
        files.write_bytes(target, (report + "\n").encode())
        written.append(target)
    if not written:
        raise UserError(f"{folder}: none of its scans has a prediction; see index.json")
    return written


def diagnostic_report(result: Mapping[str, Any], series: Mapping[str, str], made: datetime) -> str:
    """Encode a prediction as a FHIR bundle, validated by fhir.resources.

    Args:
        result: NAME.json.
        series: of a DICOM series "study", "patient" and DICOM files by their kind ("seg", ...); empty for others.
        made: when it was predicted.

    Returns:
        JSON of a collection: Device, Observations, DiagnosticReport, Provenance.

    Raises:
        ModuleNotFoundError: when the extra `exchange` is not installed.
    """
    from fhir.resources.bundle import Bundle

    model, when = result["model"], made.isoformat()
    seed = json.dumps([result.get("input_sha256"), model["sha256"], result["state"]])

    def address(part: str) -> str:
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, seed + part)}"

    subject = {"subject": {"identifier": {"value": series["patient"]}}} if series.get("patient") else {}
    basis = {"status": "preliminary", **subject}
    device = {
        "resourceType": "Device",
        "name": [{"value": NAME, "type": "registered-name", "display": True}],
        "version": [{"value": str(model["version"])}],
        "identifier": [{"system": "urn:sha256", "value": str(model["sha256"])}],
        "note": [{"text": NOTICE}],
    }
    observed = {
        name: {
            "resourceType": "Observation",
            **basis,
            "effectiveDateTime": when,
            "device": _to(address("device")),
            **found,
        }
        for name, found in _observations(result).items()
    }
    state = messages.STATES[result["state"]]
    report = {
        "resourceType": "DiagnosticReport",
        **basis,
        "category": [_coded({"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "RAD"})],
        "code": _coded(BRAIN_MRI),
        "effectiveDateTime": when,
        "issued": when,
        "result": [_to(address(name)) for name in observed],
        "conclusion": " ".join(
            [f"{state.title}. {state.text}", *(f"{flag['text']}." for flag in result["flags"]), NOTICE]
        ),
        **({"identifier": [{"system": DICOM, "value": f"urn:oid:{series['study']}"}]} if series.get("study") else {}),
    }
    entities = [
        {"role": "source", "what": {"display": result.get("input", "scan"), "identifier": _hash(result)}},
        *(
            {
                "role": "quotation",
                "what": {"identifier": {"system": DICOM, "value": f"urn:oid:{series[kind]}"}, "display": kind},
            }
            for kind in DICOM_FILES
            if kind in series
        ),
    ]
    provenance = {
        "resourceType": "Provenance",
        "target": [_to(address("report")), *(_to(address(name)) for name in observed)],
        "recorded": when,
        "activity": {"text": "automatic segmentation and classification; no person has read the scan"},
        "agent": [{"type": {"text": "algorithm"}, "who": _to(address("device"))}],
        "entity": entities,
    }
    parts = {"device": device, **observed, "report": report, "provenance": provenance}
    entries = [{"fullUrl": address(name), "resource": part} for name, part in parts.items()]
    whole = {"resourceType": "Bundle", "type": "collection", "timestamp": when, "entry": entries}
    return str(Bundle.model_validate(whole).model_dump_json(indent=1))


def _observations(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """State, probability, size and number of lesions; what is unknown is left out."""
    state = {"system": OWN, "code": result["state"], "display": messages.STATES[result["state"]].title}
    found: dict[str, dict[str, Any]]
    found = {"state": {"code": _own("state", "Prediction of the network"), "valueCodeableConcept": _coded(state)}}
    if result["tumor_probability"] is not None:
        named = _own("tumor-probability", "Calibrated probability that a tumor is shown")
        limit = {"text": "operating point", "low": _quantity(result["threshold"], "1")}
        found["probability"] = {
            "code": named,
            "valueQuantity": _quantity(result["tumor_probability"], "1"),
            "referenceRange": [limit],
        }
    for key, unit in {"volume_ml": "mL", "area_mm2": "mm2"}.items():
        if result.get(key) is not None:
            named = {
                "coding": [{"system": SNOMED, "code": "108369006", "display": "Neoplasm"}],
                "text": f"Size of the mask, {unit}",
            }
            found[key] = {"code": named, "valueQuantity": _quantity(result[key], unit)}
    if "lesions" in result:
        named = _own("lesions", "Number of connected parts of the mask")
        found["lesions"] = {"code": named, "valueInteger": len(result["lesions"])}
    return found


def _series(folder: Path, entry: Mapping[str, Any]) -> dict[str, str]:
    """Identifiers of a DICOM series, from the files that refer to it."""
    kinds = [kind for kind in DICOM_FILES if kind in entry]
    if not kinds:
        return {}
    from pydicom import dcmread

    found: dict[str, str] = {}
    for kind in kinds:
        dataset = dcmread(folder / entry[kind], stop_before_pixels=True)
        found |= {kind: str(dataset.SOPInstanceUID), "study": str(dataset.StudyInstanceUID)}
        found["patient"] = str(dataset.get("PatientID", ""))
    return found


def _made(file: Path) -> datetime:
    return datetime.fromtimestamp(int(file.stat().st_mtime), tz=UTC)


def _hash(result: Mapping[str, Any]) -> dict[str, str]:
    return {"system": "urn:sha256", "value": str(result.get("input_sha256") or "unknown")}


def _to(address: str) -> dict[str, str]:
    return {"reference": address}


def _coded(coding: Mapping[str, str]) -> dict[str, Any]:
    return {"coding": [dict(coding)]}


def _own(code: str, display: str) -> dict[str, Any]:
    return _coded({"system": OWN, "code": code, "display": display})


def _quantity(value: float, unit: str) -> dict[str, Any]:
    return {"value": value, **({} if unit == "1" else {"unit": unit}), "system": UCUM, "code": unit}
