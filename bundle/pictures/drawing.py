"""Slices in radiological orientation, with mask and CAM in colors safe for color blindness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage

from ..core.regions import REGIONS, masks_of

__all__ = [
    "draw_outlines",
    "legend_of",
    "levels_of",
    "outside_head",
    "overlay",
    "text",
    "upright",
    "windowed",
    "with_outlines",
]

THIN = 240  # pixels: the outline of a smaller picture is one pixel wide, of a larger two
MASK_COLOR, CAM_COLOR = REGIONS["wt"].color, (46, 196, 182)  # orange and teal


def upright(plane: np.ndarray, affine: Any, axis: int) -> np.ndarray:
    """Turn a slice, two axes of the file, as radiology displays it.

    An axial slice has the front at its top and the patient's left at its right. The others have the top of the head at
    their top, and a sagittal one the front at its left.

    Args:
        plane: (A, B).
        affine: of the file, index to RAS+ millimeters.
        axis: slice axis of the file.
    """
    import nibabel as nib

    codes = list(nib.orientations.aff2axcodes(np.asarray(affine, dtype=np.float64)))
    left = [code for number, code in enumerate(codes) if number != axis]
    if left[0] not in (("S", "I") if {"S", "I"} & set(left) else ("A", "P")):
        plane, left = plane.T, left[::-1]
    rows, columns = left
    plane = plane[::-1] if rows in ("A", "S") else plane
    return plane[:, ::-1] if columns in ("R", "A") else plane


def overlay(
    image: np.ndarray,
    mask: np.ndarray | None,
    cam: np.ndarray | None,
    mask_opacity: float,
    cam_opacity: float,
    levels: tuple[float, float] | None = None,
) -> Image.Image:
    """A slice with its mask and CAM.

    Args:
        image: (H, W), gray levels of any scale.
        mask: (H, W) of 0 and 1, or None.
        cam: (H, W) in [0, 1], or None.
        mask_opacity: of the mask's area.
        cam_opacity: of the CAM where it is 1.
        levels: shown black and white; None: see `levels_of`.
    """
    picture = np.repeat(_gray(image, levels or levels_of(image))[:, :, None], 3, axis=2)
    if cam is not None and cam_opacity:
        weight = (np.clip(cam, 0, 1) * cam_opacity)[:, :, None]
        picture = picture * (1 - weight) + np.array(CAM_COLOR) * weight
    if mask is not None and mask_opacity:
        weight = ((mask > 0.5) * mask_opacity)[:, :, None]
        picture = picture * (1 - weight) + np.array(MASK_COLOR) * weight
    return Image.fromarray(picture.round().astype(np.uint8))


def with_outlines(
    plane: np.ndarray,
    mask: np.ndarray,
    levels: tuple[float, float],
    size: tuple[int, int],
    regions: Sequence[Mapping[str, Any]] = (),
) -> Image.Image:
    """A slice in another size, with the outline of its mask.

    Args:
        plane: (H, W), gray levels of any scale.
        mask: (H, W), above 0 in the tumor.
        levels: shown black and white, see `levels_of`.
        size: width and height, pixels.
        regions: of the mask, see `masks_of`.
    """
    gray = Image.fromarray(_gray(plane, levels).astype(np.uint8))
    picture = gray.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    draw_outlines(picture, mask, regions)
    return picture


def draw_outlines(picture: Image.Image, mask: np.ndarray, regions: Sequence[Mapping[str, Any]] = ()) -> None:
    """Draw the outline of a mask (H, W), above 0 in the tumor, into a picture of any size.

    Args:
        picture: RGB.
        mask: of any size.
        regions: of the mask, see `masks_of`; each has an outline in its own color.
    """
    for name, region in reversed(masks_of(mask, regions).items()):  # an edge of two regions is that of the outer one
        if region.any():
            _draw_outline(picture, region, REGIONS[name].color)


def legend_of(regions: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int, int]]:
    """Words of a legend with their colors, one entry for each region.

    Args:
        regions: of the mask, see `masks_of`; empty for the whole tumor alone.

    >>> list(legend_of([{"name": "wt"}, {"name": "et"}]))
    ['orange: whole tumor', 'pink: enhancing tumor']
    """
    known = [REGIONS[one["name"]] for one in regions]
    alone = {f"{REGIONS['wt'].color_name}: predicted mask": REGIONS["wt"].color}
    return {f"{region.color_name}: {region.title}": region.color for region in known} or alone


def _draw_outline(picture: Image.Image, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw the outline of a mask (H, W), boolean."""
    enlarged = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    area = enlarged.point(lambda value: 255 * (value > 127))
    edge = ImageChops.subtract(area, area.filter(ImageFilter.MinFilter(5 if min(picture.size) > THIN else 3)))
    picture.paste(color, None, edge)


def levels_of(image: np.ndarray) -> tuple[float, float]:
    """Gray levels that are shown black and white; the lowest and the highest value may be padding and do not count."""
    between = image[(image > image.min()) & (image < image.max())]
    low, high = np.percentile(between if np.unique(between).size > 1 else image, (1, 99.5))
    return float(low), float(high)


def windowed(levels: tuple[float, float], brightness: float, contrast: float) -> tuple[float, float]:
    """Gray levels that are shown black and white at another brightness and contrast, as `viewer.js` sets them.

    Args:
        levels: at brightness and contrast 0.
        brightness: -100 to 100; at 100 the middle gray is the former black, at -100 the former white.
        contrast: -100 to 100; at 100 the range of gray levels is a tenth, at -100 ten times as wide.

    >>> windowed((0.0, 10.0), 0, 0), windowed((0.0, 10.0), 100, 0), windowed((0.0, 10.0), 0, 100)
    ((0.0, 10.0), (-5.0, 5.0), (4.5, 5.5))
    """
    low, high = levels
    middle = low + (0.5 - brightness / 200) * (high - low)
    half = (high - low) / 10 ** (contrast / 100) / 2
    return middle - half, middle + half


def _gray(image: np.ndarray, levels: tuple[float, float]) -> np.ndarray:
    """Gray levels in [0, 255], float."""
    low, high = levels
    return np.asarray(np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255)


def text(
    picture: Image.Image,
    words: str,
    place: tuple[int, int],
    size: int,
    anchor: str = "la",
    color: tuple[int, int, int] = (255, 255, 255),
) -> None:
    """Write words with a black rim into a picture.

    Args:
        picture: RGB.
        words: of one line.
        place: column and row, pixels.
        size: of the letters, pixels.
        anchor: what of the words is at the place, see Pillow's text anchors.
        color: of the words.
    """
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    pen.text(place, words, font=font, anchor=anchor, fill=color, stroke_width=1, stroke_fill="black")


def outside_head(cam: np.ndarray, image: np.ndarray) -> float | None:
    """Share of a CAM's sum outside the head; None if the CAM is zero."""
    total = float(cam.sum())
    if total <= 0:
        return None
    head = ndimage.binary_fill_holes(image > image.min() + 0.1 * (np.percentile(image, 99) - image.min()))
    return float(cam[~head].sum()) / total
