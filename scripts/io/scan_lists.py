"""List the scans to predict in files and folders, the names of their predictions, and skipped files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.filenames import MASK, OTHER, SEQUENCES, parse_name, stem
from ..dicom.reading import is_dicom
from .datalists import own_name
from .folders import name_of, visible_files
from .kaggle_3m import is_slice_folder
from .layouts import VOLUMES, name_by_channel
from .told_sequences import sequence_told

__all__ = ["INDEX", "scans", "skipped", "survey"]

INDEX = "index"  # no scan's prediction is called so: it lists all predictions of a folder
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
BESIDE = (
    ".json",
    ".tsv",
    ".csv",
    ".txt",
    ".bval",
    ".bvec",
    ".mat",
    ".xml",
    ".md",
    ".pdf",
    ".html",
    ".xlsx",
)  # no scans
MASK_WORD = re.compile("mask|seg", re.IGNORECASE)

Paths = str | Path | Sequence[str | Path]


def scans(
    path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)
) -> list[dict[str, str]]:
    """Scans to predict, each with a name for its prediction; see `survey`."""
    return survey(path, output_dir, modalities)[0]


def skipped(
    path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)
) -> dict[str, str]:
    """Files in folders that are not predicted, with the reason; see `survey`."""
    return survey(path, output_dir, modalities)[1]


def survey(
    path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Scans to predict, each with a name for its prediction, and skipped files.

    Args:
        path: one file or folder, or a list of them. A folder's scans keep their place in its tree; a folder that holds
            DICOM files is one scan. Masks and volumes of another sequence (by name) in a folder are skipped;
            a file that is named itself is predicted.
        output_dir: left out where it lies in one of the folders, however either path is written.
        modalities: sequences that the weights were trained on.

    Returns:
        Dicts with "image" (the path) and "name": the place without suffix, or with it where two scans share a stem, or
        theirs is that of `index.json`. And reasons by path.

    Raises:
        ValueError: when there is nothing to predict, or two files would have one prediction.
    """
    found: list[tuple[Path, Path]] = []  # a scan, and its place below the output folder
    over: dict[str, str] = {}
    output = None if output_dir is None else Path(output_dir).resolve()
    for root in [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]:
        files = [root] if root.is_file() else list(_scans_below(root)) if root.is_dir() else []
        inside = [f for f in files if f == root or output is None or not _real_place(f).is_relative_to(output)]
        reasons = {file: why for file in inside if file != root and (why := _why_not(file, modalities))}
        if len(inside) == len(reasons):
            raise ValueError(f"{root}: {_nothing(files, reasons, modalities)}")
        over |= {str(file): why for file, why in reasons.items()}
        chosen = [file for file in inside if file not in reasons]
        found += [(file, file.relative_to(root) if file != root else Path(own_name(root))) for file in chosen]
    return _named(found), over


def _nothing(files: Sequence[Path], reasons: dict[Path, str], modalities: Sequence[str]) -> str:
    if reasons:
        wanted = ", ".join(SEQUENCES.get(m, m) for m in modalities)
        counts = ", ".join(f"{count} x {why}" for why, count in sorted(Counter(reasons.values()).items()))
        return f"no scan here for these weights, which read {wanted}; skipped by name: {counts}"
    return "its scans are in the output folder, name another" if files else "no scan here"


def _named(found: Sequence[tuple[Path, Path]]) -> list[dict[str, str]]:
    """Scans with unique names of their predictions."""
    places = Counter(str(place).lower() for _, place in found)
    short = [place if file.is_dir() else stem(place) for file, place in found]
    stems = Counter(str(place).lower() for place in short)
    stems[INDEX] += 1  # a file of the predictions' folder
    for file, place in found:
        if places[str(place).lower()] > 1:
            raise ValueError(f"{file}: two scans are called {place}; predict them into different folders")
        if str(place).lower() == INDEX:
            raise ValueError(f"{file}: its prediction would take the place of {INDEX}.json; rename it")
    names = [place if stems[str(name).lower()] > 1 else name for (_, place), name in zip(found, short, strict=True)]
    return [{"image": str(file), "name": name.as_posix()} for (file, _), name in zip(found, names, strict=True)]


def _real_place(path: Path) -> Path:
    """A path with links above it resolved, but not the path itself."""
    return path.parent.resolve() / path.name


def _scans_below(root: Path) -> Iterator[Path]:
    """Files below a folder; in place of DICOM files, and of slices as TIFF, the folder that holds them."""
    series, of_slices = set(), {}
    for path in visible_files(root):
        folder = path.parent
        if folder not in of_slices:
            of_slices[folder] = is_slice_folder(folder)
        if not of_slices[folder] and not is_dicom(path):
            yield path
        elif folder not in series:
            series.add(folder)
            yield folder


def _why_not(path: Path, modalities: Sequence[str]) -> str | None:
    """Why a file or series in a folder is not predicted, by its name or header; None if it is."""
    name = name_of(path).lower()
    if path.is_dir():
        kind = "" if is_slice_folder(path) else sequence_told(path, modalities)
        return f"{SEQUENCES.get(kind, 'no anatomy')}, by its header" if kind and kind not in modalities else None
    if name.endswith(BESIDE):
        return "no scan, by its name"
    told = name_by_channel(path) or parse_name(name_of(path))
    if told.kind == MASK and (name.endswith(VOLUMES) or (name.endswith(PICTURES) and MASK_WORD.search(told.word))):
        return "a mask, by its name"
    if not name.endswith(VOLUMES) or told.kind is None or told.kind in modalities:
        return None  # pictures of any sequence are predicted: training has them too
    return f"{told.word.lower() if told.kind == OTHER else SEQUENCES.get(told.kind, told.kind)}, by its name"
