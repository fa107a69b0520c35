"""The background is a region: whatever its intensity, a scan is seen as if nobody had touched it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor
from scipy import ndimage

from scripts.transforms.background import find_surroundings, level_surroundings
from scripts.transforms.preprocessing import BACKGROUND, FitHeadd, NormalizeForegroundd

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)
HEIGHT, WIDTH, DEPTH = 120, 100, 5
ROWS, COLUMNS = np.ogrid[:HEIGHT, :WIDTH]


def ellipse(radius: float, row: float = 60, column: float = 50) -> np.ndarray:
    return np.asarray(((ROWS - row) / radius) ** 2 + ((COLUMNS - column) / (0.8 * radius)) ** 2 <= 1)


def stripped() -> tuple[np.ndarray, np.ndarray]:
    """A textured brain from 30 to about 800 with a bright lesion on zero, (H, W, D) float64, and where it is."""
    brain = np.repeat(ellipse(46)[..., None], DEPTH, axis=2)
    values = np.random.default_rng(0).normal(400, 110, brain.shape).clip(30)
    values[ellipse(9, 40, 60)] += 350
    return np.where(brain, values, 0), brain


def raw() -> np.ndarray:
    """The same brain in noisy air."""
    values, brain = stripped()
    return np.where(brain, values, np.random.default_rng(1).rayleigh(8, brain.shape))


def as_read(volume: np.ndarray) -> MetaTensor:
    return MetaTensor(torch.as_tensor(volume[None], dtype=torch.float32), torch.eye(4), {"spacing_known": True})


def seen(volume: np.ndarray) -> MetaTensor:
    """What the network sees of a volume."""
    return NormalizeForegroundd("image")(FitHeadd("image")({"image": as_read(volume)}))["image"]


def alike(first: MetaTensor, second: MetaTensor) -> bool:
    """One picture twice: nearly the same tissue, in it nearly the same standard scores."""
    first, second = first.as_tensor(), second.as_tensor()
    both, either = (first > BACKGROUND) & (second > BACKGROUND), (first > BACKGROUND) | (second > BACKGROUND)
    return bool(both.sum() / either.sum() > 0.97 and (first - second)[both].abs().mean() < 0.05)


def with_corners(volume: np.ndarray, padding: float) -> np.ndarray:
    """Padding where a tilted grid reaches beyond the scan."""
    return np.where((np.add(ROWS, COLUMNS) < 32)[..., None] | (ROWS - COLUMNS > 95)[..., None], padding, volume)


def within_a_circle(volume: np.ndarray, padding: float) -> np.ndarray:
    """Padding outside the scanner's field of view."""
    return np.where(ellipse(68)[..., None], volume, padding)


@pytest.mark.parametrize("volume", [stripped()[0], raw(), -1024 + raw(), raw().round()], ids=["0", "air", "-", "int"])
def test_an_unedited_scan_is_unchanged(volume: np.ndarray) -> None:
    volume = volume.astype(np.float32)
    assert level_surroundings(volume) is volume


@PROPERTY
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), around=st.floats(0.25, 0.85))
def test_the_brain_is_preprocessed_alike_for_any_background(scale: float, shift: float, around: float) -> None:
    """Standardized within the brain, on a background anywhere among its values."""
    values, brain = stripped()
    edited = scale * (np.where(brain, values, around * 800) + shift)
    assert alike(seen(values), seen(edited))


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_z_scored_brain_is_preprocessed_like_the_scan(dtype: str) -> None:
    values, brain = stripped()
    scores = np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)
    scores = scores if dtype == "float32" else np.round(100 * scores)
    assert alike(seen(values), seen(scores))


def test_holes_of_the_background_value_are_background() -> None:
    """`NormalizeIntensity(nonzero=True)` leaves what was zero within the head at zero."""
    values, brain = stripped()
    values[ellipse(4, 70, 45)] = 0
    levelled = level_surroundings(np.where(values != 0, values - 400, 0))
    assert levelled[70, 45, 2] == levelled[0, 0, 0] < np.percentile(levelled[brain], 5)


@pytest.mark.parametrize("shape", [with_corners, within_a_circle])
@pytest.mark.parametrize("padding", [-1000.0, -2048.0, -32768.0])
def test_padding_below_the_air_is_air(shape: object, padding: float) -> None:
    assert alike(seen(raw()), seen(shape(raw(), padding)))  # type: ignore[operator]


@pytest.mark.parametrize("shift", [20, 50])
@pytest.mark.parametrize("noise", [8, 20])
def test_zero_slightly_below_noisy_air_is_air(shift: float, noise: float) -> None:
    values, brain = stripped()
    volume = np.where(brain, values, np.random.default_rng(1).rayleigh(noise, brain.shape)) + shift
    assert alike(seen(volume), seen(within_a_circle(volume, 0)))


@pytest.mark.parametrize("shape", [with_corners, within_a_circle])
@pytest.mark.parametrize("padding", [250.0, 812.0, 4095.0, 65535.0, 1e30])
@pytest.mark.parametrize("volume", [raw(), stripped()[0], raw() - 300], ids=["air", "0", "-"])
def test_bright_padding_is_air(volume: np.ndarray, shape: object, padding: float) -> None:
    """No header names it: the tool that wrote it took the highest value of the type, or any gray."""
    assert alike(seen(volume), seen(shape(volume, padding)))  # type: ignore[operator]


