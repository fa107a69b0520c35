"""Find the cases in data folders: volumes in any known layout, images in folders of classes.

A case is a plain dict, as MONAI's datalists are:
    id      unique, readable: "brats/BraTS20_Training_001", "kaggle/yes/Y1.jpg"
    source  where it comes from: "brats", "kaggle" or a name the user gave
    group   the unit of the split: the patient (images get theirs by near-duplicates, later)
    kind    "volume" or "image"
    image   path, or one path per modality, `filenames.ABSENT` for a sequence that the case does not have
    label   path of the mask; absent (never empty) where there is none
    cls     1 or 0 for an image from yes/ or no/; absent for a volume, whose slices have labels of their own
    tumor_codes     codes of the mask that are tumor, if the user or the data set's description names them
    region_codes    codes of tumor core and enhancing tumor by "tc" and "et", if the data set's description names them
    sequences       of a volume: the path of every sequence by its name, also of those that are not channels
    class_name      of an image from Kaggle's four classes: glioma, meningioma, pituitary, notumor; of a volume the type
                    of its tumor, if the user says it
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.filenames import ABSENT, IMAGE_FOLDER, MASK, SEQUENCES, VOLUME_FOLDER
from ..core.tumor_types import source_and_type
from .folders import require_folder, visible_files
from .image_classes import TUMORS, class_folders
from .layouts import PREDICTION, UNNAMED, UNTOLD, Found, Volume, find_volumes, is_prediction
from .notices import Notice, image_notices, shown, visit_notices, volume_notices
from .patients import group_of, read_groups

__all__ = ["Case", "Cases", "gather_cases", "image_cases", "volume_cases"]

logger = logging.getLogger(__name__)

Case = dict[str, Any]
Folders = str | Path | Sequence[str] | Mapping[str, str] | None


class Cases(list[Case]):
    """Cases, the number of skipped files by source and reason, and notices about the data."""

    def __init__(
        self,
        cases: Iterable[Case] = (),
        skipped: Mapping[str, Mapping[str, int]] | None = None,
        notices: Iterable[Notice] = (),
    ) -> None:
        super().__init__(cases)
        self.skipped = {source: dict(counts) for source, counts in (skipped or {}).items() if counts}
        self.notices = list(notices)

    @classmethod
    def of(cls, parts: Sequence[Cases]) -> Cases:
        """All cases of several folders."""
        over = {source: counts for part in parts for source, counts in part.skipped.items()}
        return cls((case for part in parts for case in part), over, (note for part in parts for note in part.notices))

    def counts(self) -> dict[str, dict[str, Any]]:
        """By source: volumes with and without a mask, images of each class, and skipped files."""
        counted = {}
        for source in dict.fromkeys(case["source"] for case in self):
            of = [case for case in self if case["source"] == source]
            volumes = [case for case in of if case["kind"] == "volume"]
            masks = sum("label" in case for case in volumes)
            found: dict[str, Any] = {"with_mask": masks, "without_mask": len(volumes) - masks} if volumes else {}
            found |= Counter("yes" if case["cls"] else "no" for case in of if "cls" in case)
            counted[source] = {**found, "skipped": self.skipped.get(source, {})}
        return counted


def gather_cases(
    volumes: Folders,
    images: Folders,
    groups_file: str | Path | None = None,
    four_classes: bool = False,
    require_masks: bool = False,
    volume_types: Sequence[str] | None = None,
    **kwargs: Any,
) -> Cases:
    """All cases of any number of folders of volumes and of yes/no folders; prints the counts.

    Args:
        volumes: folders of volumes, as `images`; a single one is called "brats" by default.
        images: one folder of images in classes, "NAME=DIR", a list of such, or {name: folder}; the name defaults to the
            folder's.
        groups_file: CSV table (case, patient) that comes before the rules of `patients`.
        four_classes: take Kaggle's folders glioma, meningioma and pituitary for yes, notumor for no; folders with yes
            and no are read as before.
        volume_types: type of the tumors in a source of volumes, "SOURCE=TYPE"; of other volumes it is unknown.
        require_masks: refuse a folder of volumes without one mask.
        kwargs: for `volume_cases`.

    Raises:
        ValueError: when there is nothing to read, two sources have the same name, a source of `volume_types` or its
            type is unknown, or a file's name is not UTF-8.
    """
    of_volumes, of_images = list(_named_folders(volumes, "brats")), list(_named_folders(images))
    if twice := [name for name, count in Counter(name for name, _ in of_volumes + of_images).items() if count > 1]:
        raise ValueError(f"two sources are called '{twice[0]}', name one of them NAME=DIR")
    found = [volume_cases(folder, source=name, **kwargs) for name, folder in of_volumes]
    found += [image_cases(folder, name, four_classes) for name, folder in of_images]
    cases = Cases.of(found)
    if not cases:
        raise ValueError("no data: name a folder of volumes, of images, or both")
    for case in cases:
        try:
            case["id"].encode()
        except UnicodeEncodeError:
            raise ValueError(f"{case['id']!a}: its name is not UTF-8, rename it") from None
    regroup(cases, groups_file)
    _tell_types(cases, dict(map(source_and_type, volume_types or ())))
    for source, counts in cases.counts().items():
        print(f"{source}: {counts_in_words(counts)}")
    for notice in cases.notices:
        if require_masks and notice.code == "no_masks":
            raise ValueError(notice.text)
        if notice.level != "note":
            logger.warning(notice.text)
    return cases


def counts_in_words(counts: Mapping[str, Any]) -> str:
    """The counts of a source in one line.

    >>> counts_in_words({"with_mask": 3, "without_mask": 1, "skipped": {"t1 again": 2}})
    '3 with mask, 1 without mask; skipped: t1 again 2'
    """
    numbers = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if name != "skipped" and n)
    passed = ", ".join(f"{reason} {n}" for reason, n in sorted(counts.get("skipped", {}).items()))
    return numbers + (f"; skipped: {passed}" if passed else "")


def regroup(cases: Cases, groups_file: str | Path | None) -> None:
    """Take patients from the user's table; add notices where names look like visits of an unknown patient."""
    table = read_groups(groups_file) if groups_file else {}
    volumes = [case for case in cases if case["kind"] == "volume"]
    names = {case["id"].partition("/")[2] for case in volumes}
    if table and not table.keys() & names:
        reason = f"its column case names none of the {len(names)} cases, such as {min(names, default='-')}; add them"
        raise ValueError(f"{groups_file}: {reason}")
    for case in volumes:
        name = case["id"].partition("/")[2]
        if name in table:
            case["group"] = f"{case['source']}/{table[name]}"
    cases.notices += visit_notices(names - table.keys())


