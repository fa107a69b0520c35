"""One slice of a prediction as the page, the PNG and the PDF show it: upright, in true proportions, with letters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..pictures.drawing import draw_outlines, overlay, text, upright
from ..pictures.views import slice_of

__all__ = ["picture_of", "upright_planes"]

SIDE, LETTERS = 768, 36  # pixels of the longer side, and of the letters


def upright_planes(prediction: Mapping[str, Any], index: int | None) -> dict[str, np.ndarray]:
    """A slice of the scan and of all maps, (H, W), as radiology displays it.

    Args:
        prediction: see `predicted` of the page.
        index: of the slice; None for an image.
    """
    result, affine = prediction["result"], prediction["affine"]
    axis = int(result.get("slice_axis", 2))
    return {name: upright(slice_of(plane, result, index), affine, axis) for name, plane in prediction["planes"].items()}


def picture_of(
    prediction: Mapping[str, Any],
    planes: Mapping[str, np.ndarray],
    mask_opacity: float,
    cam_opacity: float,
    levels: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw a slice with its mask and CAM; letters name its edges where the file tells them.

    Args:
        prediction: see `predicted` of the page.
        planes: "scan", "pred" and "cam", see `upright_planes`.
        mask_opacity: see `overlay`.
        cam_opacity: see `overlay`.
        levels: see `overlay`.
    """
    drawn = overlay(planes["scan"], planes["pred"], planes["cam"], mask_opacity, cam_opacity, levels)
    height, width = (side * mm for side, mm in zip(drawn.size[::-1], prediction["pixel_mm"] or (1.0, 1.0), strict=True))
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = drawn.resize(size, Image.Resampling.BICUBIC)
    if mask_opacity:
        draw_outlines(picture, planes["pred"], prediction["result"].get("regions", ()))
    places = ((LETTERS // 3, "lm"), (picture.width - LETTERS // 3, "rm"))
    for letter, (column, anchor) in zip(prediction["edges"], places, strict=False):
        text(picture, letter, (column, picture.height // 2), LETTERS, anchor)
    return picture
