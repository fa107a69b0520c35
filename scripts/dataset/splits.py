"""The split into training, validation and test: one file of ids, hashes, clusters and folds.

Volumes are grouped by patient, images by near-duplicate cluster. The file has, for each case, which of `folds` folds it
is in; fold k is the test set, fold k + 1 validates, the others train. So one file serves a single split and a whole
cross-validation.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from ..core.files import read_json, write_json
from ..core.regions import WHOLE_TUMOR
from ..core.shared_work import is_first_process, wait_for_all
from ..io.datalists import Case
from ..transforms.preprocessing import BACKGROUND, BRIGHTEST
from .near_duplicates import near_duplicates
from .slice_store import SliceStore

__all__ = [
    "assert_disjoint",
    "data_fingerprint",
    "load_split",
    "make_split",
    "write_split",
]

SUBSETS = ("train", "val", "test")


def write_split(
    store_dir: str | Path, split_file: str | Path, folds: int, seed: int, image_folds: int | None = None
) -> dict[str, Any]:
    """Make the split file of a store, or keep the one that fits its data.

    Args:
        store_dir: a slice store.
        split_file: the split file. An existing file is kept if it was made for the same data and settings;
            otherwise it is an error: a silent change could move patients from training to test.
        folds: number of folds; more than there are patients means leave one patient out; 1 trains nothing, all is test.
        seed: of the shuffle.
        image_folds: number of folds of the images, if not the same: further folds test volumes only.

    Of several processes that `torchrun` started the first makes it, and all get it.

    Raises:
        ValueError: when an existing file was made for other data or settings.
    """
    if is_first_process():
        _write_split(store_dir, Path(split_file), folds, seed, image_folds)
    wait_for_all()
    return _read_split(split_file)


def _write_split(store_dir: str | Path, split_file: Path, folds: int, seed: int, image_folds: int | None) -> None:
    store = SliceStore(store_dir)
    asked = {"folds": folds, "image_folds": image_folds or folds, "seed": seed}
    cases = store.cases()
    if split_file.is_file():
        split = _read_split(split_file)
        if split["data_fingerprint"] != data_fingerprint(cases):
            raise ValueError(f"{split_file}: made for other data; remove it, or choose another folder")
        if split.get("asked", asked) != asked:  # files written before 0.4.0 lack it
            made, wanted = (", ".join(f"{k} {v}" for k, v in way.items()) for way in (split["asked"], asked))
            raise ValueError(f"{split_file}: made with {made}, not {wanted}; remove it, or choose another folder")
        return
    pictures = [fingerprint_image(store, case) for case in cases]
    write_json(split_file, {"asked": asked, **make_split(cases, pictures, folds, seed, image_folds)})


def _read_split(path: str | Path) -> dict[str, Any]:
    remedy = "remove it and run the preprocessing again: with the same data and seed it makes the same split"
    split: dict[str, Any] = read_json(path, remedy)
    if not isinstance(split, dict) or not {"data_fingerprint", "cases"} <= split.keys():
        raise ValueError(f"{path}: not a split, {remedy}")
    return split


def fingerprint_image(store: SliceStore, case: Case) -> Image.Image | None:
    """Picture of an image for comparison, from the network's input; None for volumes and their slices."""
    if case["kind"] != "image" or _is_slice(case):
        return None
    plane = store.read(case["id"], 0)[0][0]
    gray = (plane - BACKGROUND) * (255 / (BRIGHTEST - BACKGROUND))
    picture = Image.fromarray(gray.astype(np.uint8))
    return picture.crop(picture.getbbox())


