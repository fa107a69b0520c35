"""Arrays as files, so that an array is read and preprocessed as every other scan."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np

from .errors import UserError

__all__ = ["as_file"]

TO_RAS = ((1, 0), (0, 1), (2, 2))  # rows run to posterior, columns to the patient's left, slices to superior
SIGNS = (-1.0, -1.0, 1.0)


def as_file(array: np.ndarray, spacing_mm: Sequence[float] | None = None) -> bytes:
    """Encode an array as an image file.

    Args:
        array: gray levels of any scale, (H, W) as radiology displays a slice (rows to posterior, columns to the
            patient's left), or (H, W, D) with slices from inferior to superior.
        spacing_mm: of rows, columns and slices; None only for (H, W), an image of unknown pixel spacing.

    Returns:
        A NIfTI-1 file, or without spacing a 16-bit PNG.

    Raises:
        UserError: when shape, values or spacing are not those of a scan.

    >>> as_file(np.eye(4))[1:4]
    b'PNG'
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "uifb":
        raise UserError(f"array of {array.dtype} {array.shape}: (H, W) or (H, W, D) of numbers is expected")
    if not np.isfinite(array).all() and (spacing_mm is None or np.isinf(array).any()):  # NaN may be padding
        raise UserError(f"array of {array.dtype} {array.shape}: contains values that are not finite")
    if spacing_mm is None:
        if array.ndim == 3:
            raise UserError(f"array of {array.dtype} {array.shape}: a volume needs spacing_mm of its three axes")
        return _png(array)
    if len(spacing_mm) != array.ndim or not all(0 < side < np.inf for side in spacing_mm):
        raise UserError(
            f"spacing_mm is {tuple(spacing_mm)}: one positive number for each of {array.ndim} axes expected"
        )
    return _nifti(array, spacing_mm)


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    low, high = float(array.min()), float(array.max())
    gray = np.round((array.astype(np.float64) - low) * (65535.0 / max(high - low, 1e-30)))
    buffer = BytesIO()
    Image.fromarray(gray.astype(np.uint16)).save(buffer, format="PNG")
    return buffer.getvalue()


def _nifti(array: np.ndarray, spacing_mm: Sequence[float]) -> bytes:
    import nibabel as nib

    affine = np.zeros((4, 4))
    for (world, axis), sign, side in zip(TO_RAS, SIGNS, [*spacing_mm, 1.0][:3], strict=True):
        affine[world, axis] = sign * side
    affine[3, 3] = 1.0
    image = nib.Nifti1Image(array.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())
