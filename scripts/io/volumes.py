"""NIfTI, NRRD and MetaImage volumes as arrays, and the metadata of their grid."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ..core.file_types import GZIP_MAGIC, FileType, why_unsupported
from ..core.messages import with_remedy
from ..core.text_headers import TextHeader, read_text_header
from .nifti_geometry import affine_mm, geometry_of, is_oriented

__all__ = ["UnreadableImageError", "code_of", "decathlon_channels", "decode_grid_file", "decode_nifti", "grid_meta"]

DARKEST_PERCENT = 0.1  # percentile: the level of empty space, also of `transforms.background`
FEW_NAN = 0.01  # of the voxels
ZLIB_OR_GZIP = 47  # window bits, zlib recognizes both

# The Medical Segmentation Decathlon's names of BraTS modalities (dataset.json of Task01).
DECATHLON_MODALITIES = {"flair": "flair", "t1w": "t1", "t1": "t1", "t1gd": "t1ce", "t2w": "t2", "t2": "t2"}


class UnreadableImageError(ValueError):
    """A file that cannot be read as a brain MRI; the message is one line: the file, the reason and the remedy.

    Args:
        path: the file.
        reason: what is wrong with it, in words.
        code: the kind of fault in one word: damaged, truncated, header, geometry, rank, nonfinite, memory, unsupported.
    """

    def __init__(self, path: str | Path, reason: str, code: str = "damaged") -> None:
        super().__init__(f"{path}: {with_remedy(reason, code)}")
        self.reason, self.code = reason, code


def decode_nifti(
    path: Path, modalities: Sequence[str], content: bytes | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode a NIfTI file into float32 (C, H, W, D) on the file's own axes.

    Args:
        path: of the file.
        modalities: see `BrainMriReader`.
        content: of the file, if it was read and decompressed before.
    """
    try:
        # bytes first: nibabel alone accepts a gzip stream whose checksum is cut off
        image = _nifti_from_bytes(path, content)
        array = np.asanyarray(image.dataobj)
    except UnreadableImageError:
        raise
    except Exception as error:  # nibabel and zlib raise a dozen types for a damaged file
        raise UnreadableImageError(path, f"damaged NIfTI ({type(error).__name__})", code_of(error)) from None
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise UnreadableImageError(path, f"voxels of type {array.dtype} and shape {array.shape} are not an MRI", "rank")
    array = array.astype(np.float32)
    shape = array.shape
    if array.ndim == 5 and shape[3] == 1:  # NIfTI keeps vectors on the fifth axis
        array = array[:, :, :, 0]
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    told = {"sequence_told": modalities[0]} if array.ndim == 4 and len(modalities) == 1 else {}
    if array.ndim == 4:
        array, held = _select_channels(array, path, modalities)
        told["channels"] = " ".join(held)
    elif array.ndim in (2, 3):
        array = array.reshape(1, *array.shape[:2], -1)
    else:
        raise UnreadableImageError(path, f"has {array.ndim} dimensions, 2 to 4 are expected", "rank")
    array = _without_nan(array, path)
    flat = len(shape) == 2  # without a third axis the thickness is unknown
    affine = affine_mm(image)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnreadableImageError(path, "its affine is not invertible", "header")
    meta = grid_meta(affine, shape if flat else array.shape[1:], spacing_known=True, thickness_known=not flat)
    flags = "" if is_oriented(image) else "orientation_unknown"
    return array, {**meta, **told, "nifti_geometry": geometry_of(image), "flags": flags}


def decode_grid_file(path: Path, kind: FileType) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode an NRRD or MetaImage file into float32 (1, H, W, D) on the file's own axes; see `read_text_header`."""
    try:
        data = path.read_bytes()
        header = read_text_header(data, kind)
        voxels = _voxels_of(path, kind, header, data)
    except UnreadableImageError:
        raise
    except ValueError as error:
        code = "rank" if "dimensions" in str(error) else "header"
        raise UnreadableImageError(path, str(error), code) from None
    except (zlib.error, OSError, MemoryError) as error:
        raise UnreadableImageError(path, f"damaged voxels ({type(error).__name__})", code_of(error)) from None
    count = math.prod(header.shape)
    if len(voxels) < count * header.dtype.itemsize:
        raise UnreadableImageError(path, "its voxels are cut short", "truncated")
    array = np.frombuffer(voxels, header.dtype, count).astype(np.float32).reshape(header.shape, order="F")
    if abs(np.linalg.det(header.affine[:3, :3])) < 1e-9:
        raise UnreadableImageError(path, "its affine is not invertible", "header")
    flat = len(header.shape) == 2
    meta = grid_meta(header.affine, header.shape, spacing_known=True, thickness_known=not flat)
    flags = "" if header.is_oriented else "orientation_unknown"
    return _without_nan(array.reshape(1, *array.shape[:2], -1), path), {**meta, "flags": flags}