def make_split(
    cases: Sequence[Case],
    pictures: Sequence[Image.Image | None],
    folds: int,
    seed: int,
    image_folds: int | None = None,
) -> dict[str, Any]:
    """Distribute cases over folds: patients and near-duplicates together, classes evenly.

    The result does not depend on the order of the cases.

    Args:
        cases: from a store: id, source, kind, sha256, and cls or tumor_pixels; volumes and their slices "group".
        pictures: picture of each image for comparison, None for volumes and their slices.
        folds: 1, or at least 3.
        seed: of the shuffle.
        image_folds: of the images, if not the same.
    """
    order = sorted(range(len(cases)), key=lambda i: cases[i]["id"])
    cases, pictures = [cases[i] for i in order], [pictures[i] for i in order]
    hashes = [str(imagehash.phash(picture)) if picture else None for picture in pictures]
    clusters = iter(near_duplicates([picture for picture in pictures if picture]))
    patient = _one_name_a_patient(cases)
    groups = [
        f"cluster/{next(clusters)}" if picture else patient.get(case["group"], str(case["group"]))
        for case, picture in zip(cases, pictures, strict=True)
    ]
    fold_of = _folds(cases, groups, {"volume": folds, "image": image_folds or folds}, seed)
    return {
        "seed": seed,
        "folds": max(folds, image_folds or folds),
        "data_fingerprint": data_fingerprint(cases),
        "cases": {
            case["id"]: {
                "source": case["source"],
                "group": groups[i],
                "fold": fold_of[i],
                "sha256": case["sha256"]["image"],
                **({"phash": hashes[i]} if hashes[i] else {}),
            }
            for i, case in enumerate(cases)
        },
    }


def _one_name_a_patient(cases: Sequence[Case]) -> dict[str, str]:
    """Patient of each volume by name; names that share a volume's content are one patient."""
    volumes = [case for case in cases if case["kind"] == "volume"]
    names = sorted({case["group"] for case in volumes})
    contents = sorted({case["sha256"]["image"] for case in volumes})
    ties = lil_matrix((len(names) + len(contents),) * 2, dtype=bool)
    for case in volumes:
        ties[names.index(case["group"]), len(names) + contents.index(case["sha256"]["image"])] = True
    _, labels = connected_components(ties, directed=False)
    return {name: names[int(np.flatnonzero(labels == label)[0])] for name, label in zip(names, labels, strict=False)}


def _folds(cases: Sequence[Case], groups: Sequence[str], folds: Mapping[str, int], seed: int) -> list[int]:
    """Fold of each case: volumes and images are distributed on their own, slices of volumes follow their patient."""
    fold_of = [0] * len(cases)
    if max(folds.values()) == 1:
        return fold_of
    for kind, wanted in folds.items():
        members = [i for i, case in enumerate(cases) if case["kind"] == kind and not _is_slice(case)]
        for i, fold in zip(members, _distributed(cases, groups, members, kind, wanted, seed), strict=True):
            fold_of[i] = fold
    fold_of_group = {groups[i]: fold_of[i] for i, case in enumerate(cases) if case["kind"] == "volume"}
    for i in (i for i, case in enumerate(cases) if _is_slice(case)):
        fold_of[i] = fold_of_group.get(groups[i], 0)  # an unreadable volume has none
    return fold_of


