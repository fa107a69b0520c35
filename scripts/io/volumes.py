"""NIfTI volumes as arrays, and what every decoder says of a grid."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ..core.file_types import GZIP_MAGIC, NOT_A_SCAN
from ..core.nifti_geometry import affine_mm, geometry_of, is_oriented

__all__ = ["UnreadableImageError", "code_of", "decathlon_channels", "decode_nifti", "grid_meta"]

# The Medical Segmentation Decathlon's words for BraTS modalities (dataset.json of Task01).
DECATHLON_MODALITIES = {"flair": "flair", "t1w": "t1", "t1": "t1", "t1gd": "t1ce", "t2w": "t2", "t2": "t2"}


class UnreadableImageError(ValueError):
    """A file that cannot be read as a brain MRI; the message is one line: the file and the reason.

    Args:
        path: the file.
        reason: what is wrong with it, in words.
        code: the kind of fault in one word: damaged, truncated, header, geometry, rank, nonfinite, memory, unsupported.
    """

    def __init__(self, path: str | Path, reason: str, code: str = "damaged") -> None:
        super().__init__(f"{path}: {reason}")
        self.reason, self.code = reason, code


def decode_nifti(path: Path, modalities: Sequence[str]) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a NIfTI file into float32 (C, H, W, D) on the file's own axes."""
    try:
        # bytes first: nibabel alone accepts a gzip stream whose checksum is cut off
        image = _nifti_from_bytes(path)
        array = np.asanyarray(image.dataobj)
    except UnreadableImageError:
        raise
    except Exception as error:  # nibabel and zlib raise a dozen types for a damaged file
        raise UnreadableImageError(path, f"damaged NIfTI ({type(error).__name__})", code_of(error)) from None
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise UnreadableImageError(path, f"voxels of type {array.dtype} and shape {array.shape} are not an MRI", "rank")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UnreadableImageError(path, "contains NaN or infinite voxels", "nonfinite")
    shape = array.shape
    if array.ndim == 5 and shape[3] == 1:  # NIfTI keeps vectors on the fifth axis
        array = array[:, :, :, 0]
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    told = {"sequence_told": modalities[0]} if array.ndim == 4 and len(modalities) == 1 else {}
    if array.ndim == 4:
        array = _select_channels(array, path, modalities)
    elif array.ndim in (2, 3):
        array = array.reshape(1, *array.shape[:2], -1)
    else:
        raise UnreadableImageError(path, f"has {array.ndim} dimensions, 2 to 4 are expected", "rank")
    flat = len(shape) == 2  # without a third axis the header tells no thickness
    affine = affine_mm(image)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnreadableImageError(path, "its affine is not invertible", "header")
    meta = grid_meta(affine, shape if flat else array.shape[1:], spacing_known=True, thickness_known=not flat)
    flags = "" if is_oriented(image) else "orientation_unknown"
    return array, {**meta, **told, "nifti_geometry": geometry_of(image), "flags": flags}


def _nifti_from_bytes(path: Path) -> nib.Nifti1Image | nib.Nifti2Image:
    data = path.read_bytes()
    if data.startswith(GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise UnreadableImageError(path, "damaged gzip stream") from None
    if data[344:348] == b"n+1\0":
        image = nib.Nifti1Image.from_bytes(data)
    elif data[4:8] == b"n+2\0":
        image = nib.Nifti2Image.from_bytes(data)
    else:
        raise UnreadableImageError(path, NOT_A_SCAN, "unsupported")
    raw_header = image.header_class.from_fileobj(BytesIO(data), check=False)  # nibabel reads an infinite slope as none
    if np.isinf(raw_header["scl_slope"]):
        raise UnreadableImageError(path, "its scaling is not finite", "header")
    return image


def _select_channels(array: np.ndarray, path: Path, modalities: Sequence[str]) -> np.ndarray:
    """Pick the configured modalities from (H, W, D, channels) and put them first."""
    names = decathlon_channels(path) or (list(modalities) if array.shape[3] == len(modalities) else [])
    if len(names) != array.shape[3] or not set(modalities) <= set(names):
        wanted = f"not known to hold {', '.join(modalities)}: give a volume of three axes for each"
        raise UnreadableImageError(path, f"four axes, and {array.shape[3]} channels that are {wanted}", "rank")
    return np.moveaxis(array[..., [names.index(m) for m in modalities]], 3, 0)


def decathlon_channels(path: Path) -> list[str]:
    """Names of a Decathlon file's channels from the `dataset.json` above it, or [] where there is none."""
    description = path.parent.parent / "dataset.json"
    try:
        modality = json.loads(description.read_text())["modality"]
        return [DECATHLON_MODALITIES.get(modality[str(i)].lower(), modality[str(i)]) for i in range(len(modality))]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def code_of(error: Exception) -> str:
    """The kind of fault, in one word, that an error of a decoder stands for."""
    if isinstance(error, MemoryError):
        return "memory"
    return "header" if isinstance(error, HeaderDataError) else "damaged"


def grid_meta(
    affine: np.ndarray, shape: Sequence[int], spacing_known: bool, thickness_known: bool = False
) -> dict[str, Any]:
    """What every decoder says of its grid.

    Args:
        affine: (4, 4) from indices to RAS+ millimetres.
        shape: of the file: 2 numbers for a picture and a 2-D NIfTI, else 3.
        spacing_known: whether the file tells the spacing along rows and columns.
        thickness_known: whether it tells that of the slices.
    """
    return {
        "affine": np.asarray(affine, dtype=np.float64),
        "original_affine": np.asarray(affine, dtype=np.float64),
        "spatial_shape": np.asarray(shape),
        "original_channel_dim": 0,
        "space": "RAS",
        "spacing_known": spacing_known,
        "thickness_known": thickness_known,
    }
