"""A mask bears its scan's own geometry: NIfTI readers of every school put it where they put the scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.core.geometry import turned_grid
from scripts.io.nifti_geometry import affine_mm, geometry_of, image_on, is_oriented
from scripts.io.readers import BrainMriReader
from scripts.io.writers import PredictionWriter

SHAPE = (9, 8, 5)
TILTED = np.array([[-1.2, 0.1, 0, 40], [0.12, 1.0, -0.3, -30], [0, 0.25, 3.6, 12], [0, 0, 0, 1]])
CODES = [(q, s) for q in (0, 1, 2, 4) for s in (0, 1, 2, 4)]


def orthogonal(affine: np.ndarray) -> np.ndarray:
    """The nearest affine that a quaternion can tell."""
    header = nib.Nifti1Header()
    header.set_qform(affine, 1)
    return np.asarray(header.get_qform())


def scan(qform: int, sform: int, version: int = 1, unit: str = "mm", dtype: str = "int16") -> Any:
    """A tilted scan that its two forms put in different places, as coregistration leaves it."""
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    image = kind(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype), orthogonal(TILTED))
    moved = orthogonal(TILTED)
    moved[:3, 3] += [12, -7, 5]
    image.set_qform(orthogonal(TILTED), qform)
    image.set_sform(moved, sform)
    image.header.set_xyzt_units(unit)
    image.header["descrip"] = b"CANARY"
    return image


def read(path: Path) -> MetaTensor:
    """A scan as it comes through the decoding process, which speaks JSON."""
    reader = BrainMriReader()
    array, meta = reader.get_data(reader.read(str(path)))
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in meta.items()}
    return MetaTensor(torch.from_numpy(array), meta=json.loads(json.dumps(plain)))


def mask_of(image: Any, folder: Path) -> tuple[Path, Path]:
    """Files of a scan and of a mask that was drawn on it."""
    scan_path, mask_path = folder / "scan.nii.gz", folder / "mask.nii.gz"
    nib.save(image, scan_path)
    mask = read(scan_path) > 100
    suffix, content = PredictionWriter.encode(mask.float())
    mask_path.write_bytes(content)
    assert suffix == "nii.gz"
    return scan_path, mask_path


def place_in_itk(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = itk.imread(str(path))
    return np.array(itk.origin(image)), itk.array_from_matrix(image.GetDirection()), np.array(itk.spacing(image))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("qform", "sform"), CODES)
def test_itk_and_nibabel_read_the_same_place_for_mask_and_scan(
    qform: int, sform: int, version: int, tmp_path: Path
) -> None:
    paths = mask_of(scan(qform, sform, version), tmp_path)
    if version == 1:  # ITK reads no NIfTI-2
        first, second = (place_in_itk(path) for path in paths)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    one, other = (nib.load(path) for path in paths)
    assert np.array_equal(one.affine, other.affine) and type(one) is type(other)
    assert other.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(other.dataobj) > 0, np.asarray(one.dataobj) > 100)
    for name in ("qform_code", "sform_code", "pixdim", "xyzt_units", "quatern_b", "qoffset_x", "srow_y"):
        assert np.array_equal(one.header[name], other.header[name]), name
    assert b"CANARY" not in other.header.binaryblock


@pytest.mark.parametrize(("qform", "sform"), CODES)
def test_without_sform_and_qform_left_and_right_are_unknown(qform: int, sform: int, tmp_path: Path) -> None:
    image = scan(qform, sform)
    nib.save(image, tmp_path / "scan.nii")
    assert is_oriented(image) == (qform + sform > 0)
    assert read(tmp_path / "scan.nii").meta["flags"] == ("" if qform + sform else "orientation_unknown")


@pytest.mark.parametrize(("unit", "factor"), [("meter", 0.001), ("micron", 1000.0), ("mm", 1.0), ("unknown", 1.0)])
def test_every_unit_of_length_is_read_and_kept(unit: str, factor: float, tmp_path: Path) -> None:
    image = scan(1, 1, unit=unit, dtype="float32")
    for form in (image.set_qform, image.set_sform):
        form(np.diag([factor, factor, factor, 1.0]) @ orthogonal(TILTED), 1)
    scan_path, mask_path = mask_of(image, tmp_path)
    assert np.allclose(read(scan_path).meta["original_affine"], orthogonal(TILTED), rtol=1e-5)
    assert nib.load(mask_path).header.get_xyzt_units()[0] == unit
    assert np.array_equal(nib.load(mask_path).affine, nib.load(scan_path).affine)


@pytest.mark.parametrize("affine", [TILTED, orthogonal(TILTED)], ids=["sheared", "orthogonal"])
def test_a_mask_of_a_scan_that_is_no_nifti_lies_on_it(affine: np.ndarray) -> None:
    image = nib.Nifti1Image.from_bytes(image_on(None, np.ones(SHAPE, np.uint8), affine).to_bytes())
    assert np.allclose(image.affine, affine, atol=1e-5) and image.header.get_xyzt_units()[0] == "mm"
    if affine is not TILTED:
        assert np.allclose(image.get_qform(), affine, atol=1e-4)


def test_only_the_geometry_of_the_header_is_kept() -> None:
    image = scan(1, 2, unit="micron")
    again = type(image).from_bytes(image_on(geometry_of(image), np.zeros(SHAPE, np.uint8), np.eye(4)).to_bytes())
    assert np.array_equal(again.affine, image.affine)
    assert np.allclose(affine_mm(again)[:3], 0.001 * image.affine[:3])


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "PSR", "SAL", "IRA"])
def test_a_grid_is_reoriented_like_nibabel(axcodes: str) -> None:
    image = scan(1, 1)
    wanted = nib.orientations.axcodes2ornt(tuple(axcodes))
    other = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))
    shape, affine = turned_grid(other.shape, other.affine, image.affine)
    assert shape == image.shape and np.allclose(affine, image.affine, atol=1e-4)