def _distributed(
    cases: Sequence[Case], groups: Sequence[str], members: Sequence[int], kind: str, wanted: int, seed: int
) -> list[int]:
    """Fold of each member."""
    folds = [0] * len(members)
    if not members:
        return folds
    if wanted < 3:
        raise ValueError(f"{kind} folds are {wanted}, at least 3 are needed to train, validate and test")
    count = min(wanted, len({groups[i] for i in members}))
    if count < 3:
        raise ValueError(f"{count} separate {kind}s cannot be split, at least 3 patients or clusters are needed")
    strata = [_stratum(cases[i]) for i in members]
    # scikit-learn does not stratify into more folds than the largest stratum has members, as leaving one out does
    splitting = StratifiedGroupKFold if count <= max(Counter(strata).values()) else GroupKFold
    splitter = splitting(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a stratum may be smaller than the number of folds
        for fold, (_, chosen) in enumerate(splitter.split(members, strata, [groups[i] for i in members])):
            for position in chosen:
                folds[position] = fold
    return folds


def _is_slice(case: Case) -> bool:
    """Whether an image is a slice of a volume, of which the patient is known."""
    return bool(case["kind"] == "image" and "group" in case)


def _part(case: Case) -> str:
    """Kind of the folds of a case: slices of volumes are in those of the volumes."""
    return "volume" if _is_slice(case) else str(case["kind"])


def _stratum(case: Case) -> str:
    """Stratum of a case: the class of an image, or its type; of a volume whether it has a tumor, tumor-free slices."""
    if case["kind"] == "image":
        return f"{case['source']}/{case.get('class_name', case['cls'])}"
    pixels = case.get("tumor_pixels")
    if pixels is None:
        return f"{case['source']}, no mask"
    return (
        f"{case['source']}, {'tumor' if any(pixels) else 'no tumor'}, {'some' if 0 in pixels else 'no'} slices without"
    )


def data_fingerprint(cases: Iterable[Case]) -> str:
    """Hash of names and contents of the files, independent of order and folder."""
    lines = sorted(f"{case['id']} {json.dumps(case['sha256'], sort_keys=True)}" for case in cases)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_split(
    split_file: str | Path,
    store_dir: str | Path,
    fold: int | None = 0,
    modalities: Sequence[str] | None = None,
    validation: bool = True,
    sources: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> dict[str, list[Case]]:
    """Cases of the training, validation and test set.

    Args:
        split_file: from `write_split`.
        store_dir: the slice store that it was made for.
        fold: the test fold; all cases are the test set where the split has one fold only. None: every case trains.
        modalities: required modalities of the store; None: any.
        validation: False lets the validation fold train as well.
        sources: names of the training sources; the others are only in the test set. None: all.
        regions: required regions of the store's masks; None: any.

    Returns:
        {"train": ..., "val": ..., "test": ...}, disjoint in ids, patients, clusters and contents. A case takes its
        group from the split file.

    Raises:
        ValueError: when the file is missing or made for other data, a source is unknown, or two sets share anything.
    """
    store = SliceStore(store_dir)
    cases, stored = store.cases(), {"regions": list(WHOLE_TUMOR), **store.index["settings"]}
    for name, asked in {"modalities": modalities, "regions": regions}.items():
        if asked is not None and list(asked) != stored.get(name):
            raise ValueError(f"{store_dir}: holds the {name} {stored.get(name)}, {list(asked)} are asked for")
    if not Path(split_file).is_file():
        raise ValueError(f"{split_file}: no split here, preprocessing makes one")
    split = _read_split(split_file)
    if split["data_fingerprint"] != data_fingerprint(cases):
        raise ValueError(f"{split_file}: made for other data than {store_dir} holds; run preprocessing again")
    unknown = sorted(set(sources or ()) - {case["source"] for case in cases})
    if unknown:
        raise ValueError(f"{store_dir}: holds no source {', '.join(unknown)}")
    last = max(entry["fold"] for entry in split["cases"].values())  # fewer folds than requested if patients are few
    if fold is not None and fold not in range(last + 1):
        raise ValueError(f"fold is {fold}, {split_file} has folds 0 to {last}")
    subsets: dict[str, list[Case]] = {name: [] for name in SUBSETS}
    counts: dict[str, int] = {}  # folds of volumes and of images
    for case in cases:
        counts[_part(case)] = max(counts.get(_part(case), 0), 1 + split["cases"][case["id"]]["fold"])
    for case in cases:
        entry = split["cases"][case["id"]]
        role = "train" if fold is None else _role(entry["fold"], fold, counts[_part(case)], validation)
        if role == "test" or sources is None or case["source"] in sources:
            subsets[role].append({**case, "group": entry["group"], "phash": entry.get("phash")})
    assert_disjoint(subsets)
    return subsets


def _role(own: int, fold: int, count: int, validation: bool) -> str:
    """The set of a case, by its fold and the test fold; beyond its kind's `count` the kind has no test set."""
    if own == fold:
        return "test"
    return "val" if validation and own == (fold + 1) % count else "train"


def assert_disjoint(subsets: Mapping[str, Sequence[Case]]) -> None:
    """Refuse sets that share an id, a patient or cluster, the bytes of an image, or its perceptual hash.

    Raises:
        ValueError: naming the two sets and what they share.
    """
    owner: dict[tuple[str, str], tuple[str, str]] = {}
    for name, cases in subsets.items():
        for case in cases:
            identities = {"id": case["id"], "group": case["group"], "content": case["sha256"]["image"]}
            if case.get("phash"):
                identities["image hash"] = case["phash"]
            for kind, value in identities.items():
                other, other_id = owner.setdefault((kind, value), (name, case["id"]))
                if other != name:
                    raise ValueError(f"{case['id']} ({name}) and {other_id} ({other}) share their {kind} {value}")
