"""The sequence of a scan, from its header or its name."""

from __future__ import annotations

import warnings
from pathlib import Path

from ..core.file_types import type_of_file
from ..core.filenames import parse_name
from ..dicom.headers import sequence_of_headers
from .folders import name_of
from .layouts import name_by_channel

__all__ = ["sequence_told"]


def sequence_told(path: Path) -> str:
    """Sequence of a scan by its header or its name, "" if unknown.

    Args:
        path: a file, or a folder with one DICOM series.
    """
    files = [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]
    first = next((file for file in files if type_of_file(file) == "dicom"), None)
    if first is None:
        return (name_by_channel(path) or parse_name(name_of(path))).kind or ""
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings hold values of the file
        try:
            return sequence_of_headers(dcmread(first, stop_before_pixels=True)) or ""
        except Exception:  # decoding reports the error
            return ""
