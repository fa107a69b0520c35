"""List the scans to predict in files and folders, the names of their predictions, and skipped files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..core.file_types import HEAD_BYTES, FileType, file_type_of
from ..core.filenames import ABSENT, MASK, OTHER, SEQUENCES, FileName, first_file, parse_name, stem
from ..core.text_headers import read_text_header
from ..dicom.reading import is_dicom
from .datalists import own_name
from .folders import name_of, visible_files
from .kaggle_3m import is_slice_folder
from .layouts import PREDICTION, VOLUMES, is_prediction, name_by_channel, told_by_names
from .told_sequences import sequence_told

__all__ = ["INDEX", "named_path", "scans", "skipped", "survey"]

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
    ".docx",
    ".log",
    ".exe",
    ".dll",
)  # no scans
MASK_WORD = re.compile("mask|seg", re.IGNORECASE)

Files = tuple[Path, ...]
Paths = str | Path | Sequence[str | Path]
Scan = dict[str, Any]  # "image": path, or one path for each modality; "name" of its prediction


def scans(path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)) -> list[Scan]:
    """Scans to predict, each with a name for its prediction; see `survey`."""
    return survey(path, output_dir, modalities)[0]


def skipped(
    path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)
) -> dict[str, str]:
    """Files in folders that are not predicted, with the reason; see `survey`."""
    return survey(path, output_dir, modalities)[1]


def survey(
    path: Paths, output_dir: str | Path | None = None, modalities: Sequence[str] = ("flair",)
) -> tuple[list[Scan], dict[str, str]]:
    """Scans to predict, each with a name for its prediction, and skipped files.

    Args:
        path: one file or folder, or a list of them, each "PATH" or "NAME=PATH". A folder's scans keep their place in
            its tree, below NAME if there is one; a folder that holds DICOM files is one scan. Masks, predictions
            and volumes of another sequence (by name) in a folder are skipped; a file that is named itself is predicted.
        output_dir: left out where it lies in one of the folders, however either path is written.
        modalities: sequences that the weights were trained on; of several, the files of a case are one scan, whether
            its folder is named or each of them, and one of them is enough.

    Returns:
        Dicts with "image" (the path, or a list with one for each modality, `ABSENT` for a missing one) and "name": the
        place without suffix, or with it where two scans share a stem, or theirs is that of `index.json`. And reasons by
        path.

    Raises:
        ValueError: when there is nothing to predict, or two files would have one prediction.
    """
    found: list[tuple[Files, Path]] = []  # a scan, and its place below the output folder
    over: dict[str, str] = {}
    roots = [named_path(entry) for entry in ([path] if isinstance(path, (str, Path)) else path)]
    one_by_one, _ = _by_case([root for name, root in roots if not name and root.is_file()], modalities)
    found += [(files, Path(place.name)) for files, place in one_by_one]
    together = {file for files, _ in one_by_one for file in files}
    output = None if output_dir is None else Path(output_dir).resolve()
    for name, root in (entry for entry in roots if entry[1] not in together):
        files = [root] if root.is_file() else list(_scans_below(root)) if root.is_dir() else []
        inside = [f for f in files if f == root or output is None or not _real_place(f).is_relative_to(output)]
        voxels = _voxels_beside(inside)
        reasons = {file: f"the voxels of {voxels[file]}" for file in inside if file in voxels and file != root}
        reasons |= {
            file: why for file in inside if file not in {root, *reasons} and (why := _why_not(file, root, modalities))
        }
        groups, apart = _by_case([f for f in inside if f not in {root, *reasons}], modalities)
        reasons |= apart
        if len(inside) == len(reasons):
            raise ValueError(f"{root}: {_nothing(files, reasons, modalities)}")
        over |= {str(file): why for file, why in reasons.items()}
        grouped = {file for group in groups for file in group[0]}
        chosen = [file for file in inside if file not in reasons and file not in grouped]
        suffix = root.name[len(stem(root.name).name) :] if root.is_file() else ""
        own = Path(name + suffix if name else own_name(root))
        places: list[tuple[Files, Path]] = [
            ((file,), own if file == root else Path(name) / file.relative_to(root)) for file in chosen
        ]
        places += [(group, Path(name, place.relative_to(root)) if place != root else own) for group, place in groups]
        found += sorted(places, key=lambda scan: first_file(scan[0]))
    return _named(found), over


def named_path(entry: str | Path) -> tuple[str, Path]:
    """Name and path of "NAME=PATH"; "" and the path if there is no name, or a file is called so.

    >>> named_path("first=data/a")
    ('first', PosixPath('data/a'))
    """
    name, separator, path = str(entry).partition("=")
    return (name, Path(path)) if separator and name and path and not Path(entry).exists() else ("", Path(entry))


def _voxels_beside(files: Sequence[Path]) -> dict[Path, str]:
    """Files that hold the voxels of a header in a file beside, with the header's name."""
    found = {path.with_suffix(".img"): path.name for path in files if path.suffix == ".hdr"}
    for path in files:
        if path.name.lower().endswith((".mhd", ".nhdr")):
            with suppress(ValueError, OSError):
                kind: FileType = "metaimage" if path.name.lower().endswith(".mhd") else "nrrd"
                beside = read_text_header(path.read_bytes(), kind).beside
                if beside is not None:
                    found[path.parent / beside] = path.name
    return found


