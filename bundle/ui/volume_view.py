"""A volume with its overlays in NiiVue, opened at the tumor; `viewer/` is what runs in the browser."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..core.regions import REGIONS, masks_of
from ..pictures.drawing import CAM_COLOR, MASK_COLOR, levels_of
from ..pictures.views import most_suspicious

__all__ = ["MASKED", "show_volume", "start_of", "viewer_arguments"]

VIEWER = Path(__file__).with_name("viewer")
GRAY_LEVELS = 4095
MASKED = ("tumor", "uncertain")  # states in which the mask is shown first


def start_of(result: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
    """The voxel that a volume is opened at: in the slice with the highest probability, in the middle of the mask.

    Of several parts of the mask the largest counts. Without a mask in this slice it is the slice with the largest mask,
    without any mask the slice's middle.

    Args:
        result: of the volume.
        mask: (H, W, D), boolean.

    Returns:
        (3,), indices of the file, int.
    """
    axis = int(result["slice_axis"])
    first = most_suspicious(result) or 0
    areas = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    index = first if areas[first] or not areas.any() else int(areas.argmax())
    plane = np.take(mask, index, axis=axis)
    parts, _ = ndimage.label(plane)
    places = np.argwhere(parts == np.bincount(parts.ravel())[1:].argmax() + 1) if plane.any() else np.argwhere(~plane)
    nearest = np.linalg.norm(places - places.mean(axis=0), axis=1).argmin()  # the mean itself may lie beside the mask
    return np.insert(places[nearest], axis, index)


def edge_of(mask: np.ndarray, axis: int) -> np.ndarray:
    """The edge of a mask (H, W, D) within its slices along an axis, boolean."""
    cross = np.expand_dims(ndimage.generate_binary_structure(2, 1), axis)
    return mask & ~ndimage.binary_erosion(mask, cross)


def packed(volume: np.ndarray, affine: np.ndarray) -> bytes:
    """A volume (H, W, D) of integers as a compressed NIfTI file."""
    import nibabel as nib

    return gzip.compress(nib.Nifti1Image(volume, affine).to_bytes(), compresslevel=1)


def viewer_arguments(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """What the browser needs to draw a volume: NIfTI files as bytes, places in RAS+ millimeters, gray levels, texts.

    Args:
        prediction: of a volume, see `predicted` of the page.
    """
    result, scan, affine = prediction["result"], prediction["planes"]["scan"][0], prediction["affine"]
    axis = int(result["slice_axis"])
    (low, high), least = levels_of(scan), float(scan.min())
    step = max(float(scan.max()) - least, 1e-6) / GRAY_LEVELS
    gray = {"name": "scan", "low": (low - least) / step, "high": max(high - least, step) / step, "opacity": 1.0}
    mask = prediction["planes"]["pred"][0] > 0.5
    orange = {"color": MASK_COLOR, "low": 0.0, "high": 1.0}
    regions = result.get("regions", ())[1:]  # those within the whole tumor
    inner = masks_of(prediction["planes"]["pred"][0], regions) if regions else {}
    teal = {"color": CAM_COLOR, "low": 0.0, "high": 1.0}
    return {
        "id": prediction["id"],
        "scan": packed(np.round((scan - least) / step).astype(np.int16), affine),
        "mask": packed(mask.astype(np.uint8), affine),
        "edge": packed(edge_of(mask, axis).astype(np.uint8), affine),
        **{name: packed(region.astype(np.uint8), affine) for name, region in inner.items()},
        "cam": prediction["files"]["cam.nii.gz"],
        "images": [
            gray,
            {**orange, "name": "mask", "label": "Mask", "opacity": 0.25, "shown": result["state"] in MASKED},
            {**orange, "name": "edge", "edge_of": "mask", "opacity": 1.0},
            *(_overlay_of(region, result["state"] in MASKED) for region in regions),
            {**teal, "name": "cam", "label": "CAM", "opacity": 0.4, "shown": False},
        ],
        "start_mm": (affine @ [*start_of(result, mask), 1])[:3].tolist(),
        "start_label": "Go to the tumor" if result["state"] == "tumor" else "Go to the highest probability",
        "sides_known": bool(prediction["edges"]),
        "probabilities": result["slice_probabilities"],
        "threshold": result["threshold"],
        "index_of_mm": np.linalg.inv(affine)[axis].tolist(),
        "step_mm": affine[:3, axis].tolist(),
    }


def _overlay_of(region: Mapping[str, Any], shown: bool) -> dict[str, Any]:
    """How the browser draws a region within the whole tumor."""
    named = {"name": region["name"], "label": region["title"].capitalize(), "color": REGIONS[region["name"]].color}
    return {**named, "low": 0.0, "high": 1.0, "opacity": 0.4, "shown": shown}


def show_volume(arguments: Mapping[str, Any]) -> None:
    """Show a volume; see `viewer_arguments`."""
    from streamlit.components.v1 import declare_component

    viewer = declare_component("brain_mri_volume", path=VIEWER)
    viewer(**arguments, key="volume", default=None)
