"""What is written as JSON is what docs/schemas says, and that is what the types say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bundle.predict_files import predict_files
from bundle.predictor import Predictor
from tests.schemas import DOCUMENTS, SCHEMAS, schema_of

ROOT = Path(__file__).resolve().parent.parent
REPORTS = [ROOT / "models" / "report.json", *sorted((ROOT / "docs" / "results").glob("*/report*.json"))]


def require_valid(content: Any, name: str) -> None:
    """Validate by the committed schema."""
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_the_committed_schemas_are_those_of_the_types(name: str) -> None:
    committed = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    assert committed == schema_of(name), "make them anew: python -m tests.schemas"
    jsonschema.Draft202012Validator.check_schema(committed)


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: "/".join(path.parts[-2:]))
def test_committed_reports_are_valid(path: Path) -> None:
    require_valid(json.loads(path.read_text()), "report")


def test_what_a_pipeline_writes_is_valid(pipeline_run: Path) -> None:
    require_valid(json.loads((pipeline_run / "data" / "store.json").read_text()), "store")
    reports = [path for path in pipeline_run.rglob("report.json") if "segmentation" in path.read_text()]
    assert {path.parent.name for path in reports} >= {"evaluation", "models"}
    for path in pipeline_run.rglob("report.json"):
        require_valid(json.loads(path.read_text()), "report")


def test_what_predict_writes_is_valid(pipeline_run: Path, unseen: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    picture = sorted((unseen / "kaggle" / "yes").iterdir())[0]
    scans = [unseen / "brats" / "UNSEEN_001", picture, tmp_path / "broken.png"]
    output = tmp_path / "predictions"
    predict_files(Predictor(pipeline_run / "models" / "model.pt", device="cpu"), scans, output)
    index = json.loads((output / "index.json").read_text())
    require_valid(index, "index")
    written = [entry["json"] for entry in index["scans"].values() if "json" in entry]
    kinds = set()
    for name in written:
        prediction = json.loads((output / name).read_text())
        require_valid(prediction, "prediction")
        kinds.add(prediction["kind"])
    assert kinds == {"image", "volume"} and any("error" in entry for entry in index["scans"].values())


def test_predictions_with_all_options_are_valid(pipeline_run: Path, unseen: Path) -> None:
    predictor = Predictor(pipeline_run / "models" / "model.pt", device="cpu")
    for scan in (next(unseen.glob("brats/*/*_flair.nii.gz")), sorted((unseen / "kaggle" / "no").iterdir())[0]):
        found = predictor.predict(scan, include_cam=True, include_uncertainty=True)
        require_valid(json.loads(json.dumps(found["result"])), "prediction")


def test_an_invalid_document_is_refused() -> None:
    with pytest.raises(jsonschema.ValidationError):
        require_valid({"schema_version": 1, "scans": {"a.png": {"state": "tumor"}}}, "index")
    with pytest.raises(jsonschema.ValidationError):
        require_valid({"schema_version": 0, "scans": {}}, "index")
