"""Notices about the files of a data folder, by their names: missing masks, visits, broken links."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core.filenames import MASK, SEQUENCES
from .folders import broken_links
from .layouts import PREDICTION, UNNAMED, UNTOLD, Found
from .patients import like_visits

__all__ = ["Level", "Notice", "image_notices", "visit_notices", "volume_notices"]

Level = Literal["error", "warning", "note"]  # would stop or spoil the run; should be checked; information

MASK_WORDS = ("seg", "mask", "label", "tumor", "tumour", "lesion", "roi", "gt", "annot", "contour", "delin")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".dcm", "")
SHOWN = 3  # names in one line


@dataclass(frozen=True)
class Notice:
    """A notice about the data.

    Args:
        code: its kind, stable.
        level: "error", "warning" or "note".
        text: one line, with the names of some and the remedy.
        cases: the ids or files that it is about.
    """

    code: str
    level: Level
    text: str
    cases: tuple[str, ...] = ()


def shown(names: Collection[str]) -> str:
    """The first names, and the number of others.

    >>> shown(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = sorted(names)
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def volume_notices(root: Path, found: Found, modalities: Sequence[str]) -> Iterator[Notice]:
    """Notices about a folder of volumes.

    Args:
        root: the folder.
        found: its cases.
        modalities: sequences that are asked for.
    """
    cases = found.cases
    scans = [volume for volume in cases if set(volume.files) - {MASK}]
    yield from _masks(root, found, [volume.name for volume in scans if MASK not in volume.files], len(scans))
    if alone := [volume.name for volume in cases if set(volume.files) == {MASK}]:
        yield Notice("mask_without_scan", "error", f"{root}: masks without a scan: {shown(alone)}", tuple(alone))
    for modality in modalities:
        others = [v for v in scans if modality not in v.files and not {"channels", UNNAMED} & v.files.keys()]
        if others:
            names = [volume.name for volume in others]
            text = f"{root}: no {SEQUENCES.get(modality, modality)} is found of {shown(names)}"
            none = [volume for volume in others if not set(modalities) & volume.files.keys()]
            yield Notice("sequence_missing", "error" if none else "warning", text, tuple(names))
    if unnamed := [v.name for v in cases if UNNAMED in v.files and not set(modalities) & v.files.keys()]:
        taken = "any of " if len(modalities) > 1 else ""
        text = f"{root}: no name states the sequence of {shown(unnamed)}; taken for {taken}{', '.join(modalities)}"
        yield Notice("sequence_untold", "warning", text, tuple(unnamed))
    yield from _links(root)


def _masks(root: Path, found: Found, without: list[str], count: int) -> Iterator[Notice]:
    untold = [path for path, why in found.skipped.items() if why == UNTOLD]
    alike = [str(path.relative_to(root)) for path in untold if any(word in path.name.lower() for word in MASK_WORDS)]
    pattern = "--masks '{case}_NAME.nii.gz'"
    hint = f"; these files look like masks: {shown(alike)}; name them: {pattern}" if alike else ""
    if not alike and PREDICTION in found.skipped.values():
        hint = "; predictions are no masks, rename those that were corrected by hand: CASE_seg.nii.gz"
    if without and len(without) == count:
        hint = hint or f"; put CASE_seg.nii.gz beside each, or name them: {pattern}"
        yield Notice("no_masks", "error", f"{root}: {count} cases, 0 masks{hint}", tuple(without))
    elif without:
        text = f"{root}: {len(without)} of {count} cases have no mask: {shown(without)}{hint}"
        yield Notice("masks_missing", "warning", text, tuple(without))


def _links(root: Path) -> Iterator[Notice]:
    if lost := [str(path.relative_to(root)) for path in broken_links(root)]:
        yield Notice("broken_link", "warning", f"{root}: links that lead nowhere: {shown(lost)}", tuple(lost))


def image_notices(root: Path, cases: Sequence[Mapping[str, Any]]) -> Iterator[Notice]:
    """Notices about a folder of images in classes."""
    if strange := [case["id"] for case in cases if Path(case["image"]).suffix.lower() not in PICTURES]:
        yield Notice("no_picture", "error", f"{root}: no pictures by their names: {shown(strange)}", tuple(strange))
    yield from _links(root)


def visit_notices(names: Collection[str]) -> Iterator[Notice]:
    """Notice names that look like visits of one patient where no rule names the patient."""
    if alike := like_visits(names):
        visits = [name for listed in alike.values() for name in listed]
        yield Notice(
            "visits",
            "warning",
            f"{shown(visits)}: are these visits of {shown(alike)}? No rule for names says so, and each counts as a "
            "patient of its own; a table (--groups FILE.csv with the columns case,patient) says whose they are",
            tuple(visits),
        )
