"""From any file to the network and back: one orientation, one size, one gray scale, and the way back is exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Invertd, ResampleToMatchd
from PIL import Image

from scripts.core.configs import components_of
from scripts.io.readers import BrainMriReader
from scripts.transforms.preprocessing import (
    BACKGROUND,
    BRIGHTEST,
    DARKEST,
    FitHeadd,
    NormalizeForegroundd,
    RequireSameGridd,
    foreground_statistics,
)
from scripts.transforms.tumor_regions import TumorRegionsd

ROOT = Path(__file__).resolve().parents[3]
PROPERTY = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Preprocess = Callable[[Path], MetaTensor]


@pytest.fixture(scope="module")
def preprocessing() -> Any:
    """The transforms that every part of the bundle uses, from the config itself."""
    return components_of(ROOT, "inference.yaml", ["preprocessing"])["preprocessing"]


@pytest.fixture(scope="module")
def preprocess(preprocessing: Any) -> Preprocess:
    return lambda path: preprocessing({"image": str(path)})["image"]


def ellipse(height: int, width: int, center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return np.asarray(((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 <= 1)


def head_plane(height: int = 180, width: int = 160) -> np.ndarray:
    """A head of gray levels 60..160 on zero; a bright lesion (250) in front, on the patient's left (rows up, right)."""
    rows, columns = np.mgrid[:height, :width]
    texture = 110 + 30 * np.sin(rows / 7) + 20 * np.cos(columns / 9)
    plane = np.where(ellipse(height, width, (height / 2, width / 2), (height * 0.4, width * 0.4)), texture, 0)
    plane[ellipse(height, width, (height * 0.3, width * 0.65), (height * 0.08, width * 0.08))] = 250
    return plane.astype(np.uint8)


def head_volume(height: int = 180, width: int = 160, depth: int = 6) -> np.ndarray:
    """Displayed axes (rows to posterior, columns to the left, slices to superior); no two slices are alike."""
    plane = head_plane(height, width).astype(np.int16)
    return np.stack([plane * (10 + level) * (1 if level else 0) for level in range(depth)], axis=2)


def displayed(volume: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> nib.Nifti1Image:
    """A NIfTI whose axes run to posterior, left and superior."""
    affine = np.array([[0, -spacing[1], 0, 70], [-spacing[0], 0, 0, 80], [0, 0, spacing[2], -20], [0, 0, 0, 1]])
    return nib.Nifti1Image(volume, affine)


def reoriented(image: nib.Nifti1Image, axcodes: str) -> nib.Nifti1Image:
    """The same scan, stored along other axes."""
    now, wanted = nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(axcodes))
    return image.as_reoriented(nib.orientations.ornt_transform(now, wanted))


def save(image: nib.Nifti1Image | np.ndarray, path: Path) -> Path:
    if isinstance(image, nib.Nifti1Image):
        nib.save(image, path)
    else:
        Image.fromarray(image).save(path, format="PNG")
    return path


def scan(volume: np.ndarray, spacing: float = 1.0, spacing_known: bool = True) -> MetaTensor:
    """What the steps before FitHeadd leave: (C, H, W, D)."""
    affine = torch.diag(torch.tensor([spacing, spacing, 1.0, 1.0], dtype=torch.float64))
    volume = volume[None] if volume.ndim == 3 else volume
    return MetaTensor(torch.as_tensor(volume, dtype=torch.float32), affine, {"spacing_known": spacing_known})


def fit(image: MetaTensor) -> MetaTensor:
    return FitHeadd("image")({"image": image})["image"]


def fit_and_normalize(image: MetaTensor) -> torch.Tensor:
    return NormalizeForegroundd("image")({"image": fit(image)})["image"].as_tensor()


def bounding_box(mask: torch.Tensor | np.ndarray) -> tuple[int, int, int, int]:
    """First and last row, first and last column, of (H, W)."""
    mask = np.asarray(mask)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def sides(mask: torch.Tensor | np.ndarray) -> tuple[int, int]:
    top, bottom, left, right = bounding_box(mask)
    return bottom - top + 1, right - left + 1


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """One picture twice, but for a pixel's shift: few pixels differ in being tissue, the others little in gray."""
    both = (a > BACKGROUND) & (b > BACKGROUND)
    either = (a > BACKGROUND) | (b > BACKGROUND)
    return bool(both.sum() / either.sum() > 0.95 and (a - b)[both].abs().mean() < 0.1)


# orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "LAS", "RPI", "PSR", "ASL", "SPR", "IRA"])
def test_storage_order_does_not_change_the_networks_input(tmp_path: Path, preprocess: Preprocess, axcodes: str) -> None:
    image = displayed(head_volume(), spacing=(1.0, 1.0, 3.0))
    reference = preprocess(save(image, tmp_path / "a.nii")).as_tensor()
    other = preprocess(save(reoriented(image, axcodes), tmp_path / "b.nii")).as_tensor()
    assert torch.allclose(reference, other, atol=2e-3)


def test_in_plane_spacing_follows_the_axes(tmp_path: Path, preprocess: Preprocess) -> None:
    image = displayed(head_volume(90, 160), spacing=(2.0, 1.0, 4.0))
    reference = preprocess(save(image, tmp_path / "a.nii")).as_tensor()
    other = preprocess(save(reoriented(image, "LSA"), tmp_path / "b.nii")).as_tensor()
    assert torch.allclose(reference, other, atol=2e-3)


def test_front_is_up_and_the_left_of_the_patient_is_right(tmp_path: Path, preprocess: Preprocess) -> None:
    volume = np.zeros((160, 180, 3), dtype=np.int16)  # axes to the right, to anterior, up: the affine is a unit matrix
    volume[ellipse(160, 180, (80, 90), (64, 72))] = 100
    volume[ellipse(160, 180, (50, 125), (12, 12))] = 250  # low x is left, high y is anterior
    volume[ellipse(160, 180, (80, 90), (64, 72)), 2] += 20  # the uppermost slice
    image = preprocess(save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii"))[0]
    rows, columns = np.nonzero(image[..., 1].numpy() > 2)
    assert rows.mean() < 108 and columns.mean() > 148
    levels = [float(image[160, 128, level]) for level in range(3)]
    assert levels[0] == levels[1] < levels[2]


def test_a_picture_keeps_its_displayed_orientation(tmp_path: Path, preprocess: Preprocess) -> None:
    image = preprocess(save(head_plane(), tmp_path / "a.png"))[0, :, :, 0].numpy()
    rows, columns = np.nonzero(image > 2)
    assert rows.mean() < 108 and columns.mean() > 138


def test_a_picture_and_a_volume_of_one_head_look_alike(tmp_path: Path, preprocess: Preprocess) -> None:
    volume = displayed(head_plane(238, 238)[..., None].astype(np.int16))  # its head is 192 pixels long, as a picture's
    picture = preprocess(save(head_plane(238, 238), tmp_path / "a.png")).as_tensor()
    assert alike(picture, preprocess(save(volume, tmp_path / "a.nii")).as_tensor())


# place and size -------------------------------------------------------------------------------------------------------


def test_the_network_gets_one_shape_and_one_range(tmp_path: Path, preprocess: Preprocess) -> None:
    image = preprocess(save(displayed(head_volume()), tmp_path / "a.nii")).as_tensor()
    assert image.shape == (1, 256, 256, 6) and image.dtype == torch.float32
    assert image.min() == BACKGROUND and image.max() <= BRIGHTEST
    assert torch.equal(image, image.half().float())
    assert not ((image > BACKGROUND) & (image < np.float16(DARKEST))).any()


def test_every_modality_is_a_channel_on_one_canvas(tmp_path: Path) -> None:
    preprocessing = components_of(ROOT, "inference.yaml", ["preprocessing"], modalities=["flair", "t1"])[
        "preprocessing"
    ]
    paths = [save(displayed(head_volume() * factor), tmp_path / f"{factor}.nii") for factor in (1, 3)]
    image = preprocessing({"image": [str(path) for path in paths]})["image"].as_tensor()
    assert image.shape == (2, 256, 256, 6)
    assert torch.allclose(image[0], image[1], atol=4e-3)


@pytest.mark.parametrize("side", [100, 256, 257, 700])
def test_a_circle_in_a_picture_keeps_its_shape_and_size(side: int) -> None:
    disc = ellipse(side, side * 3 // 2, (side * 0.5, side * 0.6), (side * 0.4, side * 0.4)) * 200.0
    height, width = sides(fit(scan(disc[..., None], spacing_known=False))[0, :, :, 0] > 100)
    assert abs(height - width) <= 2 and height == pytest.approx(192, abs=4)


@pytest.mark.parametrize("spacing", [(0.5, 2.0), (1.0, 0.4), (3.0, 1.0)])
def test_a_circle_in_millimeters_keeps_its_shape(
    tmp_path: Path, preprocess: Preprocess, spacing: tuple[float, float]
) -> None:
    height, width = (int(200 / millimeters) for millimeters in spacing)
    disc = ellipse(height, width, (height / 2, width / 2), (80 / spacing[0], 80 / spacing[1])) * np.int16(200)
    image = preprocess(save(displayed(disc[..., None], (*spacing, 5.0)), tmp_path / "a.nii"))
    height, width = sides(image[0, :, :, 0] > BACKGROUND)
    assert height == pytest.approx(160, abs=5) and width == pytest.approx(160, abs=5)


def test_the_head_is_centered() -> None:
    plane = np.pad(head_plane(), ((60, 0), (0, 40)))
    top, bottom, left, right = bounding_box(fit(scan(plane[..., None]))[0, :, :, 0] > 0)
    assert abs(top + bottom - 255) <= 2 and abs(left + right - 255) <= 2


@pytest.mark.parametrize("spacing", [0.001, 0.1, 10.0])
def test_an_implausible_spacing_is_ignored(spacing: float) -> None:
    image = fit(scan(head_plane()[..., None], spacing=spacing))
    assert not image.meta["spacing_used"]
    assert max(sides(image[0, :, :, 0] > 0)) == pytest.approx(192, abs=5)


@pytest.mark.parametrize("decoration", ["frame", "bars", "text", "margin"])
def test_frames_and_text_do_not_change_the_networks_input(
    tmp_path: Path, preprocess: Preprocess, decoration: str
) -> None:
    plane = head_plane()
    reference = preprocess(save(plane, tmp_path / "a.png")).as_tensor()
    if decoration == "frame":
        plane = np.pad(plane, 12, constant_values=255)
    if decoration == "bars":
        plane = np.pad(plane, ((0, 0), (30, 30)), constant_values=255)
    if decoration == "text":
        plane[3:12:2, 3:30:3] = plane[-12:-3, -20:-16] = 255
    if decoration == "margin":
        plane = np.pad(plane, ((0, 40), (30, 5)))
    assert alike(reference, preprocess(save(plane, tmp_path / "b.png")).as_tensor())


def test_text_close_to_the_head_becomes_zero() -> None:
    plane = head_plane()
    plane[20:28, 18:30] = 255  # beside the head, yet within its box
    fitted = fit(scan(plane[..., None]))[0, :, :, 0]
    assert torch.equal(fitted, fit(scan(head_plane()[..., None]))[0, :, :, 0])


def test_fine_texture_is_averaged_where_a_picture_shrinks() -> None:
    rows, columns = np.mgrid[:900, :900]
    checkers = ellipse(900, 900, (450, 450), (430, 430)) * (100.0 + 100 * ((rows + columns) % 2))
    center = fit(scan(checkers[..., None], spacing_known=False))[0, 100:150, 100:150, 0]
    assert float((center - 150).abs().max()) < 5


@PROPERTY
@given(margins=st.tuples(*[st.integers(0, 38)] * 4))
def test_a_black_margin_changes_nothing(margins: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = margins
    plane = np.pad(head_plane(), ((top, bottom), (left, right)))[..., None]
    padded = fit_and_normalize(scan(plane, spacing_known=False))
    assert torch.equal(padded, fit_and_normalize(scan(head_plane()[..., None], spacing_known=False)))


@PROPERTY
@given(margins=st.tuples(*[st.integers(0, 250)] * 4))
def test_a_wide_black_margin_changes_almost_nothing(margins: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = margins
    plane = np.pad(head_plane(), ((top, bottom), (left, right)))[..., None]
    padded = fit_and_normalize(scan(plane, spacing_known=False))
    assert alike(padded, fit_and_normalize(scan(head_plane()[..., None], spacing_known=False)))


@PROPERTY
@given(height=st.integers(1, 255), width=st.integers(1, 255), depth=st.integers(1, 3), known=st.booleans())
def test_every_size_fits_on_the_canvas(height: int, width: int, depth: int, known: bool) -> None:
    volume = np.random.default_rng(0).random((height, width, depth))
    image = fit_and_normalize(scan(volume, spacing_known=known))
    assert image.shape == (1, 256, 256, depth) and torch.isfinite(image).all()


@pytest.mark.parametrize(
    ("height", "width"),
    [(1, 1), (1500, 1500), (1500, 400), (7, 1500), (1, 1500), (600, 2)],
)
def test_extreme_sizes_fit_on_the_canvas(height: int, width: int) -> None:
    plane = np.random.default_rng(0).random((height, width, 1))
    assert torch.isfinite(fit_and_normalize(scan(plane, spacing_known=False))).all()


# gray scale -----------------------------------------------------------------------------------------------------------


@PROPERTY
@given(scale=st.floats(1e-3, 1e4), shift=st.floats(-1e3, 1e3))
def test_brightness_and_contrast_of_the_file_do_not_matter(scale: float, shift: float) -> None:
    volume = head_volume(depth=3).astype(np.float64)
    reference = fit_and_normalize(scan(volume))
    other = fit_and_normalize(scan((volume + shift) * scale))
    assert torch.equal(reference > BACKGROUND, other > BACKGROUND)
    assert (reference - other).abs().max() < 0.01


def test_the_foreground_has_mean_zero_and_variance_one() -> None:
    image = fit_and_normalize(scan(head_volume()))
    values = image[image > BACKGROUND]
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01


def test_every_channel_is_normalized_separately() -> None:
    volume = head_volume().astype(np.float64)
    image = fit_and_normalize(scan(np.stack([volume, volume[::-1] * 50])))
    for channel in image:
        assert abs(float(channel[channel > BACKGROUND].mean())) < 0.01


def test_a_volume_is_normalized_as_a_whole() -> None:
    image = fit_and_normalize(scan(head_volume()))[0]
    means = [float(plane[plane > BACKGROUND].mean()) for plane in image[..., 1:].unbind(-1)]
    assert means == sorted(means) and means[-1] - means[0] > 0.2


def test_one_hot_pixel_stays_within_the_range() -> None:
    volume = head_volume()
    volume[90, 80, 3] = 30000
    assert fit_and_normalize(scan(volume)).max() == BRIGHTEST


@pytest.mark.parametrize("value", [0, 1, 128, 255])
@pytest.mark.parametrize("suffix", ["png", "nii"])
def test_a_constant_image_is_background(tmp_path: Path, preprocess: Preprocess, value: int, suffix: str) -> None:
    plane = np.full((60, 50), value, dtype=np.uint8)
    path = save(plane if suffix == "png" else displayed(np.stack([plane] * 3, axis=2)), tmp_path / f"a.{suffix}")
    assert (preprocess(path) == BACKGROUND).all()


def test_a_head_without_contrast_has_values_within_the_range() -> None:
    image = fit_and_normalize(scan(ellipse(180, 160, (90, 80), (70, 60))[..., None] * 100.0))
    assert image.min() == BACKGROUND and DARKEST <= image.max() <= BRIGHTEST


def test_a_head_without_contrast_looks_the_same_in_any_unit() -> None:
    disc = ellipse(180, 160, (90, 80), (70, 60))[..., None]
    assert torch.equal(fit_and_normalize(scan(disc * 1.0)), fit_and_normalize(scan(disc * 100.0)))


def test_statistics_are_computed_over_the_tissue() -> None:
    image = torch.tensor([0.0, 0.0, 1.0, 80.0, 100.0, 120.0]).reshape(1, 6, 1, 1)
    tissue, mean, std = foreground_statistics(image)
    assert tissue.flatten().tolist() == [False, False, False, True, True, True]
    assert mean.tolist() == [100.0] and std.tolist() == [20.0]


# the way back ---------------------------------------------------------------------------------------------------------


def test_one_millimeter_pixels_are_never_interpolated(tmp_path: Path, preprocess: Preprocess) -> None:
    volume = head_volume()
    image = preprocess(save(displayed(volume), tmp_path / "a.nii"))[0].numpy()
    shown = image > BACKGROUND
    top, bottom, left, right = bounding_box(shown.any(axis=2))
    first, _, start, _ = bounding_box((volume > 0).any(axis=2))
    source = volume[first : first + bottom - top + 1, start : start + right - left + 1].astype(np.float64)
    canvas, shown = image[top : bottom + 1, left : right + 1], shown[top : bottom + 1, left : right + 1]
    shown &= canvas < BRIGHTEST
    slope, intercept = np.polyfit(source[shown], canvas[shown], 1)
    assert np.abs(slope * source + intercept - canvas)[shown].max() < 4e-3  # what float16 leaves


def test_a_volume_of_one_millimeter_is_inverted_bit_for_bit() -> None:
    volume = head_volume().astype(np.float32)
    transform = FitHeadd("image")
    back = transform.inverse(transform({"image": scan(volume)}))["image"]
    assert np.array_equal(back[0].numpy(), volume)


def lesion_prediction(preprocessing: Any, path: Path) -> np.ndarray:
    """Outline the lesion on the canvas, and bring the outline back to the file's grid, as inference does."""
    data = preprocessing({"image": str(path)})
    image = data["image"].as_tensor()
    tissue = image[image > BACKGROUND]
    lesion = image > (tissue.max() + tissue.median()) / 2
    data["pred"] = MetaTensor(lesion.float()).copy_meta_from(data["image"])
    inverse = Invertd(keys="pred", orig_keys="image", transform=preprocessing, nearest_interp=False)
    return np.asarray(inverse(data)["pred"][0] >= 0.5)


@pytest.mark.parametrize("axcodes", ["PLS", "RAS", "LPS", "SPR"])
def test_a_mask_of_one_millimeter_is_inverted_bit_for_bit(tmp_path: Path, preprocessing: Any, axcodes: str) -> None:
    plane = np.where(head_plane() == 250, 1000, 300 * (head_plane() > 0))
    image = reoriented(displayed(np.stack([plane.astype(np.int16)] * 3, axis=2), (1.0, 1.0, 2.5)), axcodes)
    prediction = lesion_prediction(preprocessing, save(image, tmp_path / "a.nii"))
    assert np.array_equal(prediction, np.asarray(image.dataobj) == 1000)


@pytest.mark.parametrize("spacing", [(0.5, 0.5), (0.94, 0.94), (1.2, 0.8), (1.5, 1.5), (0.001, 0.001)])
def test_a_mask_of_any_spacing_is_inverted_to_its_place(
    tmp_path: Path, preprocessing: Any, spacing: tuple[float, float]
) -> None:
    shape = (180, 160) if spacing[0] < 0.01 else tuple(int(170 / millimeters) for millimeters in spacing)
    plane = head_plane(*shape)
    plane = np.where(plane == 250, 1000, 300 * (plane > 0)).astype(np.int16)
    image = reoriented(displayed(np.stack([plane] * 3, axis=2), (*spacing, 5.0)), "LAS")
    prediction = lesion_prediction(preprocessing, save(image, tmp_path / "a.nii"))
    truth = np.asarray(image.dataobj) == 1000
    assert prediction.shape == truth.shape
    assert 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize("size", [(90, 80), (180, 160), (700, 610)])
def test_a_pictures_mask_is_inverted_to_its_place(tmp_path: Path, preprocessing: Any, size: tuple[int, int]) -> None:
    plane = np.pad(head_plane(*size), ((7, 31), (0, 12)))
    prediction = lesion_prediction(preprocessing, save(plane, tmp_path / "a.png"))[..., 0]
    truth = plane == 250
    assert prediction.shape == plane.shape
    assert 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum()) > 0.95


def test_the_affine_is_transformed_and_inverted(tmp_path: Path, preprocessing: Any) -> None:
    image = reoriented(displayed(head_volume(120, 110), (1.5, 1.4, 4.0)), "LAS")
    data = preprocessing({"image": str(save(image, tmp_path / "a.nii"))})
    rows, columns = np.nonzero(data["image"][0, :, :, 3].numpy() > 2)
    seen = data["image"].affine.numpy() @ [rows.mean(), columns.mean(), 3, 1]
    source = np.argwhere(np.asarray(image.dataobj)[..., 3] == 250 * 13).mean(axis=0)
    assert np.allclose(seen[:3], (image.affine @ [*source, 3, 1])[:3], atol=0.5)  # millimeters
    data["pred"] = data["image"].clone()
    back = Invertd(keys="pred", orig_keys="image", transform=preprocessing, nearest_interp=False)(data)["pred"]
    assert np.allclose(back.affine.numpy(), image.affine, atol=1e-4) and tuple(back.shape[1:]) == image.shape


# masks of the training data -------------------------------------------------------------------------------------------


def read(path: Path) -> MetaTensor:
    reader = BrainMriReader()
    array, meta = reader.get_data(reader.read(str(path)))
    return MetaTensor(torch.from_numpy(array), meta=meta | {"filename_or_obj": str(path)})


def pair(tmp_path: Path, mask: nib.Nifti1Image) -> dict[str, MetaTensor]:
    image = displayed(head_volume(20, 16, 4))
    return {"image": read(save(image, tmp_path / "image.nii")), "label": read(save(mask, tmp_path / "mask.nii"))}


def test_a_mask_on_its_images_grid_is_accepted(tmp_path: Path) -> None:
    data = pair(tmp_path, displayed(np.ones((20, 16, 4), np.uint8)))
    assert RequireSameGridd("label")(data)["label"] is data["label"]


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    data = pair(tmp_path, displayed(np.ones((20, 16, 5), np.uint8)))
    with pytest.raises(ValueError, match=r"mask\.nii: mask of shape \(20, 16, 5\) on an image of shape \(20, 16, 4\)"):
        RequireSameGridd("label")(data)


@pytest.mark.parametrize("axcodes", ["RAS", "LPS", "SLA", "PIR"])
def test_a_mask_with_another_order_of_axes_is_reoriented(tmp_path: Path, axcodes: str) -> None:
    """As viewers write it: the same voxels, stored along other axes."""
    voxels = (np.random.default_rng(0).random((20, 16, 4)) > 0.5).astype(np.uint8)
    data = pair(tmp_path, reoriented(displayed(voxels), axcodes))
    RequireSameGridd("label")(data)
    found = ResampleToMatchd("label", key_dst="image", mode="nearest")(data)["label"]
    assert np.array_equal(found[0].numpy(), voxels)


@pytest.mark.parametrize("change", ["shift", "flip", "spacing"])
def test_a_mask_at_another_place_is_refused(tmp_path: Path, change: str) -> None:
    affine = displayed(np.ones((20, 16, 4), np.uint8)).affine.copy()
    if change == "shift":
        affine[0, 3] += 0.5
    if change == "flip":
        affine[:, 0] *= -1
    if change == "spacing":
        affine[2, 2] = 1.1
    data = pair(tmp_path, nib.Nifti1Image(np.ones((20, 16, 4), np.uint8), affine))
    with pytest.raises(ValueError, match=r"mask\.nii: the mask is at another place"):
        RequireSameGridd("label")(data)


def grids(own: np.ndarray) -> dict[str, MetaTensor]:
    """An image of 240 x 240 x 155 voxels of a millimeter, and a mask with another affine."""
    grid, data = {"spatial_shape": np.array([240, 240, 155]), "filename_or_obj": "mask.nii"}, torch.zeros(1, 2, 2, 2)
    affines = {"image": np.diag([-1.0, -1.0, 1.0, 1.0]), "label": own}
    return {key: MetaTensor(data, meta={**grid, "original_affine": affine}) for key, affine in affines.items()}


@pytest.mark.parametrize("change", ["scaled", "turned"])
def test_a_mask_is_compared_at_the_far_corner(change: str) -> None:
    """A hundredth at the origin is two voxels there."""
    own, angle = np.diag([-1.0, -1.0, 1.0, 1.0]), 0.009
    if change == "scaled":
        own[0, 0] *= 1 + angle
    else:
        own[:2, :2] @= [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    with pytest.raises(ValueError, match=r"mask\.nii: the mask is at another place"):
        RequireSameGridd("label")(grids(own))


@given(seed=st.integers(0, 10**6))
@PROPERTY
def test_a_mask_whose_header_is_rounded_is_accepted(seed: int) -> None:
    image = grids(np.eye(4))
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3] = np.column_stack([turn * [0.5, 0.9, 3.0], [-117.3, 98.6, 41.9]])
    for rounded in (affine.astype(np.float32), affine.round(4)):
        image["image"].meta["original_affine"], image["label"].meta["original_affine"] = affine, rounded
        assert RequireSameGridd("label")(image)["label"] is image["label"]


def test_an_image_without_a_mask_is_accepted(tmp_path: Path) -> None:
    data = {"image": read(save(displayed(head_volume(20, 16, 4)), tmp_path / "image.nii"))}
    assert RequireSameGridd("label", allow_missing_keys=True)(data) == data


def test_every_code_of_brats_is_tumor() -> None:
    codes = torch.tensor([0, 1, 2, 3, 4]).reshape(1, 5, 1, 1)
    mask = TumorRegionsd("label")({"label": codes, "id": "brats/brats_2013_pat0001_1"})["label"]
    assert mask.dtype == torch.uint8 and mask.flatten().tolist() == [0, 1, 1, 1, 1]
