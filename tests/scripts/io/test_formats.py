"""NRRD, MetaImage, and the pictures of phones and of publications: read as the formats that everyone knows."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from scripts.core.text_headers import read_text_header
from scripts.io.readers import BrainMriReader, UnreadableImageError
from scripts.transforms.background import level_surroundings

AFFINE = np.array([[0, -1.5, 0, 30], [-1.2, 0, 0, 20], [0, 0, 4, -9], [0, 0, 0, 1.0]])
VOXELS = np.random.default_rng(0).integers(0, 900, (12, 10, 5)).astype(np.int16)
NUMBERS = ["uint8", "int16", "uint16", "float32", "float64"]


def read(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    reader = BrainMriReader()
    return reader.get_data(reader.read(str(path)))


def refusal(path: Path) -> UnreadableImageError:
    with pytest.raises(UnreadableImageError) as caught:
        read(path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path}: ")
    return caught.value


def written(folder: Path, suffix: str, voxels: np.ndarray = VOXELS, compressed: bool = False) -> Path:
    """The voxels on a tilted grid, written by ITK from a NIfTI file."""
    nib.save(nib.Nifti1Image(voxels, AFFINE), folder / "reference.nii")
    path = folder / f"scan.{suffix}"
    itk.imwrite(itk.imread(str(folder / "reference.nii")), str(path), compression=compressed)
    return path


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", ["nrrd", "mha", "mhd"])
def test_a_volume_is_read_like_its_nifti(tmp_path: Path, suffix: str, compressed: bool, dtype: str) -> None:
    path = written(tmp_path, suffix, VOXELS.clip(0, 255).astype(dtype), compressed)
    (array, meta), (expected, told) = read(path), read(tmp_path / "reference.nii")
    assert np.array_equal(array, expected) and array.dtype == np.float32
    assert np.allclose(meta["affine"], told["affine"], atol=1e-5) and meta["flags"] == ""
    assert np.array_equal(meta["spatial_shape"], told["spatial_shape"])
    assert meta["spacing_known"] and meta["thickness_known"]


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_the_content_decides_not_the_name(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix)
    assert np.array_equal(read(path.rename(tmp_path / "0"))[0][0], VOXELS)


def test_without_a_space_left_and_right_are_unknown(tmp_path: Path) -> None:
    path = written(tmp_path, "nrrd")
    lines = [line for line in path.read_bytes().split(b"\n") if not line.startswith((b"space", b"kinds"))]
    path.write_bytes(b"\n".join(lines))
    assert read(path)[1]["flags"] == "orientation_unknown"


@pytest.mark.parametrize("place", ["/etc/passwd", "../scan.raw", "LIST", "missing.raw", "%03d.raw 1 5 1"])
def test_voxels_in_another_file_are_not_read(tmp_path: Path, place: str) -> None:
    path = written(tmp_path, "mhd")
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile = scan.raw", f"ElementDataFile = {place}".encode()))
    assert refusal(path).code == "unsupported"


def test_a_detached_nrrd_is_refused(tmp_path: Path) -> None:
    header, _, voxels = written(tmp_path, "nrrd").read_bytes().partition(b"\n\n")
    (tmp_path / "scan.raw").write_bytes(voxels)
    path = tmp_path / "scan.nhdr"
    path.write_bytes(header + b"\ndata file: scan.raw\n\n")
    assert refusal(path).code == "unsupported"


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_voxels_that_are_not_finite_are_refused(tmp_path: Path, suffix: str) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 4, 2] = np.nan
    itk.imwrite(itk.image_from_array(voxels), str(tmp_path / f"a.{suffix}"))
    assert refusal(tmp_path / f"a.{suffix}").code == "nonfinite"


@pytest.mark.parametrize("suffix", ["nrrd", "mha", "nii.gz"])
@pytest.mark.parametrize("where", ["corners", "slices", "around a brain"])
def test_nan_around_the_head_is_read_as_padding(tmp_path: Path, suffix: str, where: str) -> None:
    voxels = np.random.default_rng(0).uniform(100, 200, (12, 20, 18)).astype(np.float32)
    nan = np.zeros(voxels.shape, dtype=bool)
    if where == "corners":  # of a rotated field of view
        nan[:, :4, :4] = nan[3:, -3:, -5:] = True
    elif where == "slices":
        nan[:2] = nan[-1] = True
    else:
        nan[:] = True
        nan[2:-2, 4:-4, 4:-4] = False
    itk.imwrite(itk.image_from_array(np.where(nan, np.nan, voxels).astype(np.float32)), str(tmp_path / f"a.{suffix}"))
    array = read(tmp_path / f"a.{suffix}")[0][0].transpose(2, 1, 0)
    assert np.array_equal(array[~nan], voxels[~nan])
    assert array[nan].max() == array[nan].min() < np.percentile(voxels[~nan], 1)


def test_nan_beside_a_z_scored_brain_is_read_like_other_padding(tmp_path: Path) -> None:
    head = (np.hypot(*np.ogrid[-30:30, -30:30]) < 20)[:, :, None] & np.ones(6, dtype=bool)
    scan = np.where(head, np.random.default_rng(0).normal(0, 1, head.shape), 0).astype(np.float32)
    levelled = []
    for padding in (np.nan, -1000.0):
        scan[:4] = padding
        nib.save(nib.Nifti1Image(scan, np.eye(4)), tmp_path / "a.nii")
        levelled.append(level_surroundings(read(tmp_path / "a.nii")[0][0]))
    assert np.array_equal(*levelled) and np.unique(levelled[0][~head]).size == 1


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
@pytest.mark.parametrize("length", [20, 150, 700])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, length: int) -> None:
    path = written(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[:length])
    assert refusal(path).code in ("truncated", "header")


IMPOSSIBLE = {
    "nrrd": [
        b"type: short\ndimension: 3\nsizes: 4 4\nencoding: raw",
        b"type: block\ndimension: 2\nsizes: 4 4\nencoding: raw",
        b"type: short\ndimension: 2\nsizes: 4 -4\nencoding: raw",
        b"type: short\ndimension: 2\nsizes: 4 4\nencoding: hex",
        b"",
    ],
    "metaimage": [
        b"NDims = 2\nDimSize = 0 4\nElementType = MET_SHORT\nElementDataFile = LOCAL",
        b"NDims = 2\nDimSize = 4 4\nElementType = MET_STRING\nElementDataFile = LOCAL",
        b"NDims = 2\nDimSize = 4 4\nElementType = MET_SHORT",
        b"NDims = 4\nDimSize = 4 4 4 4\nElementType = MET_SHORT\nElementDataFile = LOCAL",
    ],
}


@pytest.mark.parametrize(("kind", "body"), [(kind, body) for kind, bodies in IMPOSSIBLE.items() for body in bodies])
def test_an_impossible_header_is_an_error(kind: Any, body: bytes) -> None:
    start = {"nrrd": b"NRRD0004\n", "metaimage": b"ObjectType = Image\n"}[kind]
    with pytest.raises(ValueError, match=r"header|type|dimensions|encoding"):
        read_text_header(start + body + b"\n\n", kind)


@pytest.mark.parametrize("space", ["RAS", "left-anterior-superior", "LPS"])
def test_every_space_of_an_nrrd_is_read_like_itk(tmp_path: Path, space: str) -> None:
    path = written(tmp_path, "nrrd")
    path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior", f"space: {space}".encode()))
    image = itk.imread(str(path))
    steps = itk.array_from_matrix(image.GetDirection()) * np.array(itk.spacing(image))
    expected = np.diag([-1, -1, 1]) @ np.column_stack([steps, np.array(itk.origin(image))])
    assert np.allclose(read(path)[1]["affine"][:3], expected, atol=1e-5)


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
def test_a_single_slice_is_read(tmp_path: Path, suffix: str) -> None:
    image = itk.image_from_array(VOXELS[..., 0])
    image.SetSpacing([0.9, 1.1])
    itk.imwrite(image, str(tmp_path / f"a.{suffix}"))
    array, meta = read(tmp_path / f"a.{suffix}")
    assert np.array_equal(array[0, ..., 0], VOXELS[..., 0].T) and not meta["thickness_known"]
    assert np.allclose(np.abs(np.diag(meta["affine"])), [0.9, 1.1, 1, 1])


# pictures -------------------------------------------------------------------------------------------------------------


def picture(mode: str = "L") -> Image.Image:
    rows, columns = np.mgrid[:40, :30]
    return Image.fromarray((120 + 80 * np.sin(rows / 5) * np.cos(columns / 4)).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(("suffix", "options"), [("webp", {"lossless": True}), ("bmp", {}), ("tiff", {})])
def test_a_picture_is_read_like_its_png(tmp_path: Path, suffix: str, options: dict[str, Any], mode: str) -> None:
    picture(mode).save(tmp_path / f"a.{suffix}", **options)
    picture(mode).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / f"a.{suffix}")[0], read(tmp_path / "a.png")[0])


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_compressed_tiff_is_read(tmp_path: Path, compression: str) -> None:
    picture().save(tmp_path / "a.tif", compression=compression, **({"quality": 95} if compression == "jpeg" else {}))
    assert np.abs(read(tmp_path / "a.tif")[0][0, ..., 0] - np.asarray(picture())).max() < 8


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_a_tiff_of_more_bits_has_the_same_contrast(tmp_path: Path, dtype: str) -> None:
    values = np.asarray(picture()).astype(dtype) * 11
    Image.fromarray(values).save(tmp_path / "a.tif")
    found = read(tmp_path / "a.tif")[0][0, ..., 0]
    assert np.corrcoef(found.ravel(), values.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path: Path, dtype: str) -> None:
    levels = np.arange(256, dtype=dtype).reshape(16, 16) * (1 if dtype == "uint8" else 257)
    Image.fromarray(levels).save(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    place = content.index(struct.pack("<HHI", 262, 3, 1)) + 8
    content[place : place + 2] = b"\0\0"
    (tmp_path / "a.tif").write_bytes(content)
    assert np.allclose(read(tmp_path / "a.tif")[0][0, :, :, 0], 255 - np.arange(256).reshape(16, 16), atol=0.01)


def test_a_tiff_of_nan_is_refused(tmp_path: Path) -> None:
    values = np.asarray(picture()).astype(np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert refusal(tmp_path / "a.tif").code == "nonfinite"


def test_the_first_picture_of_a_phones_jpeg_is_read(tmp_path: Path) -> None:
    picture("RGB").save(tmp_path / "one.jpg", quality=95)
    more = [picture("RGB").resize((9, 9)), picture("RGB").rotate(90)]
    picture("RGB").save(tmp_path / "many.jpg", format="MPO", save_all=True, append_images=more, quality=95)
    assert np.array_equal(read(tmp_path / "many.jpg")[0], read(tmp_path / "one.jpg")[0])


@pytest.mark.parametrize("suffix", ["webp", "tiff", "png"])
def test_several_pages_or_an_animation_are_refused(tmp_path: Path, suffix: str) -> None:
    picture().save(tmp_path / f"a.{suffix}", save_all=True, append_images=[picture().rotate(90)])
    assert refusal(tmp_path / f"a.{suffix}").code == "unsupported"


def test_a_compressed_file_other_than_nifti_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nrrd.gz"
    path.write_bytes(gzip.compress(written(tmp_path, "nrrd").read_bytes()))
    assert refusal(path).code == "unsupported"
