"""Slices of volumes as pictures, as saved from a viewer, with the class of the volume's mask.

A picture's sequence is unknown in inference, so slices of all sequences train the classification. They are written as
PNG files and then read, split, trained on and scored like other pictures, in the fold of their patient.

    STORE/pictures/SOURCE_SEQUENCE/CASE/017.png        slice 17, from the lowest, on the file's own grid
    STORE/pictures/SOURCE_SEQUENCE/CASE/017_mask.png   1 where there is tumor; only of sequences that train masks
    STORE/pictures/SOURCE_SEQUENCE/CASE/cases.json     the written slices, and hashes of their sources
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to
from PIL import Image

from ..core.files import content_sha256, write_atomic, write_json
from ..core.geometry import as_displayed, pixel_mm2, same_grid
from ..core.label_codes import tumor_of
from ..core.shared_work import in_order, share_of
from ..io.datalists import Case, Cases
from ..io.readers import BrainMriReader
from ..transforms.background import level_surroundings
from ..transforms.head import tissue_level

__all__ = ["with_slice_pictures"]

BLACK = 1.0  # percentile of a volume that becomes black: resampling leaves outliers far below the background
WHITE = 99.5  # percentile of its tissue that becomes white


def with_slice_pictures(
    cases: Cases,
    folder: str | Path,
    sequences: Sequence[str],
    masked: Sequence[str],
    per_volume: int,
    min_tumor_pixels: int,
    min_brain_pixels: int,
) -> Cases:
    """The cases, and slices of their volumes as further images.

    Args:
        cases: of `gather_cases`; volumes with a mask and a "sequences" entry give pictures.
        folder: where the pictures are written.
        sequences: of which slices become pictures (flair, t1, t1ce, t2).
        masked: of these, those that show the same tumor as the mask, which is trained too.
        per_volume: at most this many slices of each, evenly spaced from the lowest with enough brain to the highest.
        min_tumor_pixels: a slice shows a tumor from this area on (mm2), none at 0; smaller tumors are left out.
        min_brain_pixels: tissue that a slice must show, mm2.

    Returns:
        The cases, then images with "cls", "group" (the volume's), "volume" (its id), "sequence", "label" where the
        mask is trained, and the volume's "class_name", if any, where they show the tumor. Their source is the volume's
        source and the sequence: "lgg_t1ce".
    """
    found = Cases(cases, cases.skipped)
    limits = {"per_volume": per_volume, "min_tumor_mm2": min_tumor_pixels, "min_brain_mm2": min_brain_pixels}
    volumes = [case for case in cases if case["kind"] == "volume" and "label" in case]
    pairs = [(case, name) for case in volumes for name in sequences if name in case.get("sequences", ())]
    written = [
        _pictures_of(case, sequence, Path(folder), {**limits, "masked": sequence in masked})
        for case, sequence in share_of(pairs)
    ]
    for pictures in in_order(written):
        found += pictures
    return found


def _pictures_of(case: Case, sequence: str, folder: Path, settings: Mapping[str, Any]) -> list[Case]:
    """Images of one sequence of a volume; already written ones are kept."""
    source, name = f"{case['source']}_{sequence}", case["id"].partition("/")[2]
    folder, image = folder / source / name, case["sequences"][sequence]
    made_of = {**settings, "sha256": [content_sha256(image), content_sha256(case["label"])]}
    try:
        written = json.loads((folder / "cases.json").read_text())
    except (OSError, ValueError):
        written = {}
    if written.get("made_of") != made_of:
        written = {"made_of": made_of, "slices": _write_pictures(case, sequence, image, folder, settings)}
        write_json(folder / "cases.json", written)
    shared = {"source": source, "kind": "image", "group": case["group"], "volume": case["id"], "sequence": sequence}
    told = {"class_name": case["class_name"]} if "class_name" in case else {}
    pictures = []
    for number, cls in written["slices"]:
        file = folder / f"{number:03d}.png"
        picture: Case = {"id": f"{source}/{name}/{number:03d}.png", **shared, "image": str(file), "cls": cls}
        picture |= told if cls else {}
        if settings["masked"]:
            picture |= {"label": str(file.with_name(f"{number:03d}_mask.png")), "tumor_codes": [1]}
        pictures.append(picture)
    return pictures


def _write_pictures(
    case: Case, sequence: str, image: str, folder: Path, settings: Mapping[str, Any]
) -> list[tuple[int, int]]:
    """Write the chosen slices; return their numbers and classes."""
    array, affine = _read(image, sequence)
    volume = level_surroundings(as_displayed(array, affine))
    mask = as_displayed(_mask_on(array.shape, affine, case), affine)
    pixel, black = pixel_mm2(affine), float(np.percentile(volume, BLACK))
    level = tissue_level(volume, black)
    tissue, tumor = ((plane * pixel).sum(axis=(0, 1)) for plane in (volume > level, mask > 0))
    chosen = np.flatnonzero(
        (tissue >= settings["min_brain_mm2"]) & ~((tumor > 0) & (tumor < settings["min_tumor_mm2"]))
    )
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, settings["per_volume"]).round().astype(int))]
    white = float(np.percentile(volume[volume > level], WHITE))
    gray = np.clip((volume - black) / max(white - black, 1e-6), 0.0, 1.0) * 255.0
    for number in chosen:
        _write_png(folder / f"{number:03d}.png", gray[..., number].round())
        if settings["masked"]:
            _write_png(folder / f"{number:03d}_mask.png", mask[..., number])
    return [(int(number), int(tumor[number] > 0)) for number in chosen]


def _mask_on(shape: tuple[int, ...], affine: np.ndarray, case: Case) -> np.ndarray:
    """The volume's mask on the grid of another of its sequences, which may differ in raw data."""
    values, own = _read(case["label"], "seg")
    mask = tumor_of(values, case)
    if shape == mask.shape and same_grid(affine, own, shape):
        return mask
    moved = resample_from_to(nib.Nifti1Image(mask.astype(np.uint8), own), (shape, affine), order=0)
    return np.asarray(moved.dataobj) > 0


def _read(path: str, sequence: str) -> tuple[np.ndarray, np.ndarray]:
    """A volume (W, H, D) on its file's axes, and its affine."""
    reader = BrainMriReader([sequence])
    array, meta = reader.get_data(reader.read(path))
    return array[0], meta["affine"]


def _write_png(file: Path, plane: np.ndarray) -> None:
    picture = Image.fromarray(plane.astype(np.uint8))
    write_atomic(file, lambda opened: picture.save(opened, format="PNG"))