def test_bright_padding_with_a_blurred_edge_is_air() -> None:
    padded = with_corners(raw(), 3000)
    blurred = np.stack([ndimage.uniform_filter(padded[..., n], 2) for n in range(DEPTH)], axis=-1)
    padded[(blurred > 900) & (padded < 900)] = blurred[(blurred > 900) & (padded < 900)]
    assert alike(seen(raw()), seen(padded))


def test_bright_padding_and_a_z_scored_brain_are_distinguished() -> None:
    values, brain = stripped()
    scores = np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)
    assert alike(seen(values), seen(with_corners(scores, 9.0)))


@pytest.mark.parametrize("cut", [20, 30])
def test_saturated_scalp_at_the_border_stays(cut: int) -> None:
    """The field of view ends within the head: what reaches the border is tissue, however bright."""
    values = raw()
    scalp = ellipse(50) & ~ellipse(46)
    values[scalp] = 900.0
    narrow = values[cut:-cut].astype(np.float32)
    assert level_surroundings(narrow) is narrow


@pytest.mark.parametrize("reach", [50, 60, 75, 90])
def test_bright_padding_that_cuts_into_the_head_is_found_or_said(reach: int) -> None:
    corner = (np.add(ROWS, COLUMNS) < reach)[..., None]
    padded = np.where(corner, 700.0, raw())
    left = bool((level_surroundings(padded) == 700).any())
    assert FitHeadd("image")({"image": as_read(padded)})["image"].meta["background_found"] is not left
    assert left is (reach < 70)


@pytest.mark.parametrize("shape", [with_corners, within_a_circle])
def test_zero_below_the_air_is_air(shape: object) -> None:
    """A rescale intercept lifts the air, and the corners of the field of view stay at zero."""
    assert alike(seen(raw()), seen(shape(raw() + 300, 0)))  # type: ignore[operator]


def test_padding_around_padding_is_air() -> None:
    once = with_corners(raw(), -1000)
    assert alike(seen(raw()), seen(np.pad(once, ((9, 4), (3, 12), (0, 0)), constant_values=-32768)))


def test_far_padding_around_a_brain_without_air_is_background() -> None:
    values, brain = stripped()
    assert alike(seen(values), seen(np.where(brain, values, -32768)))


@PROPERTY
@given(scale=st.floats(1e-2, 1e2), shift=st.floats(-1e3, 1e3), padding=st.sampled_from([-1000, -32768]))
def test_the_background_follows_a_change_of_gray_scale(scale: float, shift: float, padding: float) -> None:
    volume = with_corners(raw(), padding)
    found, moved = find_surroundings(volume), find_surroundings(scale * (volume + shift))
    assert found is not None and moved is not None and (found.band, moved.band) == (None, None)
    assert moved.level == pytest.approx(scale * (found.level + shift), rel=1e-6, abs=1e-6 * scale)


def test_padding_and_a_z_scored_brain_are_distinguished() -> None:
    values, brain = stripped()
    scores = np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)
    found = find_surroundings(with_corners(scores, -1000))
    assert found is not None and found.padding is not None and found.band == (0, 0)
    assert alike(seen(values), seen(with_corners(scores, -1000)))


@pytest.mark.parametrize("line", [40.0, 160.0, 255.0])
def test_a_thin_line_around_a_picture_is_not_its_background(line: float) -> None:
    plane = (raw()[..., :1] / 4).clip(0, 255)
    framed = np.pad(plane, ((1, 1), (1, 1), (0, 0)), constant_values=line).astype(np.float32)
    assert level_surroundings(framed) is framed


@pytest.mark.parametrize("value", [0.0, -5.0, 1e17])
def test_a_constant_scan_has_no_background(value: float) -> None:
    assert find_surroundings(np.full((9, 7, 3), value, dtype=np.float32)) is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (2, 2, 1), (600, 2, 1)])
def test_every_image_size_is_accepted(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert level_surroundings(volume).shape == shape


@pytest.mark.parametrize("kind", ["brain alone", "gray noise around"])
def test_a_missing_background_is_noted_in_the_metadata(kind: str) -> None:
    values, brain = stripped()
    noise = np.random.default_rng(2).normal(400, 10, brain.shape)
    volume = values[40:80, 30:70] if kind == "brain alone" else np.where(brain, values, noise)
    assert not seen(volume).meta["background_found"]
    assert seen(values).meta["background_found"] and seen(raw()).meta["background_found"]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9),
        elements=st.sampled_from([-32768, -1, 0, 1, 2, 500, 65535, 3e38]),
    )
)
def test_any_small_scan_is_levelled_within_its_own_range(volume: np.ndarray) -> None:
    levelled = level_surroundings(volume)
    assert levelled.shape == volume.shape and np.isfinite(levelled).all()
    assert volume.min() <= levelled.min() and levelled.max() <= volume.max()