def _tell_types(cases: Cases, types: Mapping[str, str]) -> None:
    """Note the type of the tumors in sources of volumes, by the sources' names."""
    sources = dict.fromkeys(case["source"] for case in cases if case["kind"] == "volume")
    if unknown := sorted(types.keys() - sources):
        known = ", ".join(sources) or "there is none"
        raise ValueError(f"a tumor type is told of '{unknown[0]}', which is no source of volumes ({known})")
    for case in cases:
        if case["kind"] == "volume" and case["source"] in types:
            case["class_name"] = types[case["source"]]


def _named_folders(dirs: Folders, alone: str = "") -> Iterator[tuple[str, Path]]:
    """Names and folders; `alone` is the name of a single folder without one."""
    if isinstance(dirs, Mapping):
        dirs = [f"{name}={folder}" for name, folder in dirs.items()]
    entries = [dirs] if isinstance(dirs, (str, Path)) else list(dirs or [])
    for entry in entries:
        name, separator, folder = str(entry).partition("=")
        if not separator or Path(entry).is_dir():
            name, folder = "", str(entry)
        yield name or (alone if len(entries) == 1 and alone else own_name(Path(folder))), Path(folder)


def own_name(folder: Path) -> str:
    """Name of a folder for any spelling of its path; a link has its own name."""
    return Path(os.path.normpath(folder.absolute())).name


