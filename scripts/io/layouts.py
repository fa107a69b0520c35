"""Find the volumes of a data set in its published layout: the first matching reader of a table.

Each reader returns a `Found`: for every case its files by kind (see `filenames`), and skipped files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.filenames import KIND_OF, MASK, OTHER, PREDICTED, SEQUENCES, FileName, parse_name, stem
from ..core.label_codes import region_codes_of, tumor_codes_of
from .folders import folders_below, name_of, visible_files
from .kaggle_3m import is_slice_folder, sequences_in, slice_files

__all__ = [
    "PREDICTION",
    "UNNAMED",
    "UNTOLD",
    "VOLUMES",
    "Found",
    "Volume",
    "channel_names",
    "find_volumes",
    "is_prediction",
    "name_by_channel",
    "told_by_names",
]

UNNAMED = "unnamed"  # a scan of unknown sequence, with a mask of its name in another folder

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
# Folders whose names are neither a case nor a data set
UNTELLING = re.compile(
    r"^(?:\d+_)?(?:anat|nifti|nii|raw|data|images?|imgs?|scans?|volumes?|patients?|subjects?|derivatives|manual|train(?:ing)?|"
    r"test(?:ing)?|val(?:idation)?|hgg|lgg|images_\w+|\w*segm|masks?|labels?|seg|atlas|native|segmentations?|"
    r"[\w-]*-segmentation|VSD\..*|t1\w*|t2\w*|flair|ct1)$",
    re.IGNORECASE,
)
VISIT = re.compile(
    r"^(?:week|ses|session|time|timepoint|tp|visit|scan|day|month|pre|intra|post|preop|intraop|postop|baseline|followup|"
    r"fu|\d{4}-?\d\d-?\d\d)[-_]?\d*(?:[-_]\d+)?$",
    re.IGNORECASE,
)
UNTOLD = "no telling name"
PREDICTION = "a prediction of this bundle"
CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass
class Volume:
    """One case.

    Args:
        name: of the case.
        files: by kind: a key of `SEQUENCES`, `MASK`, `UNNAMED`, or "channels" for one file of four axes that holds all.
        tumor_codes: of its mask, if a description beside it names them.
        region_codes: the same of tumor core and enhancing tumor.
        channels: sequences in the file, or folder, "channels".
    """

    name: str
    files: dict[str, Path] = field(default_factory=dict)
    tumor_codes: tuple[int, ...] | None = None
    region_codes: dict[str, list[int]] | None = None
    channels: tuple[str, ...] = ()


@dataclass
class Found:
    """What a reader found: cases in the order of their names, and the files that belong to none, with the reason."""

    layout: str
    cases: list[Volume]
    skipped: dict[Path, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Skipped files by reason."""
        return dict(Counter(self.skipped.values()))


def find_volumes(root: Path) -> Found:
    """Cases below a folder, by the first layout that fits.

    Raises:
        ValueError: when two cases have one name, or a description is missing.
    """
    return next(found for read in LAYOUTS if (found := read(root)) is not None)


# --- nnU-Net raw (v1 and v2) and the Decathlon ---------------------------------------------------------------------
def _described(root: Path) -> Found | None:
    """`imagesTr` and `labelsTr` beside `dataset.json`: a channel a file (nnU-Net), or all in one (the Decathlon)."""
    below = sorted(path.parent for path in root.glob("*/imagesTr"))
    folder = root if (root / "imagesTr").is_dir() else below[0] if len(below) == 1 else None
    if folder is None:
        return None
    channels, description = channel_names(folder), _description(folder)
    if channels is None:
        raise ValueError(f"{folder}: dataset.json, which names the channels, is missing or damaged; restore it")
    labels = description.get("labels")
    labels = labels if isinstance(labels, dict) else {}
    codes = tuple(tumor_codes_of(labels)) or None, region_codes_of(labels)
    found = Found("nnU-Net" if "channel_names" in description else "nnU-Net or Decathlon", [])
    cases: dict[str, Volume] = {}
    for path in visible_files(folder / "imagesTr"):
        if not path.name.lower().endswith(VOLUMES):
            continue
        name, match = stem(path.name).name, CHANNEL.match(stem(path.name).name)
        split = match is not None and (len(channels) > 1 or not (folder / "labelsTr" / path.name).is_file())
        if match and split:
            case = cases.setdefault(match["case"], Volume(match["case"], {}, *codes))
            case.files[channels.get(int(match["channel"]), match["channel"])] = path
        else:
            case = cases.setdefault(name, Volume(name, {}, *codes))
            case.files[next(iter(channels.values())) if len(channels) == 1 else "channels"] = path
            case.channels = tuple(name for name in channels.values() if name in SEQUENCES)
    for case in cases.values():
        masks = [folder / "labelsTr" / f"{case.name}{suffix}" for suffix in VOLUMES]
        if there := [mask for mask in masks if mask.is_file()]:
            case.files[MASK] = there[0]
    found.cases = [cases[name] for name in sorted(cases)]
    return found


def channel_names(folder: Path) -> dict[int, str] | None:
    """Names of the channels by the `dataset.json` of nnU-Net or the Decathlon; None where there is none."""
    description = _description(folder)
    names = description.get("channel_names") or description.get("modality")
    if not isinstance(names, dict) or not names or not all(str(number).isdigit() for number in names):
        return None
    return {int(number): _channel(str(name)) for number, name in names.items()}


