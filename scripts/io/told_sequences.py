"""The sequence of a scan, from its header or its name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from ..core.file_types import type_of_file
from ..core.filenames import ABSENT, parse_name
from ..dicom.headers import sequence_of_headers
from ..dicom.reading import read_series
from .folders import name_of
from .layouts import name_by_channel

__all__ = ["sequence_told", "series_read"]


def sequence_told(path: Path, wanted: Sequence[str] = ("flair",)) -> str:
    """Sequence of a scan by its header or its name, "" if unknown.

    Args:
        path: a file, or a folder with DICOM files.
        wanted: names of the sequences to read, which choose one of several series.
    """
    files = [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]
    found = [file for file in files if type_of_file(file) == "dicom"]
    if not found:
        return (name_by_channel(path) or parse_name(name_of(path))).kind or ""
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings hold values of the file
        try:
            series = {str(dcmread(file, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID) for file in found[1:]}
            first = dcmread(found[0], stop_before_pixels=True)
            alone = series <= {str(first.get("SeriesInstanceUID", ""))}
            return sequence_of_headers(first if alone else read_series(path, wanted).datasets[0]) or ""
        except Exception:  # the decoder gives the reason
            return ""


def series_read(folders: Sequence[Path], modalities: Sequence[str]) -> list[str]:
    """The series of a study that a network reads, as `BrainMriReader` takes them.

    Args:
        folders: of DICOM files, each of one series.
        modalities: sequences that the network reads.

    Returns:
        For a network of one sequence the first folder. For one of several the first folder of each, by the headers, in
        the order of the modalities; `ABSENT` in the place of one that the study lacks.

    Raises:
        ValueError: when none of several is there.
    """
    if len(modalities) == 1:
        return [str(folders[0])]
    found: dict[str, str] = {}
    for folder in folders:
        found.setdefault(sequence_told(folder, modalities), str(folder))
    if not found.keys() & set(modalities):
        raise ValueError(f"the study has no MR series whose header tells one of {', '.join(modalities)}")
    return [found.get(name, ABSENT) for name in modalities]
