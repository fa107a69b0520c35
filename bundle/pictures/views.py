"""What is shown of a prediction: the first slice of a volume, as PNG, and sizes in words."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

from ..core.tumor_types import TUMOR_TYPES

__all__ = [
    "area_range",
    "most_suspicious",
    "png",
    "probability_of",
    "scan_line",
    "size_of",
    "sizes_of",
    "slice_of",
    "types_of",
]


def most_suspicious(result: Mapping[str, Any]) -> int | None:
    """Index of the slice with the highest probability, along `slice_axis`; None for an image or without prediction.

    >>> most_suspicious({"slice_probabilities": [None, 0.2, 0.9]})
    2
    """
    known = [(p, -index) for index, p in enumerate(result.get("slice_probabilities", ())) if p is not None]
    return -max(known)[1] if known else None


def area_range(scores: Mapping[str, Any]) -> str:
    """Which tumor areas some scores are of, in words.

    >>> area_range({"low_mm2": 50.0, "high_mm2": 200.0}), area_range({"low_mm2": 2000.0, "high_mm2": None})
    ('50-200 mm2', '2000 mm2 and more')
    """
    low, high = scores["low_mm2"], scores["high_mm2"]
    return f"{low:g} mm2 and more" if high is None else f"{low:g}-{high:g} mm2"


def size_of(result: Mapping[str, Any]) -> str | None:
    """Area or volume of the mask, with its unit; None if the pixel spacing is unknown.

    >>> size_of({"volume_ml": 12.34}), size_of({"area_mm2": 99.6, "volume_ml": 0.1}), size_of({})
    ('12.3 ml', '100 mm2', None)
    """
    if result.get("area_mm2") is not None:
        return f"{result['area_mm2']:.0f} mm2"
    return f"{result['volume_ml']:.1f} ml" if result.get("volume_ml") is not None else None


def sizes_of(result: Mapping[str, Any]) -> str | None:
    """The size of the mask, and those of its regions, if there are several; see `size_of`.

    >>> regions = [{"title": "whole tumor", "volume_ml": 12.34}, {"title": "tumor core", "volume_ml": 3.0}]
    >>> sizes_of({"volume_ml": 12.34, "regions": regions})
    '12.3 ml (tumor core 3.0 ml)'
    """
    whole = size_of(result)
    inner = ", ".join(f"{region['title']} {size_of(region)}" for region in result.get("regions", ())[1:])
    return f"{whole} ({inner})" if whole and inner else whole


def types_of(result: Mapping[str, Any]) -> list[str]:
    """The types of a detected tumor with their probabilities, given a tumor, the highest first; else none.

    >>> types_of({"tumor_type": {"glioma": 0.2, "pituitary": 0.8}}), types_of({})
    (['pituitary tumor 0.80', 'glioma 0.20'], [])
    """
    found = sorted(result.get("tumor_type", {}).items(), key=lambda one: -one[1])
    return [f"{TUMOR_TYPES[name]} {probability:.2f}" for name, probability in found]


def probability_of(result: Mapping[str, Any]) -> str:
    """Probability and operating point of a scan, in words.

    >>> probability_of({"tumor_probability": 0.913, "threshold": 0.4, "threshold_moved_from": 0.262})
    '0.91, operating point 0.40 (moved from 0.26)'
    """
    probability, moved = result["tumor_probability"], result.get("threshold_moved_from")
    known = "none" if probability is None else f"{probability:.2f}"
    return f"{known}, operating point {result['threshold']:.2f}{'' if moved is None else f' (moved from {moved:.2f})'}"


def scan_line(name: str, result: Mapping[str, Any], width: int) -> str:
    """A prediction in one line: state, probability, size of the mask, name, likeliest type, codes of the flags.

    Args:
        name: of the scan.
        result: of the scan.
        width: of the longest name.

    >>> scan_line("x", {"state": "tumor", "tumor_probability": 0.913, "volume_ml": 12.34, "flags": []}, 3)
    'tumor          0.91    12.3 ml  x'
    """
    probability = result["tumor_probability"]
    known = "-" if probability is None else f"{probability:.2f}"
    flags = ", ".join(flag["code"] for flag in result["flags"])
    size, further = size_of(result) or "-", "; ".join([*types_of(result)[:1], *([flags] if flags else [])])
    return f"{result['state'].replace('_', ' '):13}  {known:>4}  {size:>9}  {name:{width}}  {further}".rstrip()


def slice_of(volume: Any, result: Mapping[str, Any], index: int | None) -> np.ndarray:
    """One slice of a volume (1, H, W, D) on the scan's own grid: two axes of the file, in their order.

    Args:
        volume: mask, map, ...
        result: of the same scan.
        index: along `slice_axis`; None: the only slice of an image.
    """
    import numpy as np

    planes = np.asarray(volume[0])
    if index is None:
        return planes[..., planes.shape[-1] // 2]
    return np.take(planes, index, axis=int(result["slice_axis"]))


def png(plane: np.ndarray) -> bytes:
    """A plane (H, W) of values in [0, 1] as a gray PNG."""
    import numpy as np
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(np.round(np.clip(plane, 0.0, 1.0) * 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
