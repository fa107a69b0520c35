"""Folders of images by class: `yes` and `no`, or the four classes of Kaggle's brain tumor sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core.tumor_types import FOLDERS, NO_TUMOR, TUMOR_TYPES

__all__ = ["class_folders", "is_image_folder"]

CLASSES = {"yes": 1, "no": 0}
TUMORS = {**dict.fromkeys(TUMOR_TYPES, 1), NO_TUMOR: 0}  # classes by name
SUBSETS = ("training", "testing", "train", "test")

ClassFolders = tuple[str, int, list[tuple[str, Path]]]  # class, 1 or 0, and its folders with their places in an id


def class_folders(root: Path, four_classes: bool = False) -> Iterator[ClassFolders]:
    """Classes below a folder.

    Args:
        root: the folder.
        four_classes: read Kaggle's four classes; a folder with `yes` or `no`, and none of the four, still has these.

    Raises:
        ValueError: when a class is missing, or two folders differ in the case of their letters only.
    """
    return _four(root) if four_classes and not _tells_no_types(root) else _yes_and_no(root)


def is_image_folder(root: Path) -> bool:
    """Whether a folder holds folders of classes: yes or no, or one of the four."""
    names = {path.name.lower() for path in root.iterdir() if path.is_dir()}
    below = [path for path in root.iterdir() if path.is_dir() and path.name.lower() in SUBSETS]
    within = {path.name.lower() for subset in below for path in subset.iterdir() if path.is_dir()}
    return bool(names & CLASSES.keys()) or len(names & FOLDERS.keys()) > 1 or len(within & FOLDERS.keys()) > 1


def folder_names(root: Path) -> dict[str, Path]:
    """Folders directly below, by their names in small letters.

    Raises:
        ValueError: when two differ in the case of their letters only.
    """
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folders.setdefault(folder.name.lower(), folder) != folder:
            raise ValueError(f"{root}: has both '{folders[folder.name.lower()].name}' and '{folder.name}'; rename one")
    return folders


def _yes_and_no(root: Path) -> Iterator[ClassFolders]:
    folders = {name: path for name, path in folder_names(root).items() if name in CLASSES}
    if missing := [name for name in CLASSES if name not in folders]:
        hint = ""
        if any(_subsets(root)[1]):
            hint = "; --four-classes takes glioma, meningioma and pituitary for yes, notumor for no"
        raise ValueError(f"{root}: no folder '{missing[0]}' (a folder of images has 'yes' and 'no'){hint}")
    for name, cls in CLASSES.items():
        yield name, cls, [(name, folders[name])]


def _tells_no_types(root: Path) -> bool:
    """Whether a folder has `yes` or `no`, and none of the four classes."""
    return bool(folder_names(root).keys() & CLASSES.keys()) and not any(_subsets(root)[1])


def _four(root: Path) -> Iterator[ClassFolders]:
    places, found = _subsets(root)
    for name, cls in TUMORS.items():
        folders = [
            (f"{place}{name}", classes[name]) for place, classes in zip(places, found, strict=True) if name in classes
        ]
        if not folders:
            raise ValueError(f"{root}: no folder '{name}' (four classes are {', '.join(TUMORS)})")
        yield name, cls, folders


def _subsets(root: Path) -> tuple[list[str], list[dict[str, Path]]]:
    """Where the four classes lie: in the folder, or in its `Training` and `Testing`; and their folders."""
    within = [path for name, path in folder_names(root).items() if name in SUBSETS]
    places = [f"{path.name.lower()}/" for path in within] or [""]
    return places, [
        {FOLDERS[name]: path for name, path in folder_names(folder).items() if name in FOLDERS}
        for folder in within or [root]
    ]