def _by_case(files: Sequence[Path], modalities: Sequence[str]) -> tuple[list[tuple[Files, Path]], dict[Path, str]]:
    """Group the files of each case, if the weights read several sequences.

    Returns:
        Files in the order of the modalities, `ABSENT` for those that the case lacks, with the case's place; and reasons
        of files that are in no group.
    """
    cases: dict[Path, dict[str, list[tuple[FileName, Path]]]] = {}
    for path in files if len(modalities) > 1 else ():
        told = name_by_channel(path) or parse_name(name_of(path))
        if told.kind in modalities and name_of(path).lower().endswith(VOLUMES):
            folder = path.parent.parent if name_of(path) != path.name else path.parent
            cases.setdefault(folder / told.case, {}).setdefault(str(told.kind), []).append((told, path))
    groups: list[tuple[Files, Path]] = []
    apart: dict[Path, str] = {}
    for place, kinds in cases.items():
        ranked = {kind: sorted(found, key=lambda one: (len(one[0].variants), one[1])) for kind, found in kinds.items()}
        groups.append((tuple(ranked[m][0][1] if m in ranked else Path(ABSENT) for m in modalities), place))
        apart |= {path: f"{kind} again" for kind, found in ranked.items() for _, path in found[1:]}
    return groups, apart


def _nothing(files: Sequence[Path], reasons: dict[Path, str], modalities: Sequence[str]) -> str:
    if reasons:
        wanted = ", ".join(SEQUENCES.get(m, m) for m in modalities)
        counts = ", ".join(f"{count} x {why}" for why, count in sorted(Counter(reasons.values()).items()))
        return f"no scan here for these weights, which read {wanted}; skipped by name: {counts}"
    return (
        "its scans are in the output folder, name another"
        if files
        else "no scan here; docs/reference/predictions.md lists what is read"
    )


def _named(found: Sequence[tuple[Files, Path]]) -> list[Scan]:
    """Scans with unique names of their predictions."""
    places = Counter(str(place).lower() for _, place in found)
    short = [place if len(files) > 1 or files[0].is_dir() else stem(place) for files, place in found]
    stems = Counter(str(place).lower() for place in short)
    stems[INDEX] += 1  # a file of the predictions' folder
    for files, place in found:
        file = first_file(files)
        if places[str(place).lower()] > 1:
            raise ValueError(f"{file}: two scans are called {place}; predict them into different folders")
        if str(place).lower() == INDEX:
            raise ValueError(f"{file}: its prediction would take the place of {INDEX}.json; rename it")
    names = [place if stems[str(name).lower()] > 1 else name for (_, place), name in zip(found, short, strict=True)]
    images = [str(files[0]) if len(files) == 1 else [str(file) for file in files] for files, _ in found]
    return [{"image": image, "name": name.as_posix()} for image, name in zip(images, names, strict=True)]


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
        if not of_slices[folder] and (is_prediction(path) or not is_dicom(path)):
            yield path
        elif folder not in series:
            series.add(folder)
            yield folder


def _why_not(path: Path, root: Path, modalities: Sequence[str]) -> str | None:
    """Why a file or series below a folder is not predicted, by its name or header; None if it is."""
    name = name_of(path).lower()
    if path.is_dir():
        kind = "" if is_slice_folder(path) else sequence_told(path, modalities)
        return f"{SEQUENCES.get(kind, 'no anatomy')}, by its header" if kind and kind not in modalities else None
    if name.endswith(BESIDE):
        return "no scan, by its name"
    if is_prediction(path):
        return PREDICTION
    if str(stem(name)) == name and _is_text(path):  # README, CHANGES, LICENSE
        return "text, by its content"
    told = name_by_channel(path) or told_by_names(path, root)
    if told.kind == MASK and (name.endswith(VOLUMES) or (name.endswith(PICTURES) and MASK_WORD.search(told.word))):
        return "a mask, by its name"
    if not name.endswith(VOLUMES) or told.kind is None or told.kind in modalities:
        return None  # pictures of any sequence are predicted: training has them too
    return f"{told.word.lower() if told.kind == OTHER else SEQUENCES.get(told.kind, told.kind)}, by its name"


def _is_text(path: Path) -> bool:
    """Whether a file begins with text, and as no scan does."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        return bool(head) and file_type_of(head) is None and not any(c < 32 and c not in b"\t\n\f\r" for c in head)
    return False