def name_by_channel(path: Path) -> FileName | None:
    """The sequence of an nnU-Net channel number, by `dataset.json` in the folder above."""
    match = CHANNEL.match(stem(path.name).name)
    names = channel_names(path.parent.parent) if match else None
    if match is None or names is None:
        return None
    kind = names.get(int(match["channel"]))
    return FileName(match["case"], kind, kind) if kind in SEQUENCES else None


def _description(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _channel(name: str) -> str:
    """The sequence of a channel's name, or the name itself."""
    kind = KIND_OF.get(re.sub(r"[^a-z0-9]", "", name.lower()))
    return kind if kind in SEQUENCES else name


# --- kaggle_3m --------------------------------------------------------------------------------------------------
def _slice_folders(root: Path) -> Found | None:
    """A folder of TIFF slices for every patient; see `kaggle_3m`."""
    found = Found("kaggle_3m", [])
    for folder in (folder for folder in folders_below(root) if is_slice_folder(folder)):
        files = {"channels": folder, **({MASK: folder} if slice_files(folder, masks=True) else {})}
        found.cases.append(Volume(folder.name, files, channels=sequences_in(folder)))
    return found if found.cases else None


# --- Files with known names ---------------------------------------------------------------------------------------
def _by_name(root: Path) -> Found:
    """Files at any depth, grouped by the case in their names, or in their folders' names."""
    found = Found("names", [])
    cases: dict[str, dict[str, list[tuple[FileName, Path]]]] = {}
    for path in visible_files(root):
        if not name_of(path).lower().endswith(VOLUMES):
            continue
        told = told_by_names(path, root)
        if is_prediction(path):
            found.skipped[path] = PREDICTION
        elif told.kind == OTHER:
            found.skipped[path] = told.word.lower()
        elif told.kind is None:
            found.skipped[path] = UNTOLD
        else:
            cases.setdefault(told.case, {}).setdefault(told.kind, []).append((told, path))
    for path in [path for path, why in found.skipped.items() if why == UNTOLD]:
        if set(cases.get(stem(name_of(path)).name, {})) == {MASK}:  # images/A.nii.gz beside labels/A.nii.gz
            cases[stem(name_of(path)).name][UNNAMED] = [(FileName(stem(name_of(path)).name), path)]
            del found.skipped[path]
    for name, kinds in cases.items():
        volume = Volume(name)
        for kind, files in kinds.items():
            files.sort(key=lambda entry: (len(entry[0].variants), str(entry[1])))
            _require_one(name, kind, files)
            volume.files[kind] = files[0][1]
            found.skipped |= {path: f"{kind} again" for _, path in files[1:]}
        found.cases.append(volume)
    found.cases = _with_masks_of_other_names(sorted(found.cases, key=lambda volume: volume.name))
    return found


def is_prediction(path: Path) -> bool:
    """Whether a file is of a prediction, by NAME.json beside it, and so neither a scan nor a reference."""
    name = PREDICTED.sub(".json", path.name)
    try:
        content = json.loads(path.with_name(name).read_text()) if PREDICTED.search(path.name) else {}
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "input_sha256" in content


def told_by_names(path: Path, root: Path) -> FileName:
    """Case and kind from a file's name, completed by the names of its folders below the root."""
    told = parse_name(name_of(path))
    above = [folder.name for folder in path.parents if folder.is_relative_to(root) and folder != root]
    if name_of(path) != path.name:
        above = above[1:]
    if told.kind is None and above and (folder := parse_name(above[0])) and not folder.case and folder.kind:
        return FileName(told.case, folder.kind, folder.word)
    if told.case and not VISIT.match(told.case):
        return told
    parts = [told.case] if told.case else []
    for name in above:  # from the file upwards: visits, then the patient
        if not UNTELLING.match(name):
            parts.insert(0, name)
            if not VISIT.match(name):
                break
    return FileName("_".join(parts) or root.name, told.kind, told.word, told.variants)


def _require_one(name: str, kind: str, files: Sequence[tuple[FileName, Path]]) -> None:
    """Refuse two files of one kind that are no variants of each other."""
    alike = [path for told, path in files if len(told.variants) == len(files[0][0].variants)]
    different = [path for path in alike[1:] if path.parent != alike[0].parent or path.suffix == alike[0].suffix]
    if different:
        title = "mask" if kind == MASK else SEQUENCES.get(kind, kind)
        raise ValueError(
            f"two files may be the {title} of {name}: {alike[0]} and {different[0]}; keep one of them here"
        )


def _with_masks_of_other_names(cases: Iterable[Volume]) -> list[Volume]:
    """Assign masks without a scan to a case: the only one in their folder, or the start of their name.

    `W39_1998.09.19_Segm.nii` of BraTS 2020's case 355 is of the first kind, `P01_glioma_seg.nii.gz` of the second.
    """
    volumes = list(cases)
    without = {volume.name: volume for volume in volumes if MASK not in volume.files}
    kept = []
    for volume in volumes:
        mask = volume.files.get(MASK) if set(volume.files) == {MASK} else None
        beside = [v for v in without.values() if mask and mask.parent in {f.parent for f in v.files.values()}]
        if mask and len(beside) != 1:
            beside = [v for v in without.values() if re.match(re.escape(v.name) + r"[-_. ]", volume.name)]
        if mask and len(beside) == 1:
            without.pop(beside[0].name).files[MASK] = mask
        else:
            kept.append(volume)
    return kept


LAYOUTS: tuple[Callable[[Path], Any], ...] = (_described, _slice_folders, _by_name)
