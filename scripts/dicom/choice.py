"""Choose the slices to read from a folder with several series, echoes or orientations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .frames import SAME_PLACE_MM, Frame, is_parallel
from .headers import DicomError, image_type_of, sequence_of_headers

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["choose"]

FEW = 5  # slices: fewer are no volume of a head
SAME_ECHO = 0.05  # of the echo time
SCOUT_SLICES = 7  # at most, in each of three planes
ALONG = 0.7  # of a unit vector: its slices are axial
# By number in `_rank`: the first in which the chosen series differs from the second decides.
RULES = ("sequence", "original", "slices", "plane", "slices", "echo", "number")


class Group(NamedTuple):
    """Slices of one series, size, orientation, spacing, part and echo."""

    frames: list[Frame]
    dataset: Dataset  # of the first of them


def choose(datasets: Sequence[Dataset], frames: Sequence[Frame], wanted: Sequence[str]) -> tuple[list[Frame], str]:
    """Choose the slices of one volume.

    Repeated slices are read once. Of several series, echoes or orientations one is chosen by the first of these rules
    that decides: a wanted sequence by the header, before an unknown one, before another one; original magnitude images
    before derived and phase images; five slices and more before fewer; axial before other planes; more slices; the
    longer echo; the lower SeriesNumber.

    Args:
        datasets: the files.
        frames: of all files, not decoded.
        wanted: names of the sequences to read.

    Returns:
        The frames; and the JSON of a `ChosenSeries` if there was more than one series, else "".

    Raises:
        DicomError: when no rule decides, for series of several patients, or for a localizer.
    """
    groups = _without_scouts([part for group in _groups(datasets, frames) for part in _by_echo(group, datasets)])
    if len(groups) == 1:
        return groups[0].frames, ""
    patients = {str(group.dataset.get("PatientID", "") or "") for group in groups} - {""}
    if len(patients) > 1:
        reason = f"holds series of {len(patients)} patients, by PatientID; give each a folder of its own"
        raise DicomError(reason, "geometry")
    ranked = sorted(((_rank(group, wanted), i) for i, group in enumerate(groups)), key=lambda pair: pair[0])
    (best, index), (second, _) = ranked[:2]
    rule = next((name for name, mine, its in zip(RULES, best, second, strict=True) if mine != its), None)
    if rule is None:
        raise DicomError(
            f"holds {len(groups)} series and no rule decides between them; name the folder of one", "geometry"
        )
    return groups[index].frames, _said(groups[index], len(groups), rule)


def _groups(datasets: Sequence[Dataset], frames: Sequence[Frame]) -> list[Group]:
    """Frames by volume, without repeated ones."""
    found: dict[tuple[object, ...], list[Group]] = {}
    for frame in frames:
        dataset = datasets[frame.instance]
        series = str(dataset.get("SeriesInstanceUID", ""))
        alike = found.setdefault((series, frame.part, frame.pixels.shape), [])
        group = next((group for group in alike if is_parallel(frame, group.frames[0])), None)
        if group is None:
            alike.append(Group([frame], dataset))
        else:
            group.frames.append(frame)
    return [Group(_once(group.frames, datasets), group.dataset) for groups in found.values() for group in groups]


def _once(frames: Sequence[Frame], datasets: Sequence[Dataset]) -> list[Frame]:
    """Frames without repeated instances, and without repeated pixels at one position."""
    seen: dict[object, list[Frame]] = {}
    kept = []
    for frame in frames:
        dataset = datasets[frame.instance]
        keys: list[object] = [(dataset.PixelData, frame.number)]
        keys += [(uid, frame.number)] if (uid := str(dataset.get("SOPInstanceUID", ""))) else []
        if any(_in_one_place(frame, other) for key in keys for other in seen.get(key, ())):
            continue
        kept.append(frame)
        for key in keys:
            seen.setdefault(key, []).append(frame)
    return kept


def _in_one_place(frame: Frame, other: Frame) -> bool:
    places = [(*one.position, 0.0 if one.location is None else one.location) for one in (frame, other)]
    near = bool(np.abs(np.subtract(*places)).max() <= SAME_PLACE_MM)
    return near and abs(frame.echo - other.echo) <= SAME_ECHO * frame.echo


def _by_echo(group: Group, datasets: Sequence[Dataset]) -> list[Group]:
    """Split a group by echo time if slices of several echoes lie at one position."""
    heights = np.sort([float(frame.position @ frame.normal) for frame in group.frames])
    if len(heights) < 2 or np.diff(heights).min() > SAME_PLACE_MM:
        return [group]
    echoes: list[list[Frame]] = []
    for frame in sorted(group.frames, key=lambda frame: frame.echo):
        if echoes and frame.echo - echoes[-1][0].echo <= SAME_ECHO * frame.echo:
            echoes[-1].append(frame)
        else:
            echoes.append([frame])
    return [Group(frames, datasets[frames[0].instance]) for frames in echoes]


def _without_scouts(groups: Sequence[Group]) -> list[Group]:
    """Leave out series with a few slices in each of three planes.

    Raises:
        DicomError: when there are no other series.
    """
    planes: dict[str, set[int]] = {}
    for group in groups:
        axis = int(np.abs(group.frames[0].normal).argmax()) if len(group.frames) <= SCOUT_SLICES else -1
        planes.setdefault(_uid(group), set()).add(axis)
    others = [group for group in groups if planes[_uid(group)] != {0, 1, 2}]
    if not others:
        raise DicomError("is a localizer: a few slices in each of three planes; name another series", "unsupported")
    return others


def _uid(group: Group) -> str:
    return str(group.dataset.get("SeriesInstanceUID", ""))


def _rank(group: Group, wanted: Sequence[str]) -> tuple[float, ...]:
    """Rank of a group, the lowest is chosen; see `choose`."""
    first, told = group.frames[0], sequence_of_headers(group.dataset)
    derived = bool(first.part) or "DERIVED" in image_type_of(group.dataset)
    number = group.dataset.get("SeriesNumber")
    return (
        0 if told in wanted else 1 if told is None else 2,
        derived,
        len(group.frames) < FEW,
        abs(first.normal[2]) < ALONG,
        -len(group.frames),
        -first.echo,
        float(number) if isinstance(number, (int, float)) else np.inf,
    )


def _said(group: Group, count: int, rule: str) -> str:
    """The choice as JSON, without free text of the file, which may name the patient."""
    number, uid = group.dataset.get("SeriesNumber"), _uid(group)
    return json.dumps(
        {
            "number": int(number) if isinstance(number, (int, float)) else None,
            "uid": uid if uid.replace(".", "").isdecimal() and len(uid) <= 64 else None,
            "echo_ms": group.frames[0].echo or None,
            "slices": len(group.frames),
            "of": count,
            "rule": rule,
        }
    )
