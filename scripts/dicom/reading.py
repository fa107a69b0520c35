"""DICOM as a volume: one file, or a folder with a series. Read by pydicom."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.file_types import type_of_file
from .choice import choose
from .frames import Frame, Stack, decoded_frame, frames_of, located, stack
from .headers import DicomError, sequence_of_headers, why_no_scan
from .pixels import stored_values

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["Series", "is_dicom", "read_dicom", "read_series"]


class Series(NamedTuple):
    """The files of one series, and its slices in the order of the volume that `read_dicom` makes of them.

    Args:
        datasets: those of which there are slices.
        frames: the slices; their `instance` counts the datasets.
        chosen: which of several series it is, see `Stack`.
        flags: codes of warnings, see `Stack`.
    """

    datasets: list[Dataset]
    frames: list[Frame]
    chosen: str = ""
    flags: tuple[str, ...] = ()


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content."""
    try:
        return type_of_file(path) == "dicom"
    except OSError:
        return False


def read_dicom(path: Path, wanted: Sequence[str] = ("flair",)) -> Stack:
    """Read a file, or a series in a folder, sorted along the normal of its slices.

    Rescale slope and intercept are applied, MONOCHROME1 is inverted, bright padding is made dark, overlays are ignored.
    Files of a folder without pixels, of other modalities, in color, mosaics and localizers are skipped; of several
    series one is read, see `choose`.

    Args:
        path: file or folder.
        wanted: names of the sequences to read.

    Raises:
        DicomError: without an image, or with ambiguous geometry; an unknown orientation is taken for axial.
    """
    series = read_series(path, wanted, decoded=True)
    told = sequence_of_headers(series.datasets[0]) or ""
    return stack(series.frames)._replace(flags=series.flags, chosen=series.chosen, sequence=told)


def read_series(source: Path | bytes, wanted: Sequence[str] = ("flair",), decoded: bool = False) -> Series:
    """Read one series.

    Args:
        source: file, folder, or content of a file.
        wanted: see `read_dicom`.
        decoded: False reads the headers only; the frames are empty.

    Raises:
        DicomError: see `read_dicom`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings hold values of the file
        datasets = _open_folder(source) if isinstance(source, Path) and source.is_dir() else [_open(source)]
        frames = [frame for i, dataset in enumerate(datasets) for frame in frames_of(dataset, i)]
        if not frames:
            raise DicomError("its number of frames does not fit its pixel data")
        frames, chosen = choose(datasets, frames, wanted)
        frames, by_location = located(frames)
        conditions = {
            "series_chosen": bool(chosen),
            "position_missing": by_location,
            "orientation_unknown": len(frames) > 1 and not frames[0].is_oriented,
        }
        used = sorted({frame.instance for frame in frames})
        frames = [frame._replace(instance=used.index(frame.instance)) for frame in frames]
        datasets = [datasets[i] for i in used]
        frames = _decoded(datasets, frames) if decoded else frames
    return Series(datasets, frames, chosen, tuple(code for code, holds in conditions.items() if holds))


def _decoded(datasets: Sequence[Dataset], frames: Sequence[Frame]) -> list[Frame]:
    found: dict[int, Frame] = {}
    for instance, dataset in enumerate(datasets):
        values = stored_values(dataset)
        found |= {
            place: decoded_frame(frame, dataset, values)
            for place, frame in enumerate(frames)
            if frame.instance == instance
        }
    return [found[place] for place in range(len(frames))]


def _open_folder(folder: Path) -> list[Dataset]:
    """The files of a folder that may be slices of a head's MRI."""
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and is_dicom(file)]
    if not files:
        raise DicomError("a directory without DICOM files; name the folder of one series", "unsupported")
    pictures = [dataset for dataset in map(_open, files) if "PixelData" in dataset]
    if not pictures:
        raise DicomError("none of its DICOM files holds a picture")
    scans = [dataset for dataset in pictures if why_no_scan(dataset) is None]
    return scans or pictures  # `frames_of` gives the reason


def _open(source: Path | bytes) -> Dataset:
    try:
        from pydicom import dcmread
    except ImportError:
        raise DicomError("DICOM needs the package pydicom; pip install '.[dicom]'", "unsupported") from None
    content = source if isinstance(source, bytes) else source.read_bytes()
    return dcmread(BytesIO(content))  # from memory: a wrong length in the file allocates nothing
