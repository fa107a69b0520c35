"""JSON schemas of the files that this bundle writes, from the types in `scripts/core/documents.py`. To make them anew:

python -m tests.schemas
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bundle.core.documents import SCHEMA_VERSION, Prediction, PredictionIndex, Report, StoreIndex

SCHEMAS = Path(__file__).resolve().parent.parent / "docs" / "schemas"
DOCUMENTS = {"prediction": Prediction, "index": PredictionIndex, "store": StoreIndex, "report": Report}


def schema_of(name: str) -> dict[str, Any]:
    """The schema of a document: no key that the type does not have, and this version alone."""
    schema: dict[str, Any] = TypeAdapter(DOCUMENTS[name]).json_schema()
    _close(schema)
    schema["properties"]["schema_version"]["const"] = SCHEMA_VERSION
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _close(node: Any) -> None:
    """Allow no further keys wherever keys are named; leave out what docstrings say, which may be put in other words."""
    if isinstance(node, dict):
        if "properties" in node:
            node["additionalProperties"] = False
            node.pop("description", None)
        for value in node.values():
            _close(value)
    elif isinstance(node, list):
        for value in node:
            _close(value)


if __name__ == "__main__":
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        (SCHEMAS / f"{name}.schema.json").write_text(json.dumps(schema_of(name), indent=1) + "\n")
