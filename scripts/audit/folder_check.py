"""Check folders of data before training: how they are read, and problems.

Uses preprocessing's own lists (`datalists`) and transforms, and evaluation's own leakage
checks, so that messages are the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
from PIL import Image

from ..dataset.known_cases import known_cases
from ..dataset.near_duplicates import same_picture
from ..inference.sequence_by_look import SequenceClassifier
from ..io.datalists import Cases, counts_in_words, image_cases, own_name, regroup, volume_cases
from ..io.image_classes import is_image_folder
from ..io.notices import Notice, shown
from ..io.scan_lists import named_path, survey
from ..networks.weights import trained_on
from ..transforms.preprocessing import BACKGROUND, BRIGHTEST
from .baselines import forest, out_of_fold
from .looked_at import LookedAt, look_into
from .picture_properties import file_properties

__all__ = ["check_folders", "in_words"]

FEWEST_PATIENTS, SCARCE, MANY = 3, 10, 100
FEWEST_PICTURES = 20  # of which a baseline can be cross-validated
FILES_TELL = 0.75  # AUC of the file properties
THICK, UNEVEN = 6.0, 2.0  # mm between slices; ratio of spacings within one source


def check_folders(
    folders: Sequence[str],
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    model_path: str | Path,
    min_brain_pixels: int,
    modalities: Sequence[str] = ("flair",),
    looks: SequenceClassifier | None = None,
    groups_file: str | None = None,
    four_classes: bool = False,
    seconds: float = 10.0,
    seed: int = 0,
    labeled: Sequence[str] = (),
    **how_to_read: Any,
) -> dict[str, Any]:
    """Check folders of volumes and of images in classes.

    Args:
        folders: each "DIR" or "NAME=DIR".
        transform: of preprocessing.
        model_path: weights, which checked for training cases.
        min_brain_pixels: a slice with less tissue shows no brain.
        modalities: that the weights read.
        looks: classifier of sequences, if there is one.
        groups_file: patients by the user's table.
        four_classes: read Kaggle's four classes as yes and no.
        seconds: time limit for reading cases; names are always checked.
        seed: of the baseline's folds.
        labeled: those of the folders that may not hold scans alone, without masks or classes.
        how_to_read: for `volume_cases`: masks, tumor_codes.

    Returns:
        Plain JSON: "sources" by name (folder, kind, layout, counts, facts), "findings" (code, level, text, cases; the
        worst first), "looked_at" and "cases" (numbers), "suggestion" (preset, network, folds, reasons).
    """
    parts, notices, sources = [], [], {}
    for entry in folders:
        name, folder = named_path(entry)
        name = name or own_name(folder)
        if name in sources:
            text = f"two sources are called '{name}', name one of them NAME=DIR"
            notices.append(Notice("source_name", "error", text))
            continue
        part, said = _listed(name, folder, modalities, four_classes, how_to_read)
        parts.append(part)
        asked = _to_predict(folder, modalities)
        if asked["scans"] and not part and not is_image_folder(folder) and entry not in labeled:
            said = [replace(one, level="warning", text=f"{one.text}; its scans can be predicted") for one in said]
        notices += said
        sources[name] = {"folder": str(folder), **({} if not part else part.counts().get(name, {}))}
        sources[name]["predict"] = asked
    cases = Cases.of(parts)
    try:
        regroup(cases, groups_file)
    except ValueError as error:
        notices.append(Notice("groups", "error", str(error)))
    looked = look_into(cases, transform, min_brain_pixels, modalities, looks, seconds)
    notices += [*cases.notices, *(notice for one in looked for notice in one.notices)]
    notices += [*_of_patients(cases), *_of_masks(looked), *_of_geometry(looked), *_of_copies(looked)]
    notices += [*_of_known(looked, model_path), *_of_files(looked, seed)]
    for name in sources:
        sources[name]["facts"] = _facts([one for one in looked if one.case["source"] == name])
    worst = {"error": 0, "warning": 1, "note": 2}
    return {
        "cases": len(cases),
        "looked_at": len(looked),
        "sources": sources,
        "findings": [_as_json(notice) for notice in sorted(notices, key=lambda n: worst[n.level])],
        "suggestion": _suggestion(cases),
    }


def _as_json(notice: Notice) -> dict[str, Any]:
    return {"code": notice.code, "level": notice.level, "text": notice.text, "cases": list(notice.cases)}


def _listed(
    name: str, folder: Path, modalities: Sequence[str], four_classes: bool, how_to_read: Mapping[str, Any]
) -> tuple[Cases, list[Notice]]:
    """Cases of one folder, or why there are none."""
    try:
        if folder.is_dir() and is_image_folder(folder):
            cases = image_cases(folder, name, four_classes)
        else:
            cases = volume_cases(folder, modalities, name, **how_to_read)
    except ValueError as error:
        return Cases(), [Notice("layout", "error", str(error))]
    strange = [ascii(case["id"]) for case in cases if not case["id"].isprintable()]
    said = f"{folder}: names that are not printable: {shown(strange)}; rename them"
    return cases, [Notice("name", "error", said, tuple(strange))] if strange else []


def _to_predict(folder: Path, modalities: Sequence[str]) -> dict[str, Any]:
    """What `predict` would take of a folder by its names."""
    try:
        scans, over = survey(folder, modalities=modalities)
    except ValueError as error:
        return {"scans": 0, "error": str(error)}
    return {"scans": len(scans), "skipped": dict(Counter(over.values()))}


def _of_patients(cases: Cases) -> Iterator[Notice]:
    patients = {case["group"] for case in cases if case["kind"] == "volume"}
    if patients and len(patients) < FEWEST_PATIENTS:
        text = f"volumes of {len(patients)} patients: training, validation and test need at least {FEWEST_PATIENTS}"
        yield Notice("few_patients", "error", text)
    by_class = Counter(case["cls"] for case in cases if "cls" in case)
    if by_class and min(by_class.values()) * 10 < max(by_class.values()):
        yield Notice("uneven_classes", "warning", f"images: {by_class[1]} yes, {by_class[0]} no: one class is rare")


def _of_masks(looked: Sequence[LookedAt]) -> Iterator[Notice]:
    masks = [one for one in looked if "negative" in one.facts]
    negative = [one.case["id"] for one in masks if one.facts["negative"]]
    if negative and len(negative) == len(masks):
        yield Notice(
            "all_masks_empty", "error", f"all {len(masks)} masks that were looked at are empty", tuple(negative)
        )
    elif negative:
        yield Notice("empty_masks", "note", f"masks without a tumor: {shown(negative)}", tuple(negative))


def _of_geometry(looked: Sequence[LookedAt]) -> Iterator[Notice]:
    volumes = [one for one in looked if one.case["kind"] == "volume" and "spacing_mm" in one.facts]
    flat = [one.case["id"] for one in volumes if min(one.facts["shape"]) == 1]
    if flat:
        yield Notice("single_slice", "warning", f"volumes of one slice, read as images: {shown(flat)}", tuple(flat))
    thick = [one.case["id"] for one in volumes if max(one.facts["spacing_mm"]) > THICK and one.case["id"] not in flat]
    if thick:
        yield Notice("thick_slices", "note", f"slices more than {THICK:.0f} mm apart: {shown(thick)}", tuple(thick))
    planes = {one.case["id"]: min(one.facts["spacing_mm"]) for one in volumes}
    if planes and max(planes.values()) > UNEVEN * min(planes.values()):
        text = f"pixel spacings differ: {min(planes.values())} to {max(planes.values())} mm"
        yield Notice("mixed_spacing", "note", text)


def _of_copies(looked: Sequence[LookedAt]) -> Iterator[Notice]:
    """The same content or picture under two names, worst where the classes differ."""
    same: dict[str, list[LookedAt]] = defaultdict(list)
    for one in looked:
        if "sha256" in one.case:
            same[one.case["sha256"]["image"]].append(one)
    for group in same.values():
        names = tuple(one.case["id"] for one in group)
        if len({one.case.get("cls") for one in group}) > 1:
            yield Notice("class_conflict", "error", f"the same file is in yes and in no: {shown(names)}", names)
        elif len(group) > 1:
            yield Notice("copies", "warning", f"the same content under several names: {shown(names)}", names)
    pictures = [(one, _hash(one)) for one in looked if one.picture is not None and "cls" in one.case]
    for (one, mine), (other, its) in combinations(pictures, 2):
        differ = one.case["cls"] != other.case["cls"] and one.case["sha256"] != other.case["sha256"]
        if differ and mine and its and same_picture(mine, its):
            names = (one.case["id"], other.case["id"])
            yield Notice(
                "class_conflict_by_look", "warning", f"the same picture is in yes and in no: {shown(names)}", names
            )


def _hash(one: LookedAt) -> str | None:
    """Perceptual hash of a picture, as splits take it; None of one that is blank."""
    if one.picture is None:
        return None
    gray = ((one.picture - BACKGROUND) * (255 / (BRIGHTEST - BACKGROUND))).astype(np.uint8)
    picture = Image.fromarray(gray)
    return str(imagehash.phash(picture.crop(picture.getbbox()))) if picture.getbbox() else None


def _of_known(looked: Sequence[LookedAt], model_path: str | Path) -> Iterator[Notice]:
    seen = trained_on(model_path) if Path(model_path).is_file() else {}
    cases = [{**one.case, "phash": _hash(one)} for one in looked]
    if known := known_cases(cases, seen):
        first, by = next(iter(known.items()))
        text = f"the weights have seen {len(known)} of the cases that were looked at, such as {first} (by its {by})"
        sure = set(known.values()) != {"name"}  # a name alone may be a coincidence, as "1 no.jpg" often is
        yield Notice("seen", "warning" if sure else "note", f"{text}; evaluate refuses them", tuple(known))


def _of_files(looked: Sequence[LookedAt], seed: int) -> Iterator[Notice]:
    """Whether file properties predict the classes: the baseline of the shortcut audit, by source."""
    for source in dict.fromkeys(one.case["source"] for one in looked if "cls" in one.case):
        of = [one for one in looked if one.case["source"] == source and "cls" in one.case and one.facts]
        labels = np.array([one.case["cls"] for one in of], dtype=bool)
        if len(of) < FEWEST_PICTURES or min(labels.sum(), (~labels).sum()) < FEWEST_PICTURES // 4:
            continue
        properties, readable = file_properties([one.case["image"] for one in of])
        if not readable.all():
            continue
        groups = np.array([_hash(one) or one.case["id"] for one in of])
        found = out_of_fold(forest(seed), properties, labels, groups, seed)
        if found is None:
            continue
        above = found[labels, 1][:, None] - found[~labels, 1][None]
        auc = float((above > 0).mean() + 0.5 * (above == 0).mean())
        if auc >= FILES_TELL:
            text = f"{source}: size, format and border of the files predict the class (AUC {auc:.2f}, n = {len(of)})"
            yield Notice("files_tell_class", "warning", f"{text}: a classifier may learn them in place of the tumor")


def _facts(looked: Sequence[LookedAt]) -> dict[str, Any]:
    """What the cases of one source that were looked at have in common."""
    known = [one.facts for one in looked if one.facts]
    spacings = [f["spacing_mm"] for f in known if "spacing_mm" in f]
    likes = Counter(max(f["looks"], key=f["looks"].get) for f in known if f.get("looks"))
    codes = sorted({code for f in known for code in f.get("codes", {})}, key=int)
    return {
        "looked_at": len(looked),
        "skull": dict(Counter(f["skull"] for f in known).most_common()),
        "looks_like": dict(likes.most_common()),
        "orientations": dict(Counter(f["orientation"] for f in known if "spacing_mm" in f).most_common()),
        "spacing_mm": [[min(axis), max(axis)] for axis in zip(*spacings, strict=True)] if spacings else None,
        "shapes": sorted({"x".join(map(str, f["shape"])) for f in known})[:5],
        "label_codes": codes,
        "without_tumor": sum(bool(f.get("negative")) for f in known),
    }


def _suggestion(cases: Cases) -> dict[str, Any]:
    """Preset, network and folds by how many patients and images there are."""
    patients = len({case["group"] for case in cases if case["kind"] == "volume"})
    reasons = [f"{patients} patients, {sum(case['kind'] == 'image' for case in cases)} images"]
    if patients < SCARCE:
        preset, network, folds = "quick", "cpu", max(patients, 1)
        reasons.append("few patients: leave one out, for a score of two test patients says little")
    elif patients < MANY:
        preset, network, folds = "baseline", "cpu", 5
        reasons.append("tens of patients: the small network, which overfits less, on five folds")
    else:
        preset, network, folds = "full", "base", 5
        reasons.append("a hundred patients and more: long epochs and the larger network, on a GPU")
    return {"preset": preset, "network": network, "folds": folds, "reasons": reasons}


def in_words(found: Mapping[str, Any]) -> str:
    """The result as lines for a terminal."""
    lines = [f"{found['cases']} cases; looked into {found['looked_at']}"]
    for name, source in found["sources"].items():
        counts = counts_in_words({k: v for k, v in source.items() if k not in ("folder", "predict", "facts")})
        lines += [f"{name}: {source['folder']}", f"  {counts or 'no labeled case'}", f"  {_predict_in_words(source)}"]
        facts = source["facts"]
        lines += [
            f"  {key.replace('_', ' ')}: {_plain(facts[key])}" for key in facts if facts[key] and key != "looked_at"
        ]
    lines += [f"{finding['level']}: {finding['text']} [{finding['code']}]" for finding in found["findings"]]
    if not found["cases"]:
        return "\n".join(lines)
    suggestion = found["suggestion"]
    lines.append("suggested: --preset {preset} --network {network}, {folds} folds".format(**suggestion))
    return "\n".join([*lines, *(f"  {reason}" for reason in suggestion["reasons"])])


def _predict_in_words(source: Mapping[str, Any]) -> str:
    asked = source["predict"]
    passed = ", ".join(f"{count} x {why}" for why, count in asked.get("skipped", {}).items())
    return f"predict: {asked['scans']} scans" + (f"; skipped: {passed}" if passed else "")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    if isinstance(value, list) and value and isinstance(value[0], list):
        return " x ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
