"""The layout of Kaggle's kaggle_3m: a folder a patient, a TIFF file a slice, three sequences as its colors.

    kaggle_3m/PATIENT/PATIENT_1.tif        the lowest slice: red T1, green FLAIR, blue T1 after contrast
    kaggle_3m/PATIENT/PATIENT_1_mask.tif   its mask, 255 where there is tumor

The files have no spacing; it is estimated by `estimated_affine`, on which all measurements depend: a
NIfTI file with this affine gives the same prediction, and a slice that is saved as a picture has the same scale.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

__all__ = [
    "SliceFolderError",
    "estimated_affine",
    "is_slice_folder",
    "read_slice_folder",
    "sequences_in",
    "slice_files",
]

CHANNELS = {"t1": 0, "flair": 1, "t1ce": 2}
SLICE = re.compile(r"^(?P<patient>.+)_(?P<number>\d+)(?P<mask>_mask)?\.tiff?$", re.IGNORECASE)

HEAD_MM = 192.0  # longer side of a head's box, as of pictures (`FitHeadd`)
STACK_MM = 160.0  # from the lowest slice to the highest: of two patients whose volumes are public it gives 4.7 and 6.2
BRIGHT = 0.15  # of the 99th percentile of the mean slice: brighter is head


class SliceFolderError(ValueError):
    """An incomplete folder of slices; the message is the reason."""


def is_slice_folder(path: Path) -> bool:
    """Whether a folder holds the slices of one patient as TIFF files, named after the folder and numbered."""
    matches = (SLICE.match(file.name) for file in path.iterdir()) if path.is_dir() else iter(())
    return any(match and not match["mask"] and match["patient"] == path.name for match in matches)


def slice_files(folder: Path, masks: bool = False) -> list[Path]:
    """Files of the slices, or of their masks, from the lowest slice to the highest; [] where there are no masks.

    Raises:
        SliceFolderError: when a number is missing, or a mask.
    """
    found: dict[bool, dict[int, Path]] = {False: {}, True: {}}
    for file in folder.iterdir():
        if (match := SLICE.match(file.name)) and match["patient"] == folder.name:
            found[bool(match["mask"])][int(match["number"])] = file
    slices, chosen = found[False], found[masks]
    first = min(slices, default=1)
    wanted = range(first, first + max(1, len(slices)))
    missing = sorted((set(wanted) | set(slices)) - set(chosen)) if chosen or not masks else []
    if missing:
        kind = "mask" if masks else "slice"
        raise SliceFolderError(f"{kind} {missing[0]} is missing, {len(slices)} slices are there")
    return [chosen[number] for number in sorted(chosen)]


def sequences_in(folder: Path) -> tuple[str, ...]:
    """Sequences that a patient's slices hold, by the middle one: missing ones are copies of the FLAIR."""
    files = slice_files(folder)
    plane = _plane(files[len(files) // 2], 3)
    flair = plane[CHANNELS["flair"]]
    return tuple(name for name, channel in CHANNELS.items() if name == "flair" or (plane[channel] != flair).any())


def read_slice_folder(folder: Path, sequences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a patient's slices, or their masks.

    Args:
        folder: of one patient.
        sequences: of t1, flair and t1ce, in the order of the result's channels; or "seg" alone, for the masks.

    Returns:
        float32 (C, H, W, D), rows to posterior, columns to the left, slices upwards, gray levels 0 to 255; the affine
        (4, 4) by `estimated_affine` of the FLAIR.

    Raises:
        SliceFolderError: when a slice is missing, a mask is missing, slices differ in shape or hold no three sequences,
            or a sequence is asked for that the layout does not have.
    """
    if unknown := [name for name in sequences if name not in CHANNELS and name != "seg"]:
        raise SliceFolderError(f"holds {', '.join(CHANNELS)}, not {unknown[0]}")
    colors = _stack(slice_files(folder), 3)  # (3, H, W, D)
    affine = estimated_affine(colors[CHANNELS["flair"]])
    if "seg" not in sequences:
        return colors[[CHANNELS[name] for name in sequences]], affine
    masks = slice_files(folder, masks=True)
    if not masks:
        raise SliceFolderError("has no masks")
    mask = _stack(masks, 1)
    if mask.shape[1:] != colors.shape[1:]:
        raise SliceFolderError(f"masks of shape {mask.shape[1:]} on slices of shape {colors.shape[1:]}")
    return (mask > 127).astype(np.float32), affine


def _stack(files: Sequence[Path], channels: int) -> np.ndarray:
    planes = [_plane(file, channels) for file in files]
    if len({plane.shape for plane in planes}) != 1:
        raise SliceFolderError("its slices differ in shape")
    return np.stack(planes, axis=-1)


def _plane(file: Path, channels: int) -> np.ndarray:
    """Gray levels (channels, H, W) of one file."""
    with Image.open(file, formats=("TIFF",)) as image:
        bands = len(image.getbands())
        if channels == 3 and bands < 3:
            raise SliceFolderError(f"{file.name} has {bands} channel, three sequences are expected")
        plane = np.asarray(image.convert("RGB" if channels == 3 else "L"), dtype=np.float32)
    return np.atleast_3d(plane).transpose(2, 0, 1)


def estimated_affine(volume: np.ndarray) -> np.ndarray:
    """Affine of a head of unknown spacing: its longer side is 192 mm, its slices span 160 mm.

    Args:
        volume: gray levels (H, W, D), rows to posterior, columns to the left, slices upwards.

    Returns:
        float64 (4, 4), index to RAS millimeters.

    >>> volume = np.zeros((100, 80, 20)); volume[2:98, 10:70] = 1.0
    >>> estimated_affine(volume)[:3, :3].sum(axis=1).tolist()
    [-2.0, -2.0, 8.0]
    """
    mean = np.asarray(volume, dtype=np.float64).mean(axis=2)
    parts, count = ndimage.label(mean > BRIGHT * np.percentile(mean, 99))
    head = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])) if count else np.ones(mean.shape, dtype=bool)
    rows, columns = (np.flatnonzero(head.any(axis=axis)) for axis in (1, 0))
    pixel = HEAD_MM / max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    affine = np.zeros((4, 4))
    affine[0, 1] = affine[1, 0] = -pixel
    affine[2, 2], affine[3, 3] = STACK_MM / volume.shape[2], 1.0
    return affine
