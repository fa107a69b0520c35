"""The geometry of a NIfTI file's header: read from a scan, written to its mask.

Reference: nifti1.h and nifti2.h of the NIfTI Data Format Working Group, on qform, sform and xyzt_units.
"""

from __future__ import annotations

from typing import TypeAlias

import nibabel as nib
import numpy as np

__all__ = ["NiftiImage", "affine_mm", "geometry_of", "image_on", "is_oriented"]

NiftiImage: TypeAlias = nib.Nifti1Image | nib.Nifti2Image

MILLIMETERS = {1: 1000.0, 2: 1.0, 3: 0.001}  # per meter, millimeter and micron, by the code of the unit
SPATIAL_UNITS = 7  # of the bits of xyzt_units
QFORM = ("qform_code", *(f"quatern_{axis}" for axis in "bcd"), *(f"qoffset_{axis}" for axis in "xyz"))
SFORM = ("sform_code", *(f"srow_{axis}" for axis in "xyz"))
SCANNER = 1  # the code of a form that tells the scanner's coordinates


def affine_mm(image: NiftiImage) -> np.ndarray:
    """Matrix (4, 4) from indices to RAS+ millimeters, whatever unit the header is written in."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= MILLIMETERS.get(int(image.header["xyzt_units"]) & SPATIAL_UNITS, 1.0)
    return affine


def is_oriented(image: NiftiImage) -> bool:
    """Whether the header tells which way the axes run; where both codes are 0 every program guesses."""
    return int(image.header["qform_code"]) > 0 or int(image.header["sform_code"]) > 0


def geometry_of(image: NiftiImage) -> np.ndarray:
    """The header's bytes, uint8 (348,) or (540,), with its geometry and nothing else that it tells."""
    header = image.header_class()
    for name in (*QFORM, *SFORM):
        header[name] = image.header[name]
    header["pixdim"][:4] = image.header["pixdim"][:4]
    header["xyzt_units"] = int(image.header["xyzt_units"]) & SPATIAL_UNITS
    return np.frombuffer(bytearray(header.binaryblock), dtype=np.uint8)  # of bytes it could not be written to


def image_on(geometry: np.ndarray | None, values: np.ndarray, affine: np.ndarray) -> NiftiImage:
    """Make an image on a scan's grid.

    Args:
        geometry: what `geometry_of` told of the scan; None where it is no NIfTI.
        values: voxels on the scan's axes.
        affine: (4, 4), RAS+ millimeters, for a scan that is no NIfTI.
    """
    if geometry is not None:
        block = np.asarray(geometry).astype(np.uint8).tobytes()
        kind = nib.Nifti2Image if len(block) == nib.Nifti2Header.sizeof_hdr else nib.Nifti1Image
        return kind(values, None, kind.header_class(block))
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, SCANNER)
    image.set_qform(affine, SCANNER)
    if not np.allclose(image.get_qform(), affine, atol=1e-3):  # a quaternion knows no shear
        image.set_qform(None, 0)
    return image
