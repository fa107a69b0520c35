"""Decoding: what a file shows is what comes out, and what cannot be trusted is refused in one line."""

from __future__ import annotations

import gzip
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import monai.data
import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.transforms import LoadImaged
from PIL import Image, PngImagePlugin

from bundle.datasets.phantoms import write_images
from scripts.io.readers import BrainMriReader, UnreadableImageError, decode_raster, has_white_background

ORIENTATION = 0x0112  # EXIF tag
UPRIGHT_TO_STORED = {  # how a camera stores an upright picture under each EXIF orientation
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}
PROPERTY = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read(*paths: Path, modalities: tuple[str, ...] = ("flair",)) -> np.ndarray:
    reader = BrainMriReader(modalities)
    return reader.get_data(reader.read([str(path) for path in paths]))[0]


def refusal(path: Path, modalities: tuple[str, ...] = ("flair",)) -> str:
    """The one line that says why a file is not read."""
    with pytest.raises(UnreadableImageError) as caught:
        read(path, modalities=modalities)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) > len(f"{path}: ")
    return text


def gray_picture(height: int = 24, width: int = 40) -> np.ndarray:
    """No symmetry, so that every wrong turn shows; smooth, so that JPEG keeps it."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(40 + 3 * rows + 2 * columns, dtype=np.uint8)


def save(path: Path, image: Image.Image | np.ndarray, file_format: str = "PNG", **options: object) -> Path:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(path, format=file_format, **options)
    return path


def encoded(file_format: str) -> bytes:
    """A noisy picture, so that every byte of its file counts."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 40)).astype(np.uint8)
    Image.fromarray(noise).save(buffer, format=file_format)
    return buffer.getvalue()


def volume(shape: tuple[int, ...] = (5, 6, 4), dtype: str = "int16") -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine), path)
    return path


def nifti_bytes(array: np.ndarray) -> bytes:
    return bytes(nib.Nifti1Image(array, np.eye(4)).to_bytes())


def patched(data: bytes, offset: int, layout: str, *values: float) -> bytes:
    """A NIfTI-1 file with one field of its header replaced."""
    return data[:offset] + struct.pack(layout, *values) + data[offset + struct.calcsize(layout) :]


# pictures -------------------------------------------------------------------------------------------------------------


def test_a_gray_png_is_read_unchanged(tmp_path: Path) -> None:
    array = read(save(tmp_path / "a.png", gray_picture()))
    assert array.dtype == np.float32 and array.shape == (1, 24, 40, 1)
    assert np.array_equal(array[0, :, :, 0], gray_picture())


@pytest.mark.parametrize("name", ["a.jpg", "a.nii.gz", "a.dcm", "a"])
def test_the_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    assert np.array_equal(read(save(tmp_path / name, gray_picture()))[0, :, :, 0], gray_picture())


def test_a_nifti_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(gzip.compress(nifti_bytes(volume())))
    assert np.array_equal(read(path)[0], volume())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_gives_gray_levels(tmp_path: Path, mode: str) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(gray_picture()).convert(mode), "JPEG", quality=95)
    assert np.abs(read(path)[0, :, :, 0] - gray_picture()).max() <= 2


def test_a_palette_gives_gray_levels_not_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8), mode="P")
    image.putpalette([200, 200, 200, 30, 30, 30, 255, 0, 0])
    assert read(save(tmp_path / "a.png", image))[0, :, :, 0].tolist() == [[200, 30], [76, 200]]  # 76: luma of red


