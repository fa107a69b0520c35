"""The predictions in a folder that `predict` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..manifest import read_json

__all__ = ["DICOM_FILES", "predictions_in"]

DICOM_FILES = ("seg", "sr", "rtstruct")  # in the order in which they refer to each other


def predictions_in(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of each scan, and the files of its prediction, relative to the folder.

    Raises:
        UserError: when the folder holds no predictions.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise UserError(f"{folder}: no predictions here (index.json); python -m bundle predict SCANS --output {folder}")
    found = read_json(index)["scans"]
    yield from ((scan, entry) for scan, entry in found.items() if "json" in entry)
