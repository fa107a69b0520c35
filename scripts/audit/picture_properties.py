"""What baselines of the audit see of a picture, none of it a lesion: properties of its file, shares of gray levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..io.readers import UnreadableImageError, decode_raster
from ..transforms.intensities import BRIGHTEST, DARKEST, TISSUE

__all__ = ["file_properties", "gray_levels"]

GRAY_BINS = 32


def file_properties(paths: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Properties of image files that do not depend on the head.

    Args:
        paths: of PNG and JPEG files; missing and unreadable ones are allowed.

    Returns:
        float64 (N, 6): height and width (pixels), width / height, index of the suffix, bytes per pixel, mean gray level
        (0 to 255) of the outermost pixels; boolean (N,): readable files, the other rows are 0.
    """
    suffixes = sorted({Path(path).suffix for path in paths})
    properties, readable = np.zeros((len(paths), 6)), np.zeros(len(paths), dtype=bool)
    for row, path in enumerate(map(Path, paths)):
        try:
            plane = decode_raster(path)[0][0, :, :, 0]
            size = path.stat().st_size
        except (UnreadableImageError, OSError):
            continue
        height, width = plane.shape
        border = np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]]).mean()
        suffix = suffixes.index(path.suffix)
        properties[row] = height, width, width / height, suffix, size / plane.size, border
        readable[row] = True
    return properties, readable


def gray_levels(image: np.ndarray) -> np.ndarray:
    """Share of an image's tissue in each of 32 ranges of gray levels: float64 (32 * C,).

    Args:
        image: (C, H, W), input of the network; all shares are 0 without tissue.
    """
    inside = (image > TISSUE).any(axis=0)
    edges = np.linspace(DARKEST, BRIGHTEST, GRAY_BINS + 1)
    counts = [np.histogram(np.clip(plane[inside], DARKEST, BRIGHTEST), edges)[0] for plane in image]
    return np.concatenate(counts) / max(1, int(inside.sum()))
