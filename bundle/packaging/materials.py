"""The bill of materials of a packed bundle, CycloneDX 1.6: the packages that it needs, its weights, their data."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .. import NOTICE, __version__
from ..core import weights_report
from ..weights import pins_of

__all__ = ["bill_of_materials"]

WEIGHTS = "models/model.pt"
SCORES = {"roc_auc": "ROC-AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


def bill_of_materials(
    name: str, metadata: Mapping[str, Any], report: Mapping[str, Any], data: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The packages that the bundle needs and its weights with their model card; the same for the same metadata.

    Args:
        name: of the bundle.
        metadata: of the bundle.
        report: of its weights; empty if there is none.
        data: components of the data sets, see `data_description.data_of`.

    Returns:
        JSON.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion
    from packageurl import PackageURL

    pins = pins_of(metadata)
    hashes = sorted(metadata.get("weights_sha256", {}).items())
    seed = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([name, __version__, sorted(pins.items()), hashes]))
    parts = [
        Component(
            name=package,
            version=pin,
            type=ComponentType.LIBRARY,
            bom_ref=package,
            purl=PackageURL("pypi", None, package, pin),
        )
        for package, pin in sorted(pins.items())
    ]
    whole = Component(name=name, version=metadata["version"], bom_ref=name, type=ComponentType.APPLICATION)
    bom = Bom(components=parts, serial_number=seed)
    bom.metadata.timestamp, bom.metadata.component = datetime(1980, 1, 1, tzinfo=UTC), whole
    bom.register_dependency(whole, parts)
    found = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    found["components"] += [_weights(metadata, report), *data]  # the library has no model cards yet
    found["dependencies"].append({"ref": WEIGHTS, "dependsOn": [part["bom-ref"] for part in data]})
    for entry in found["dependencies"]:
        if entry["ref"] == name:
            entry["dependsOn"] = sorted([*entry.get("dependsOn", ()), WEIGHTS])
    return json.dumps(found, indent=1)


def _weights(metadata: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """The weights as a component with hash, data sets, scores and limits."""
    model = report.get("model", {})
    trained = Counter(case.partition("/")[0] for case in model.get("trained_on", {}))
    formats = metadata["network_data_format"]
    return {
        "type": "machine-learning-model",
        "bom-ref": WEIGHTS,
        "name": WEIGHTS,
        "version": str(model.get("version", metadata["version"])),
        "description": metadata["description"],
        "hashes": [{"alg": "SHA-256", "content": metadata["weights_sha256"][WEIGHTS]}],
        "licenses": [{"license": {"name": "terms of the training data, docs/data_license.txt"}}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": metadata["task"],
                "architectureFamily": "convolutional network",
                "modelArchitecture": f"multi-task U-Net, {model.get('network_name', 'cpu')}",
                "datasets": [
                    {"type": "dataset", "name": source, "description": f"{count} training cases"}
                    for source, count in sorted(trained.items())
                ],
                "inputs": [{"format": ", ".join(formats["inputs"]["image"]["channel_def"].values())}],
                "outputs": [{"format": f"{key}: {value['format']}"} for key, value in formats["outputs"].items()],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_scores(report))},
            "considerations": {
                "users": ["researchers"],
                "useCases": [str(metadata["intended_use"])],
                "technicalLimitations": list(_limits(model, report)),
                "ethicalConsiderations": [
                    {
                        "name": "a tumor can be missed, and one can be seen where there is none",
                        "mitigationStrategy": f"{NOTICE} An expert reads every scan.",
                    }
                ],
            },
        },
    }


def _scores(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The main scores, each with what it is of, n and interval."""
    segmentation = report.get("segmentation", {})
    mean = segmentation.get("mean", {})
    if mean.get("dice") is not None:
        yield _score("Dice", mean["dice"], mean.get("ci95", {}).get("dice"), f"{segmentation['patients_n']} patients")
    for source, found in sorted(report.get("classification", {}).items()):
        for key, name in SCORES.items():
            if found.get(key) is not None:
                unit = "slices of volumes" if found["kind"] == "volume" else "images"
                yield _score(name, found[key], found.get("ci95", {}).get(key), f"{source}, {found['n']} {unit}")


def _score(name: str, value: float, interval: Sequence[float] | None, of: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": name, "value": f"{value:.3f}", "slice": of}
    if interval:
        low, high = (f"{bound:.3f}" for bound in interval)
        found["confidenceInterval"] = {"lowerBound": low, "upperBound": high}
    return found


def _limits(model: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """What the weights cannot do, as far as their report says it."""
    learned = weights_report.learned_of(model)
    yield f"reads {', '.join(model.get('modalities', ['flair']))}; a volume of another sequence gets no prediction"
    yield "the whole tumor as one region: no edema, core or enhancing tumor, no diagnosis and no tumor type"
    if "segmentation" not in learned or "classification" not in learned:
        yield f"learned {' and '.join(learned)} only"
    if report.get("scored"):
        yield f"scored: {report['scored']}"
    for source, found in sorted(report.get("classification", {}).items()):
        for size in found.get("by_tumor_area", ()):
            if size["low_mm2"] < 200 and size["sensitivity"] is not None:
                yield (
                    f"small tumors, {size['low_mm2']:g}-{size['high_mm2']:g} mm2 in a slice of {source}: "
                    f"sensitivity {size['sensitivity']:.2f}, {size['positives']} slices"
                )
    if not report:
        yield "no report: its scores are unknown"
