"""The stored parts of a case: its slices with enough brain as arrays with checksums, and their metadata."""

from __future__ import annotations

import io
import os
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.files import write_bytes
from ..transforms.channels import known_channels, shown_channel
from ..transforms.preprocessing import TISSUE, tissue_of
from ..transforms.skull import has_skull

__all__ = ["is_undamaged", "read_slice", "remove_remains", "slices_of", "write_arrays"]

Checksums = Mapping[str, Sequence[int]]


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """Write each array (S, ...) to NAME.npy; return the CRC-32 of each of its slices."""
    for name, array in arrays.items():
        content = io.BytesIO()  # numpy names neither the file nor the reason when the disk is full
        np.save(content, array)
        write_bytes(folder / f"{name}.npy", content.getvalue())
    return {name: [_checksum(plane) for plane in array] for name, array in arrays.items()}


def read_slice(file: Path, position: int, checksums: Checksums) -> np.ndarray:
    """Read one slice of an array, without the rest of it.

    Args:
        file: NAME.npy.
        position: of the slice.
        checksums: by name, from `write_arrays`; a name without checksums is not checked.

    Raises:
        ValueError: when the file is missing or damaged.
    """
    try:
        plane = np.array(np.load(file, mmap_mode="r")[position])
        undamaged = file.stem not in checksums or _checksum(plane) == checksums[file.stem][position]
    except (FileNotFoundError, ValueError, IndexError, EOFError):
        undamaged = False
    if not undamaged:
        raise ValueError(f"{file}: missing or damaged; run the preprocessing again, it writes this case anew")
    return plane


def is_undamaged(folder: Path, checksums: Checksums) -> bool:
    """Whether all slices of a case are as they were written."""
    try:
        for name, expected in checksums.items():
            array = np.load(folder / f"{name}.npy", mmap_mode="r")
            if [_checksum(plane) for plane in array] != list(expected):
                return False
    except (OSError, ValueError, EOFError):
        return False
    return True


def _checksum(plane: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(plane).data)


def slices_of(data: Mapping[str, Any], min_brain_pixels: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Slices with enough brain as arrays, and their metadata."""
    image = data["image"]
    planes = known_channels(image.as_tensor()).permute(3, 0, 1, 2)  # (D, C, H, W)
    brain = tissue_of(planes).sum(dim=(1, 2))
    chosen = torch.nonzero(brain >= min_brain_pixels).flatten().tolist()
    if not chosen:
        raise ValueError(f"no slice shows at least {min_brain_pixels} pixels of brain")
    arrays = {"image": planes[chosen].half().numpy()}
    meta: dict[str, Any] = {
        "slices": chosen,
        "brain_pixels": brain[chosen].tolist(),
        "own_statistics": [_own_statistics(planes[i]) for i in chosen],
        "shape": [int(n) for n in image.meta["spatial_shape"]],
        "spacing_mm": [round(float(s), 6) for s in image.pixdim],
        "skull": has_skull(shown_channel(planes.movedim(1, 0))[chosen].half().numpy(), TISSUE),
    }
    if missing := image.meta.get("missing_sequences"):
        meta["missing_sequences"] = missing.split()
    if "brain" in data:
        arrays["brain"] = np.moveaxis(data["brain"], -1, 0)[chosen].astype(np.uint8)
        inside = known_channels(image.as_tensor())[:, torch.from_numpy(data["brain"])]
        meta["brain_statistics"] = _statistics([channel[channel > TISSUE].double() for channel in inside])
    if "label" in data:
        regions = data["label"].as_tensor().permute(3, 0, 1, 2)  # (D, R, H, W)
        masks = regions[:, 0]
        arrays["mask"] = regions[chosen].squeeze(1).numpy().astype(np.uint8)
        meta["tumor_pixels"] = masks[chosen].sum(dim=(1, 2)).tolist()
        meta["label_codes"] = data["label"].meta.get("label_codes", {})
        meta["tumor_pixels_left_out"] = int(masks.sum()) - sum(meta["tumor_pixels"])
    return arrays, meta


def _own_statistics(plane: torch.Tensor) -> list[list[float]]:
    """Mean and standard deviation (2, C) of the tissue of one slice (C, H, W), in units of the volume's."""
    return _statistics([channel[tissue_of(channel[None])].double() for channel in plane])


def _statistics(tissue: Sequence[torch.Tensor]) -> list[list[float]]:
    """Mean and standard deviation (2, C) of the values of every channel."""
    mean = [float(values.mean()) if len(values) else 0.0 for values in tissue]
    std = [float(values.std()) if len(values) > 1 else 1.0 for values in tissue]
    return [[round(m, 6) for m in mean], [round(max(s, 1e-3), 6) for s in std]]


def remove_remains(folder: Path) -> None:
    """Remove the temporary folders of processes that are gone, at any depth."""
    for parent, names, _ in os.walk(folder):
        for name in [name for name in names if name.startswith(".writing-")]:
            names.remove(name)
            if not _still_written(name):
                shutil.rmtree(Path(parent) / name, ignore_errors=True)


def _still_written(temporary: str) -> bool:
    """Whether the process in a temporary folder's name may be running; always True outside POSIX."""
    number = re.match(r"\.writing-(\d+)-", temporary)
    if number is None or os.name != "posix":
        return number is not None
    try:
        os.kill(int(number[1]), 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        pass
    return True
