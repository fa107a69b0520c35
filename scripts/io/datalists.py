"""Find the cases in data folders as they really come: BraTS of every year, the Decathlon's Task01, yes/no images.

A case is a plain dict, as MONAI's datalists are:
    id      unique, readable: "brats/BraTS20_Training_001", "kaggle/yes/Y1.jpg"
    source  where it comes from: "brats", "kaggle" or a name the user gave
    group   what may only ever be on one side of a split: the patient (images get theirs by near-duplicates, later)
    kind    "volume" or "image"
    image   path, or one path per modality
    label   path of the mask; absent (never empty) where there is none
    cls     1 or 0 for an image from yes/ or no/; absent for a volume, whose slices have labels of their own
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .dicom import is_dicom
from .readers import decathlon_channels

__all__ = ["INDEX", "Case", "brats_cases", "gather_cases", "image_cases", "patient_of", "scans", "stem"]

Case = dict[str, Any]

# BraTS' words of every year -> ours
MODALITIES = {
    **{"flair": "flair", "t2f": "flair", "t1ce": "t1ce", "t1c": "t1ce", "t1gd": "t1ce"},
    **{"t1": "t1", "t1n": "t1", "t2": "t2", "t2w": "t2", "seg": "seg", "segm": "seg"},
}
BRATS_FILE = re.compile(rf"^(?P<case>.+)[_-](?P<kind>{'|'.join(MODALITIES)})\.nii(\.gz)?$", re.IGNORECASE)
# a BraTS case name with its number of visits: BraTS-GLI-00002-000, brats_2013_pat0003_1, Brats18_CBICA_AAB_1
VISIT = re.compile(r"^(BraTS-[A-Z]+-\d+)-\d{3}$|^(brats.*2013.*|brats1\d_.*)_\d$", re.IGNORECASE)
CLASSES = {"yes": 1, "no": 0}
INDEX = "index"  # no scan's prediction is called so: it lists all predictions of a folder
SUFFIXES = (".nii.gz", ".nii", ".png", ".jpg", ".jpeg", ".dcm")


def gather_cases(
    brats_dir: str | Path | None, kaggle_dirs: str | Path | Sequence[str] | Mapping[str, str] | None, **kwargs: Any
) -> list[Case]:
    """All cases of one BraTS folder and any number of yes/no folders.

    Args:
        brats_dir: folder of volumes, or None.
        kaggle_dirs: one folder, "NAME=DIR", a list of such, or {name: folder}; the name defaults to the folder's.
        kwargs: for `brats_cases`.

    Raises:
        ValueError: when there is nothing to read, two sources bear one name, or a file's name is not UTF-8.
    """
    cases = brats_cases(Path(brats_dir), **kwargs) if brats_dir else []
    names = ["brats"] if brats_dir else []
    for name, folder in _named_folders(kaggle_dirs):
        if name in names:
            raise ValueError(f"two sources are called '{name}', name one of them NAME=DIR")
        names.append(name)
        cases += image_cases(folder, name)
    if not cases:
        raise ValueError("no data: give brats_dir, kaggle_dir, or both")
    for case in cases:
        try:
            case["id"].encode()
        except UnicodeEncodeError:
            raise ValueError(f"{case['id']!a}: its name is not UTF-8, rename it") from None
    return cases


def _named_folders(dirs: str | Path | Sequence[str] | Mapping[str, str] | None) -> Iterator[tuple[str, Path]]:
    if isinstance(dirs, Mapping):
        dirs = [f"{name}={folder}" for name, folder in dirs.items()]
    for entry in [dirs] if isinstance(dirs, (str, Path)) else dirs or []:
        name, separator, folder = str(entry).partition("=")
        if not separator or Path(entry).is_dir():
            name, folder = "", str(entry)
        yield name or _own_name(Path(folder)), Path(folder)


def _own_name(folder: Path) -> str:
    """Name of a folder, however the path to it is written; a link has its own."""
    return Path(os.path.normpath(folder.absolute())).name


def brats_cases(root: Path, modalities: Sequence[str] = ("flair",), source: str = "brats") -> list[Case]:
    """Find BraTS cases below a folder, or the Decathlon's where it holds `imagesTr`.

    Args:
        root: any folder above the files; the layout below it does not matter, the file names do.
        modalities: channels to read, in order.
        source: name of this source.

    Raises:
        ValueError: when the folder is missing or holds no case.
    """
    _require_folder(root)
    decathlon = next((d for d in [root, root / "Task01_BrainTumor"] if (d / "imagesTr").is_dir()), None)
    cases = _decathlon_cases(decathlon, source) if decathlon else _per_modality_cases(root, modalities, source)
    if not cases:
        raise ValueError(f"{root}: no BraTS case found (files such as CASE_flair.nii.gz, CASE-t2f.nii.gz)")
    return cases


def _per_modality_cases(root: Path, modalities: Sequence[str], source: str) -> list[Case]:
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in _visible_files(root):
        if match := BRATS_FILE.match(path.name):
            kind = MODALITIES[match["kind"].lower()]
            found.setdefault((path.parent, match["case"]), {})[kind] = path
    _adopt_lone_masks(found)
    folders: dict[str, Path] = {}
    for folder, name in found:
        if folders.setdefault(name, folder) != folder:
            raise ValueError(f"two cases are called {name}: in {folders[name]} and in {folder}")
    cases = []
    for (_, name), files in sorted(found.items(), key=lambda item: item[0][1]):
        image = [str(files[m]) if m in files else f"{name}_{m}.nii.gz" for m in modalities]
        case: Case = {"id": f"{source}/{name}", "source": source, "group": f"{source}/{patient_of(name)}"}
        case |= {"kind": "volume", "image": image[0] if len(image) == 1 else image}
        if "seg" in files:
            case["label"] = str(files["seg"])
        cases.append(case)
    return cases


def _adopt_lone_masks(found: dict[tuple[Path, str], dict[str, Path]]) -> None:
    """Give a mask under a foreign name (`W39_1998.09.19_Segm.nii` of case 355) to the only case in its folder."""
    for (folder, name), files in list(found.items()):
        siblings = [key for key in found if key[0] == folder and key[1] != name]
        if set(files) == {"seg"} and len(siblings) == 1 and "seg" not in found[siblings[0]]:
            found[siblings[0]]["seg"] = files["seg"]
            del found[(folder, name)]


def _decathlon_cases(root: Path, source: str) -> list[Case]:
    cases = []
    for image in _visible_files(root / "imagesTr"):
        if not image.name.endswith((".nii", ".nii.gz")):
            continue
        name = image.name.split(".")[0]
        case: Case = {"id": f"{source}/{name}", "source": source, "group": f"{source}/{name}", "kind": "volume"}
        case["image"] = str(image)
        if (label := root / "labelsTr" / image.name).is_file():
            case["label"] = str(label)
        cases.append(case)
    if cases and not decathlon_channels(Path(cases[0]["image"])):
        raise ValueError(f"{root}: dataset.json, which names the channels, is missing")
    return cases


def patient_of(case: str) -> str:
    """Patient of a BraTS case name: the name without the number of the visit, where the name has one.

    >>> patient_of("BraTS-GLI-00002-001"), patient_of("brats_2013_pat0003_1"), patient_of("BraTS20_Training_001")
    ('BraTS-GLI-00002', 'brats_2013_pat0003', 'BraTS20_Training_001')
    """
    match = VISIT.match(case)
    return next(filter(None, match.groups())) if match else case


def image_cases(root: Path, source: str) -> list[Case]:
    """Find the images in a folder's `yes` and `no` folders (any case of letters, any file name).

    Raises:
        ValueError: when the folder, or one of the two, is missing.
    """
    _require_folder(root)
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in CLASSES):
        if folders.setdefault(folder.name.lower(), folder) != folder:
            raise ValueError(f"{root}: has both '{folders[folder.name.lower()].name}' and '{folder.name}'")
    missing = [name for name in CLASSES if name not in folders]
    if missing:
        raise ValueError(f"{root}: no folder '{missing[0]}' (a folder of images has 'yes' and 'no')")
    return [
        {
            "id": f"{source}/{folder}/{path.relative_to(folders[folder]).as_posix()}",
            "source": source,
            "kind": "image",
            "image": str(path),
            "cls": cls,
        }
        for folder, cls in CLASSES.items()
        for path in _visible_files(folders[folder])
    ]


def scans(path: str | Path | Sequence[str | Path], output_dir: str | Path | None = None) -> list[dict[str, str]]:
    """Scans to predict, each with a name for its prediction.

    Args:
        path: one file or folder, or a list of them. A folder's scans keep their place in its tree; a folder that holds
            DICOM files is one scan.
        output_dir: left out where it lies in one of the folders, however either path is written.

    Returns:
        Dicts with "image" (the path) and "name": the place without suffix, or with it where two scans share a stem, or
        theirs is that of `index.json`.

    Raises:
        ValueError: when there is nothing to predict, or two files would have one prediction.
    """
    found: list[tuple[Path, Path]] = []  # a scan, and its place below the output folder
    output = None if output_dir is None else Path(output_dir).resolve()
    for root in [Path(path)] if isinstance(path, (str, Path)) else [Path(p) for p in path]:
        files = [root] if root.is_file() else list(_scans_below(root)) if root.is_dir() else []
        inside = [f for f in files if f == root or output is None or not _real_place(f).is_relative_to(output)]
        if not inside:
            why = "its scans lie in the folder of the predictions, name another" if files else "no scan here"
            raise ValueError(f"{root}: {why}")
        found += [(file, file.relative_to(root) if file != root else Path(_own_name(root))) for file in inside]
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
    """Where a path lies, through links above it; a link itself lies where it is, not where it leads."""
    return path.parent.resolve() / path.name


def stem(path: str | Path) -> Path:
    """A path without the suffix of an image.

    >>> [str(stem(p)) for p in ("a/scan.nii.gz", "Y1.JPG", "none")]
    ['a/scan', 'Y1', 'none']
    """
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s) and path.name.lower() != s), "")
    return path.with_name(path.name[: len(path.name) - len(suffix)])


def _scans_below(root: Path) -> Iterator[Path]:
    """Files below a folder; in place of DICOM files the folder that holds them."""
    series = set()
    for path in _visible_files(root):
        if not is_dicom(path):
            yield path
        elif path.parent not in series:
            series.add(path.parent)
            yield path.parent


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")


def _visible_files(root: Path) -> Iterator[Path]:
    """Files below a folder in a fixed order, without hidden ones and lists of the folder's own files."""
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden and path.name not in ("Thumbs.db", "desktop.ini", "DICOMDIR"):
            yield path