def test_transparent_palette_entries_are_black(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([200, 200, 200, 30, 30, 30])
    assert read(save(tmp_path / "a.png", image, transparency=0))[0, :, :, 0].tolist() == [[0, 30]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_black(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(np.full((2, 2), 200, np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(np.array([[0, 255], [51, 255]], dtype=np.uint8)))
    array = read(save(tmp_path / "a.png", image))[0, :, :, 0]
    assert np.abs(array - [[0, 200], [40, 200]]).max() <= 1


def test_one_bit_pictures_are_black_and_white(tmp_path: Path) -> None:
    array = read(save(tmp_path / "a.png", Image.fromarray(np.array([[True, False]]))))
    assert array[0, :, :, 0].tolist() == [[255, 0]]


def test_sixteen_bits_show_the_same_picture_as_eight(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16)).astype(np.uint16)
    shallow = (deep // 257).astype(np.uint8)
    pair = read(save(tmp_path / "16.png", deep)), read(save(tmp_path / "8.png", shallow))
    assert np.abs(pair[0] - pair[1]).max() <= 1.0 and pair[0].max() <= 255.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(UPRIGHT_TO_STORED[orientation](gray_picture()))
    path = save(tmp_path / "a", stored, file_format, exif=exif, **({"quality": 100} if file_format == "JPEG" else {}))
    array = read(path)[0, :, :, 0]
    assert array.shape == (24, 40)
    assert np.abs(array - gray_picture()).max() <= (2 if file_format == "JPEG" else 0)


def test_exif_rotation_is_applied_to_sixteen_bits(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.ascontiguousarray(np.rot90(gray_picture(), 1)).astype(np.uint16) * 257
    assert np.abs(read(save(tmp_path / "a.png", stored, exif=exif))[0, :, :, 0] - gray_picture()).max() < 1e-3


def test_cmyk_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", Image.fromarray(gray_picture()).convert("CMYK"), "JPEG")
    assert "CMYK" in refusal(path)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_more_than_one_frame_is_refused(tmp_path: Path, file_format: str) -> None:
    first, second = (Image.fromarray(gray_picture() + shift) for shift in (0, 9))
    assert "frames" in refusal(save(tmp_path / "a", first, file_format, save_all=True, append_images=[second]))


@pytest.mark.parametrize("file_format", ["GIF", "ICO", "PPM", "TGA"])
def test_other_picture_formats_are_refused(tmp_path: Path, file_format: str) -> None:
    refusal(save(tmp_path / "a.png", gray_picture(), file_format))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 0.8])
def test_a_truncated_picture_is_refused(tmp_path: Path, file_format: str, share: float) -> None:
    data = encoded(file_format)
    path = tmp_path / "a"
    path.write_bytes(data[: max(8, int(share * len(data)))])
    refusal(path)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@PROPERTY
@given(cut=st.integers(1, 200))
def test_a_truncated_picture_is_never_read_in_part(tmp_path: Path, file_format: str, cut: int) -> None:
    data = encoded(file_format)
    whole, part = tmp_path / "whole", tmp_path / "part"
    whole.write_bytes(data)
    part.write_bytes(data[:-cut])
    try:
        array = read(part)
    except UnreadableImageError:
        return
    assert np.array_equal(array, read(whole))  # only the end mark was cut off


def test_a_picture_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded("PNG"))
    data[20] ^= 1  # the height, in the header
    path = tmp_path / "a.png"
    path.write_bytes(data)
    refusal(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = struct.pack(">II5B", 60000, 60000, 8, 0, 0, 0, 0)
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(8)
    PngImagePlugin.putchunk(file, b"IHDR", header)
    PngImagePlugin.putchunk(file, b"IDAT", b"")
    path = tmp_path / "a.png"
    path.write_bytes(file.getvalue())
    refusal(path)


# NIfTI ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "uint16", "float32", "float64"])
def test_a_nifti_of_any_number_type_is_read_unchanged(tmp_path: Path, name: str, dtype: str) -> None:
    array = read(save_nifti(tmp_path / name, volume(dtype=dtype)))
    assert array.dtype == np.float32 and np.array_equal(array, volume()[None])


def test_big_endian_and_nifti_2_are_read(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(volume(), np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(volume(), np.eye(4)), tmp_path / "two.nii.gz")
    assert np.array_equal(read(tmp_path / "big.nii")[0], volume())
    assert np.array_equal(read(tmp_path / "two.nii.gz")[0], volume())


def test_slope_and_intercept_of_the_header_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(patched(nifti_bytes(volume()), 112, "<2f", 0.5, 3.0))
    assert np.array_equal(read(path)[0], volume() * 0.5 + 3.0)


def test_the_affine_is_kept(tmp_path: Path) -> None:
    affine = np.array([[0, -0.9, 0.1, 5], [-0.9, 0, 0, -7], [0, 0.1, 3.0, 11], [0, 0, 0, 1]])
    reader = BrainMriReader()
    meta = reader.get_data(reader.read(save_nifti(tmp_path / "a.nii", volume(), affine)))[1]
    assert np.allclose(meta["affine"], affine, atol=1e-5) and meta["spacing_known"]


def test_only_a_nifti_has_a_spacing(tmp_path: Path) -> None:
    reader = BrainMriReader()
    assert not reader.get_data(reader.read(save(tmp_path / "a.png", gray_picture())))[1]["spacing_known"]


def test_a_two_dimensional_nifti_is_one_slice(tmp_path: Path) -> None:
    assert np.array_equal(read(save_nifti(tmp_path / "a.nii", volume((5, 6)))), volume((1, 5, 6, 1)))


@pytest.mark.parametrize("shape", [(5, 6, 4, 1), (5, 6, 4, 1, 1), (5, 6, 1, 1)])
def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.nii"
    header = nib.Nifti1Header()
    header.set_data_dtype("int16")
    header.set_data_shape(shape)
    header["vox_offset"], header["sform_code"] = 352, 1
    header.set_sform(np.eye(4))
    path.write_bytes(header.binaryblock + bytes(4) + volume(shape).tobytes(order="F"))
    assert np.array_equal(read(path), volume(shape).reshape(1, *shape[:3]))


def test_a_fourth_axis_needs_a_meaning(tmp_path: Path) -> None:
    assert "4 channels" in refusal(save_nifti(tmp_path / "a.nii", volume((5, 6, 3, 4))))


def test_a_fourth_axis_may_hold_the_configured_modalities(tmp_path: Path) -> None:
    array = read(save_nifti(tmp_path / "a.nii", volume((5, 6, 3, 2))), modalities=("flair", "t1"))
    assert np.array_equal(array, np.moveaxis(volume((5, 6, 3, 2)), 3, 0))


def test_channels_of_the_decathlon_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": names}))
    path, four = save_nifti(tmp_path / "imagesTr" / "BRATS_001.nii.gz", volume((5, 6, 3, 4))), volume((5, 6, 3, 4))
    assert np.array_equal(read(path), four[None, ..., 0])
    assert np.array_equal(read(path, modalities=("t2", "t1ce")), np.stack([four[..., 3], four[..., 2]]))


def test_a_modality_that_the_decathlon_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T1w", "1": "T2w"}}))
    path = save_nifti(tmp_path / "imagesTr" / "a.nii", volume((5, 6, 3, 2)))
    assert "flair" in refusal(path)


def test_files_of_several_modalities_become_channels_in_order(tmp_path: Path) -> None:
    first, second = save_nifti(tmp_path / "a.nii", volume()), save_nifti(tmp_path / "b.nii", volume() + 7)
    assert np.array_equal(read(second, first, modalities=("t1", "flair")), np.stack([volume() + 7, volume()]))


def test_modalities_of_different_shape_are_refused(tmp_path: Path) -> None:
    first, second = save_nifti(tmp_path / "a.nii", volume()), save_nifti(tmp_path / "b.nii", volume((5, 6, 3)))
    with pytest.raises(UnreadableImageError, match=r"b\.nii: shape") as caught:
        read(first, second, modalities=("flair", "t1"))
    assert caught.value.code == "geometry"


@pytest.mark.parametrize("change", ["mirrored", "moved", "spread"])
def test_modalities_that_lie_elsewhere_are_refused(tmp_path: Path, change: str) -> None:
    first, affine = save_nifti(tmp_path / "a.nii", volume()), np.diag([-1.0, -1.0, 2.0, 1.0])
    if change == "mirrored":
        affine[0] *= -1
    if change == "moved":
        affine[2, 3] = 0.5
    if change == "spread":
        affine[2, 2] = 2.2
    second = save_nifti(tmp_path / "b.nii", volume(), affine)
    with pytest.raises(UnreadableImageError, match=r"b\.nii: lies elsewhere") as caught:
        read(first, second, modalities=("flair", "t1"))
    assert caught.value.code == "geometry"


def test_modalities_whose_headers_are_rounded_are_read(tmp_path: Path) -> None:
    affine = np.array(
        [[-0.93751, 0.01003, 0, 117.31], [0.01003, -0.93752, 0.2, 120.7], [0, 0.04, 5.1, -60], [0, 0, 0, 1]]
    )
    paths = [
        save_nifti(tmp_path / f"{decimals}.nii", np.zeros((240, 240, 30), np.uint8), affine.round(decimals))
        for decimals in (4, 9)
    ]
    assert read(*paths, modalities=("flair", "t1")).shape == (2, 240, 240, 30)


def test_another_number_of_files_of_unknown_sequences_is_refused(tmp_path: Path) -> None:
    paths = [save_nifti(tmp_path / f"{name}.nii", volume()) for name in "abc"]
    with pytest.raises(UnreadableImageError, match="number of channels is 3, expected are 2: flair, t1; give"):
        read(*paths, modalities=("flair", "t1"))
    with pytest.raises(UnreadableImageError, match="number of channels is 2, expected are 3: flair, t1, t2; give"):
        read(*paths[:2], modalities=("flair", "t1", "t2"))


def test_a_mask_has_one_channel_whatever_the_modalities(tmp_path: Path) -> None:
    assert read(save_nifti(tmp_path / "a.nii", volume()), modalities=("seg",)).shape == (1, 5, 6, 4)


@pytest.mark.parametrize("tail", [1, 4, 8, 40])
def test_a_gzip_stream_without_its_end_is_refused(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(nifti_bytes(volume((20, 20, 10))))[:-tail])
    assert "gzip" in refusal(path)


def test_a_gzip_stream_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(nifti_bytes(volume())))
    data[-8] ^= 1
    path = tmp_path / "a.nii.gz"
    path.write_bytes(data)
    refusal(path)


@PROPERTY
@given(length=st.integers(0, 352 + 2 * 5 * 6 * 4 - 1))
def test_a_truncated_nifti_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(nifti_bytes(volume())[:length])
    refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    array = volume(dtype="float32")
    array[2, 3, 1] = value
    assert "NaN" in refusal(save_nifti(tmp_path / "a.nii.gz", array))


@pytest.mark.parametrize("kind", ["complex64", "rgb"])
def test_voxels_of_colors_or_complex_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    dtype = [("R", "u1"), ("G", "u1"), ("B", "u1")] if kind == "rgb" else kind
    assert "not an MRI" in refusal(save_nifti(tmp_path / "a.nii", np.zeros((4, 5, 3), dtype=dtype)))


DAMAGED_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "an axis of length zero": lambda data: patched(data, 40, "<4h", 3, 5, 0, 4),
    "an axis of negative length": lambda data: patched(data, 40, "<4h", 3, 5, -5, 4),
    "no axes": lambda data: patched(data, 40, "<h", 0),
    "one axis": lambda data: patched(data, 40, "<4h", 1, 60, 1, 1),
    "more axes than seven": lambda data: patched(data, 40, "<h", 9),
    "more voxels than bytes": lambda data: patched(data, 40, "<4h", 3, 32767, 32767, 32767),
    "an unknown number type": lambda data: patched(data, 70, "<h", 12345),
    "an infinite slope": lambda data: patched(data, 112, "<2f", np.inf, 0),
    "an infinite intercept": lambda data: patched(data, 112, "<2f", 1, np.inf),
    "voxels behind the end": lambda data: patched(data, 108, "<f", 1e6),
    "a voxel offset that is no number": lambda data: patched(data, 108, "<f", np.nan),
    "a singular affine": lambda data: patched(data, 280, "<12f", *[1, 0, 0, 0] * 3),
    "an affine of zeros": lambda data: patched(data, 280, "<12f", *[0] * 12),
    "an affine that is no number": lambda data: patched(data, 280, "<12f", *[np.nan] * 12),
}


@pytest.mark.parametrize("damage", DAMAGED_HEADERS)
def test_a_damaged_header_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(DAMAGED_HEADERS[damage](nifti_bytes(volume())))
    refusal(path)


@PROPERTY
@given(position=st.integers(0, 347), value=st.integers(0, 255))
def test_damaged_headers_raise_one_kind_of_error(tmp_path: Path, position: int, value: int) -> None:
    data = bytearray(nifti_bytes(volume()))
    data[position] = value
    path = tmp_path / "a.nii"
    path.write_bytes(data)
    try:
        array = read(path)
    except UnreadableImageError:
        return
    assert array.ndim == 4 and np.isfinite(array).all()


# anything else --------------------------------------------------------------------------------------------------------

DICOM_LIKE = bytes(128) + b"DICM" + bytes(range(256))
OTHER_FILES = {
    "empty": b"",
    "text": b"this is not a scan\n" * 40,
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
    "DICOM": DICOM_LIKE,
    "gzipped text": gzip.compress(b"text" * 200, mtime=0),
    "empty gzip": gzip.compress(b"", mtime=0),
    "PNG magic": b"\x89PNG\r\n\x1a\n",
    "JPEG magic": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("name", ["a.png", "a.nii.gz", "a.dcm"])
@pytest.mark.parametrize("content", OTHER_FILES)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(OTHER_FILES[content])
    refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.png")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["noise", "DICOM", "zeros"])
def test_monai_falls_back_to_no_other_reader(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    for name in ("ITKReader", "NibabelReader", "PILReader", "NumpyReader", "NrrdReader", "PydicomReader"):
        if hasattr(monai.data, name):
            monkeypatch.setattr(getattr(monai.data, name), "read", lambda *_, name=name, **__: tried.append(name))
    path = tmp_path / "a.dcm"
    path.write_bytes(OTHER_FILES[content])
    with pytest.raises(Exception) as caught:
        LoadImaged(keys="image", reader=BrainMriReader())({"image": str(path)})
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, UnreadableImageError):
        error = error.__cause__ or error.__context__
    assert isinstance(error, UnreadableImageError) and tried == []


def test_a_head_on_white_is_an_inverted_picture_and_a_white_frame_is_none(tmp_path: Path) -> None:
    rows, columns = np.ogrid[:200, :160]
    distance = np.hypot((rows - 100) / 80, (columns - 80) / 62)
    head = np.where(distance < 1, 60 + 120 * (distance > 0.9), 0).astype(np.uint8)
    framed = np.full((300, 260), 255, np.uint8)
    framed[50:250, 50:210] = head
    pictures = {"head": head, "framed": framed, "black": 0 * head, "white": 0 * head + 255}
    for name, picture in {**pictures, "inverted": 255 - head, "framed_inverted": 255 - framed}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
        found = BrainMriReader().get_data((tmp_path / f"{name}.png",))[1]["white_background"]
        assert found == (name == "inverted"), name


def test_of_synthetic_pictures_the_inverted_ones_have_a_white_background(tmp_path: Path) -> None:
    grays = [decode_raster(path)[0][0, :, :, 0] for path in write_images(tmp_path, 24)]
    assert not any(map(has_white_background, grays))
    assert sum(has_white_background(gray.max() - gray) for gray in grays) >= 18  # not within a frame


def test_the_share_of_colored_pixels_is_measured(tmp_path: Path) -> None:
    half = np.full((8, 8, 3), 90, dtype=np.uint8)
    half[:4, :, 0] = 200
    for name, pixels, share in (("half", half, 0.5), ("gray", np.full((8, 8, 3), 90, dtype=np.uint8), 0.0)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        assert BrainMriReader().get_data((tmp_path / f"{name}.png",))[1]["colored_share"] == share