def _without_nan(array: np.ndarray, path: Path) -> np.ndarray:
    """Fill NaN around the head, as tools that resample or mask write it, far below each channel, as other padding is.

    `transforms.background` recognizes that; a few voxels, which it would not, get the darkest level.

    Args:
        array: (C, H, W, D), float32.
        path: of the file.

    Raises:
        UnreadableImageError: for infinite voxels, and for NaN within the head.
    """
    if np.isfinite([array.min(), array.max()]).all():  # NaN is the least and the greatest, too
        return array
    if np.isinf(array).any() or not all(_is_around(np.isnan(channel)) for channel in array):
        raise UnreadableImageError(path, "contains NaN or infinite voxels", "nonfinite")
    filled = array.copy()
    for channel in filled:
        padding = np.isnan(channel)
        low, high = np.percentile(channel[~padding], [DARKEST_PERCENT, 99])
        channel[padding] = low if padding.mean() < FEW_NAN else channel[~padding].min() - 2 * (high - low)
    return filled


def _is_around(mask: np.ndarray) -> bool:
    """Whether each part of a mask (H, W, D) reaches the ends of two axes, as surroundings do; one voxel does not."""
    from scipy import ndimage

    if mask.all():
        return False
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    reached = np.zeros(count + 1, dtype=int)
    for axis, side in enumerate(mask.shape):
        if side > 1:
            ends = np.unique(np.take(parts, (0, side - 1), axis=axis))
            reached[ends] += 1
    return bool((reached[1:] >= 2).all())


def _voxels_of(path: Path, kind: FileType, header: TextHeader, data: bytes) -> bytes:
    """The voxels' bytes, from this file, or for MetaImage from one beside it; never more than the header declares."""
    voxels = data[header.offset :]
    if header.beside is not None:
        beside = path.parent / header.beside
        if kind == "nrrd" or Path(header.beside).name != header.beside or not beside.is_file():
            raise UnreadableImageError(path, "its voxels are in another file; save both as one", "unsupported")
        voxels = beside.read_bytes()
    if not header.is_compressed:
        return voxels
    return zlib.decompressobj(ZLIB_OR_GZIP).decompress(voxels, math.prod(header.shape) * header.dtype.itemsize)


def _nifti_from_bytes(path: Path, content: bytes | None) -> nib.Nifti1Image | nib.Nifti2Image:
    data = path.read_bytes() if content is None else content
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
        raise UnreadableImageError(path, why_unsupported(data), "unsupported")
    raw_header = image.header_class.from_fileobj(BytesIO(data), check=False)  # nibabel reads an infinite slope as none
    if np.isinf(raw_header["scl_slope"]):
        raise UnreadableImageError(path, "its scaling is not finite", "header")
    return image


def _select_channels(array: np.ndarray, path: Path, modalities: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Pick the configured modalities from (H, W, D, channels) and put them first; the names of those that are there."""
    names = decathlon_channels(path) or (list(modalities) if array.shape[3] == len(modalities) else [])
    held = [name for name in modalities if name in names]
    if len(names) != array.shape[3] or not held:
        wanted = f"not known to hold {', '.join(modalities)}; give a volume of three axes for each"
        raise UnreadableImageError(path, f"four axes, and {array.shape[3]} channels that are {wanted}", "rank")
    return np.moveaxis(array[..., [names.index(name) for name in held]], 3, 0), held


def decathlon_channels(path: Path) -> list[str]:
    """Names of a Decathlon file's channels from the `dataset.json` above it, or [] where there is none."""
    description = path.parent.parent / "dataset.json"
    try:
        modality = json.loads(description.read_text())["modality"]
        return [DECATHLON_MODALITIES.get(modality[str(i)].lower(), modality[str(i)]) for i in range(len(modality))]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def code_of(error: Exception) -> str:
    """The kind of fault of a decoder's error, in one word."""
    if isinstance(error, MemoryError):
        return "memory"
    return "header" if isinstance(error, HeaderDataError) else "damaged"


def grid_meta(
    affine: np.ndarray, shape: Sequence[int], spacing_known: bool, thickness_known: bool = False
) -> dict[str, Any]:
    """The metadata of a grid.

    Args:
        affine: (4, 4) from indices to RAS+ millimeters.
        shape: of the file: 2 numbers for a picture and a 2-D NIfTI, else 3.
        spacing_known: whether the file has the spacing of rows and columns.
        thickness_known: whether it has that of the slices.
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
