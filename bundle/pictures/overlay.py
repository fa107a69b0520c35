"""NAME_overlay.png: a prediction as a picture, as radiology displays it (the patient's left at the right)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .. import NOTICE
from ..core import geometry, messages
from .drawing import legend_of, levels_of, text, with_outlines
from .views import most_suspicious, probability_of, sizes_of, types_of

__all__ = ["edges_of", "overlay_png", "pixel_of"]

SIDE, COLUMNS, ROWS, GAP = 480, 4, 3, 4  # pixels of the large slice, of which the small ones are a third
HEAD, FOOT = 76, 24  # pixels of the text above and below
MARGIN = 0.06  # around the head, of the larger side
BARS_MM = (100, 50, 20, 10, 5, 2, 1)
WHITE, LETTER = (255, 255, 255), 7  # and pixels of a letter of the legend
GUESSED = {"orientation_unknown", "spacing_estimated"}  # flags of files that do not tell left and right
EDGES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}  # at the left and at the right


class Shown(NamedTuple):
    """What is drawn of a scan, as displayed.

    Args:
        scan: gray levels (H, W, D).
        mask: (H, W, D), above 0 in the tumor.
        sides: height and width of a pixel, mm; 1 and 1 where the spacing is unknown.
        spacing_known: whether it is.
        edges: letters of the left and the right edge; empty where they are unknown.
        numbers: index of each slice in the file.
        regions: of the mask, see `masks_of`.
    """

    scan: np.ndarray
    mask: np.ndarray
    sides: tuple[float, float]
    spacing_known: bool
    edges: tuple[str, ...]
    numbers: list[int]
    regions: Sequence[Mapping[str, Any]]


def overlay_png(prediction: Mapping[str, Any]) -> bytes:
    """Draw a prediction.

    Of a volume the slice with the highest probability is large; beside it are slices through the mask, or through the
    middle of the head where the mask is empty. Letters and a scale bar are drawn where the file tells them.

    Args:
        prediction: see `Predictor.predict`.

    Returns:
        A PNG.
    """
    result, shown = prediction["result"], _shown(prediction)
    small = _slices(shown, result) if len(shown.numbers) > 1 else []
    number = most_suspicious(result)
    large = (small or [0])[len(small) // 2] if number is None else shown.numbers.index(number)
    levels = levels_of(shown.scan[::2, ::2, [large, *small]])
    if small:
        shown = _cropped(shown, [large, *small], levels)
    third = SIDE // ROWS
    picture = Image.new("RGB", (SIDE + (GAP + COLUMNS * third if small else 0), HEAD + SIDE + FOOT))
    picture.paste(_tile(shown, large, levels, SIDE), (0, HEAD))
    for place, index in enumerate(small):
        row, column = divmod(place, COLUMNS)
        tile = _tile(shown, index, levels, third - GAP)
        picture.paste(tile, (SIDE + GAP + column * third, HEAD + row * third))
    _write(picture, result)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def edges_of(prediction: Mapping[str, Any]) -> tuple[str, ...]:
    """Letters of the left and the right edge of displayed slices; none where the file does not tell the sides.

    Args:
        prediction: see `Predictor.predict`.
    """
    mask, flags = prediction["pred"], {flag["code"] for flag in prediction["result"]["flags"]}
    is_oriented = mask.meta.get("spacing_known", False) and not flags & GUESSED  # a picture tells neither
    plane = geometry.plane_of(mask.shape[1:], np.asarray(mask.meta["original_affine"]))
    return EDGES[plane] if is_oriented else ()


def pixel_of(prediction: Mapping[str, Any]) -> tuple[float, float] | None:
    """Height and width of a pixel of displayed slices, mm; None where the spacing is unknown.

    Args:
        prediction: see `Predictor.predict`.
    """
    mask = prediction["pred"]
    if not mask.meta.get("spacing_used") or "spacing_estimated" in {f["code"] for f in prediction["result"]["flags"]}:
        return None
    return geometry.displayed_mm(mask.shape[1:], np.asarray(mask.meta["original_affine"]))[:2]


def _shown(prediction: Mapping[str, Any]) -> Shown:
    mask, pixel = prediction["pred"], pixel_of(prediction)
    affine, shape = np.asarray(mask.meta["original_affine"]), mask.shape[1:]
    axis, ascending = geometry.slice_axis(affine, shape)
    numbers = list(range(shape[axis]))
    return Shown(
        scan=geometry.as_displayed(geometry.first_shown(prediction["scan"].as_tensor().numpy()), affine),
        mask=geometry.as_displayed(mask.as_tensor()[0].cpu().numpy().astype(np.uint8), affine),
        sides=pixel or (1.0, 1.0),
        spacing_known=pixel is not None,
        edges=edges_of(prediction),
        numbers=numbers if ascending else numbers[::-1],
        regions=prediction["result"].get("regions", ()),
    )


def _slices(shown: Shown, result: Mapping[str, Any]) -> list[int]:
    """Places of the small slices, from inferior to superior."""
    most, count = ROWS * COLUMNS, len(shown.numbers)
    found = np.flatnonzero(shown.mask.any(axis=(0, 1)))
    if not found.size:
        predicted = [result["slice_probabilities"][number] is not None for number in shown.numbers]
        found = np.flatnonzero(predicted) if any(predicted) else np.arange(count)
        found = found[len(found) // 4 : -(len(found) // 4) or None]
    first, last = int(found[0]), int(found[-1])
    if last - first < most - 1:  # fewer slices than there is room for
        first = max(0, min(first - (most - 1 - last + first) // 2, count - most))
        last = min(count, first + most) - 1
    return np.unique(np.linspace(first, last, most).round().astype(int)).tolist()


def _cropped(shown: Shown, places: list[int], levels: tuple[float, float]) -> Shown:
    """The same without empty space around head and mask."""
    low, high = levels
    head = shown.scan[:, :, places] > low + 0.1 * (high - low)
    inside = np.argwhere(head.any(axis=2) | shown.mask.any(axis=2))  # rows and columns
    if not len(inside):
        return shown
    margin = round(MARGIN * max(head.shape[:2]))
    (top, left), (bottom, right) = np.maximum(inside.min(axis=0) - margin, 0), inside.max(axis=0) + margin + 1
    return shown._replace(scan=shown.scan[top:bottom, left:right], mask=shown.mask[top:bottom, left:right])


def _tile(shown: Shown, index: int, levels: tuple[float, float], side: int) -> Image.Image:
    """One slice in the middle of a square, with letters, number and scale bar."""
    plane, letters, rim = shown.scan[:, :, index], side // 22 + 5, side // 80
    scale = side / max(count * length for count, length in zip(plane.shape, shown.sides, strict=True))
    height, width = (max(1, round(n * mm * scale)) for n, mm in zip(plane.shape, shown.sides, strict=True))
    tile = Image.new("RGB", (side, side))
    slice_ = with_outlines(plane, shown.mask[:, :, index], levels, (width, height), shown.regions)
    tile.paste(slice_, ((side - width) // 2, (side - height) // 2))
    if len(shown.numbers) > 1:
        text(tile, f"{'slice ' if side == SIDE else ''}{shown.numbers[index]}", (rim, rim), letters)
    for edge, column, anchor in zip(shown.edges, (rim, side - rim), ("lm", "rm"), strict=False):
        text(tile, edge, (column, side // 2), letters, anchor)
    if shown.spacing_known and side == SIDE:
        _draw_bar(tile, scale)
    return tile


def _draw_bar(tile: Image.Image, scale: float) -> None:
    """Draw a scale bar at the lower left; `scale` is the number of pixels per mm."""
    length = next((mm for mm in BARS_MM if mm * scale <= 0.4 * tile.width), 0)
    if length:
        left, low = 8, tile.height - 12
        ImageDraw.Draw(tile).rectangle((left, low, left + round(length * scale), low + 4), "white", "black")
        text(tile, f"{length} mm", (left, low - 5), 16, "ls")


def _write(picture: Image.Image, result: Mapping[str, Any]) -> None:
    """Write state, likeliest type, probability, size, flags and notice above and below the slices."""
    size = f", mask {sizes_of(result)}" if sizes_of(result) else ""
    flags = ", ".join(flag["code"] for flag in result["flags"])
    most = picture.width // 8  # characters of a line
    text(picture, messages.STATES[result["state"]].title, (6, 4), 22)
    if types := types_of(result):
        text(picture, f"type among tumors: {types[0]}", (picture.width - 6, 16), 14, "rm")
    text(picture, f"probability {probability_of(result)}{size}", (6, 31), 16)
    text(picture, flags if len(flags) <= most else f"{flags[: most - 3]}...", (6, 54), 14)
    low, left, regions = picture.height - FOOT // 2, 6, result.get("regions", ())
    for words, color in legend_of(regions).items():
        text(picture, words, (left, low), 13, "lm", color if regions else WHITE)
        left += LETTER * (len(words) + 2)
    text(picture, NOTICE, (picture.width - 6, low), 13, "rm")