def volume_cases(
    root: Path,
    modalities: Sequence[str] = ("flair",),
    source: str = "brats",
    masks: str | None = None,
    tumor_codes: Sequence[int] | None = None,
) -> Cases:
    """Find cases of volumes below a folder, in any layout of `layouts`.

    Args:
        root: any folder above the files.
        modalities: channels to read, in order.
        source: name of this source.
        masks: file name of a mask with "{case}" for the case's name, where it is none that is known; anywhere below.
        tumor_codes: codes of the masks that are tumor; by default the data set's.

    Raises:
        ValueError: when the folder is missing or holds no case.
    """
    require_folder(root, VOLUME_FOLDER)
    found = find_volumes(root)
    if masks:
        _take_masks(root, found, masks)
    cases = [_case(volume, modalities, source, tumor_codes) for volume in found.cases]
    if not cases:
        untold = [path.name for path, why in found.skipped.items() if why == UNTOLD]
        raise ValueError(
            f"{root}: no case found"
            + (f" (no known name: {shown(untold)})" if untold else "")
            + f"; it has to hold {VOLUME_FOLDER}"
        )
    if len(modalities) > 1 and not any(_has_any(volume, modalities) for volume in found.cases):
        named = " or ".join(SEQUENCES.get(m, m) for m in modalities)
        raise ValueError(f"{root}: no case has {named}; name other sequences")
    return Cases(cases, {source: found.counts()}, volume_notices(root, found, modalities))


def _has_any(volume: Volume, modalities: Sequence[str]) -> bool:
    """Whether a case has a file of any of the modalities, or one of unknown sequence."""
    return bool({"channels", UNNAMED, *modalities} & volume.files.keys())


def _case(volume: Volume, modalities: Sequence[str], source: str, tumor_codes: Sequence[int] | None) -> Case:
    files = volume.files
    if "channels" in files:
        image = [str(files["channels"])]
    elif UNNAMED in files and not set(modalities) & files.keys():
        image = [str(files[UNNAMED])]
    elif len(modalities) > 1 and _has_any(volume, modalities):
        image = [str(files.get(modality, ABSENT)) for modality in modalities]
    else:
        image = [str(files[m]) if m in files else f"{volume.name}_{m}.nii.gz" for m in modalities]
    case: Case = {"id": f"{source}/{volume.name}", "source": source, "group": group_of(source, volume.name)}
    case |= {"kind": "volume", "image": image[0] if len(image) == 1 else image}
    case["sequences"] = {name: str(files["channels"]) for name in volume.channels} if "channels" in files else {}
    case["sequences"] |= {name: str(path) for name, path in files.items() if name in SEQUENCES}
    if MASK in files:
        case["label"] = str(files[MASK])
    if tumor_codes is not None:
        return case | {"tumor_codes": list(tumor_codes)}
    case |= {"tumor_codes": list(volume.tumor_codes)} if volume.tumor_codes else {}
    return case | ({"region_codes": volume.region_codes} if volume.region_codes else {})


def _take_masks(root: Path, found: Found, pattern: str) -> None:
    """Masks by the user's pattern, in place of any others."""
    if "{case}" not in pattern:
        raise ValueError(f"masks is '{pattern}': it needs {{case}} in the place of the case's name")
    files = {path.name: path for path in visible_files(root)}
    found.cases = [
        volume for volume in found.cases if set(volume.files) & SEQUENCES.keys() or "channels" in volume.files
    ]
    for volume in found.cases:
        mask = files.get(pattern.replace("{case}", volume.name))
        volume.files = {**volume.files, **({MASK: mask} if mask else {})}
    if not any(MASK in volume.files for volume in found.cases):
        name = pattern.replace("{case}", found.cases[0].name) if found.cases else pattern
        raise ValueError(f"{root}: no mask is called {pattern}; of the first case that is {name}")


def image_cases(root: Path, source: str, four_classes: bool = False) -> Cases:
    """Find the images in a folder's `yes` and `no` folders (any case of letters, any file name).

    Args:
        root: holds `yes` and `no`, or Kaggle's four classes, with `Training` and `Testing` above them or not.
        source: name of this source.
        four_classes: read the four classes.

    Raises:
        ValueError: when the folder, or a class, is missing or empty.
    """
    require_folder(root, IMAGE_FOLDER)
    cases, predictions = [], 0
    for name, cls, folders in class_folders(root, four_classes):
        listed = [(place, folder, path) for place, folder in folders for path in visible_files(folder)]
        files = [entry for entry in listed if not is_prediction(entry[2])]
        predictions += len(listed) - len(files)
        if not files:
            raise ValueError(f"{root}: the class '{name}' has no image; put some into its folder")
        for place, folder, path in files:
            case: Case = {"id": f"{source}/{place}/{path.relative_to(folder).as_posix()}", "source": source}
            case |= {"kind": "image", "image": str(path), "cls": cls}
            cases.append(case | ({"class_name": name} if name in TUMORS else {}))
    return Cases(cases, {source: {PREDICTION: predictions} if predictions else {}}, image_notices(root, cases))
