"""Walk through folders of data: links, hidden files, and folders named like files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..core.filenames import stem

__all__ = ["broken_links", "folders_below", "name_of", "require_folder", "visible_files"]

NO_DATA = ("Thumbs.db", "desktop.ini", "DICOMDIR")  # lists of a folder's own files


def require_folder(root: Path, of: str) -> None:
    """Require a folder.

    Args:
        root: the folder.
        of: what it has to hold, as `VOLUME_FOLDER`.

    Raises:
        ValueError: when there is none.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; name one of {of}")


def visible_files(root: Path) -> list[Path]:
    """Files below a folder in a fixed order, without hidden ones.

    Links to files and to folders are followed. Each folder is entered once, whatever links to it, so circular links
    end and a folder below `root` keeps its own place.
    """
    entered: set[tuple[int, int]] = set()
    found: list[Path] = []
    waiting = [root]
    while waiting:
        links: list[Path] = []
        for folder in waiting:
            for parent, folders, files in os.walk(folder):
                if not _enter(Path(parent), entered):
                    folders.clear()
                    continue
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                links += [path for name in folders if (path := Path(parent, name)).is_symlink()]
                names = (name for name in files if not name.startswith(".") and name not in NO_DATA)
                found += [path for name in names if (path := Path(parent, name)).is_file()]
        waiting = sorted(links)
    return sorted(found)


def folders_below(root: Path) -> list[Path]:
    """A folder and those below it that hold visible files, in a fixed order."""
    return sorted({path.parent for path in visible_files(root)})


def _enter(folder: Path, entered: set[tuple[int, int]]) -> bool:
    """Note a folder; False where it was entered before."""
    status = folder.stat()
    key = (status.st_dev, status.st_ino)
    first = key not in entered
    entered.add(key)
    return first


def broken_links(root: Path) -> Iterator[Path]:
    """Broken links below a folder."""
    for parent, folders, files in os.walk(root):
        yield from (
            path for name in (*folders, *files) if (path := Path(parent, name)).is_symlink() and not path.exists()
        )


def name_of(path: Path) -> str:
    """A file's name, or its folder's if that has the suffix of a volume.

    >>> name_of(Path("BraTS-GLI-00002-000-t2f.nii/00000057_brain_flair.nii"))
    'BraTS-GLI-00002-000-t2f.nii'
    """
    parent = path.parent.name
    return parent if parent.lower().endswith((".nii", ".nii.gz")) and stem(parent).name else path.name
