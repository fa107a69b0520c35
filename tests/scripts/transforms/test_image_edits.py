from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from scripts.transforms.image_edits import (
    add_fake_skull,
    corners_only,
    erase_lesion,
    fill_brain,
    frame_only,
    jpeg,
    rim_only,
    standardize,
    strip_skull,
)
from scripts.transforms.preprocessing import BACKGROUND, BRIGHTEST, DARKEST

SIDE, RADIUS = 64, 23
Region = np.ndarray
Change = Callable[[np.ndarray, Region, Region], np.ndarray]

EVERY: dict[str, Change] = {
    "fill_brain": lambda image, foreground, mask: fill_brain(image, foreground),
    "corners_only": lambda image, foreground, mask: corners_only(image),
    "frame_only": lambda image, foreground, mask: frame_only(image),
    "rim_only": lambda image, foreground, mask: rim_only(image, foreground),
    "strip_skull": lambda image, foreground, mask: strip_skull(image, foreground),
    "add_fake_skull": lambda image, foreground, mask: add_fake_skull(image, foreground),
    "jpeg": lambda image, foreground, mask: jpeg(image),
    "standardize": lambda image, foreground, mask: standardize(image),
    "erase_lesion": lambda image, foreground, mask: erase_lesion(image, mask),
}


def disc(radius: float, row: float = SIDE / 2, column: float = SIDE / 2) -> Region:
    """(1, SIDE, SIDE) boolean."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    inside: np.ndarray = np.hypot(rows - row, columns - column) <= radius
    return inside[None]


@pytest.fixture
def foreground() -> Region:
    return disc(RADIUS)


@pytest.fixture
def mask() -> Region:
    return disc(6, row=SIDE / 2 + 8)


def head(channels: int = 1, lesion: float = 4.0) -> np.ndarray:
    """A disc of noisy tissue with a bright lesion, marks in a corner and on the border, float32 (C, SIDE, SIDE)."""
    rng = np.random.default_rng(0)
    image = np.full((channels, SIDE, SIDE), BACKGROUND)
    inside, bright = disc(RADIUS)[0], disc(6, row=SIDE / 2 + 8)[0]
    image[:, inside] = rng.normal(0, 0.2, (channels, int(inside.sum())))
    image[:, bright] = lesion
    image[:, 2:5, 2:5] = BRIGHTEST  # in a corner
    image[:, 30, 1] = BRIGHTEST  # on the frame alone
    return image.astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_every_edit_keeps_shape_type_and_range(name: str, channels: int, foreground: Region, mask: Region) -> None:
    image = head(channels)
    before = image.copy()
    after = EVERY[name](image, foreground, mask)
    assert after.shape == image.shape and after.dtype == np.float32
    np.testing.assert_array_equal(image, before)  # a new array
    assert not np.array_equal(after, image)
    np.testing.assert_array_equal(after, EVERY[name](image, foreground, mask))  # the same again
    tissue = after[after != BACKGROUND]
    assert tissue.min(initial=0) >= np.float32(DARKEST) and tissue.max(initial=0) <= BRIGHTEST


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_image_stays_empty(name: str) -> None:
    empty = np.full((1, SIDE, SIDE), BACKGROUND, np.float32)
    nothing = np.zeros((1, SIDE, SIDE))
    np.testing.assert_array_equal(EVERY[name](empty, nothing, nothing), empty)


@pytest.mark.parametrize("name", ["fill_brain", "rim_only", "strip_skull", "add_fake_skull", "erase_lesion"])
def test_a_region_of_another_shape_is_refused(name: str) -> None:
    other = np.ones((1, SIDE, SIDE // 2))
    with pytest.raises(ValueError, match="does not fit an image of shape"):
        EVERY[name](head(), other, other)


def test_filled_brain_is_its_mean_and_the_rest_stays(foreground: Region) -> None:
    image = head(2)
    filled = fill_brain(image, foreground.astype(np.float32))
    for channel in (0, 1):
        inside = foreground[0]
        assert filled[channel, inside] == pytest.approx(float(image[channel, inside].mean()), abs=1e-5)
        np.testing.assert_array_equal(filled[channel, ~inside], image[channel, ~inside])


def test_corners_and_frame_exclude_the_head(foreground: Region) -> None:
    image = head()
    corners, frame = corners_only(image), frame_only(image)
    eighth = SIDE // 8
    np.testing.assert_array_equal(corners[:, :eighth, :eighth], image[:, :eighth, :eighth])
    assert corners[0, 3, 3] == frame[0, 3, 3] == BRIGHTEST
    assert corners[0, 30, 1] == BACKGROUND and frame[0, 30, 1] == BRIGHTEST
    for kept in (corners, frame):
        assert (kept[foreground] == BACKGROUND).all()
    assert (corners == BACKGROUND).sum() == image.size - 9


@pytest.mark.parametrize("side", [64, 63])
def test_frame_is_the_same_on_all_four_sides(side: int) -> None:
    kept = frame_only(np.zeros((1, side, side), np.float32))[0] == 0
    np.testing.assert_array_equal(kept, kept[::-1, ::-1])
    np.testing.assert_array_equal(kept, kept.T)
    assert kept[:8].all() and not kept[8:-8, 8:-8].any()


def test_rim_and_stripped_head_partition_the_head(foreground: Region) -> None:
    image = head()
    rim, stripped = rim_only(image, foreground, 0.2), strip_skull(image, foreground, 0.2)
    of_rim, of_rest = (rim != BACKGROUND) & foreground, (stripped != BACKGROUND) & foreground
    np.testing.assert_array_equal(of_rim ^ of_rest, foreground)
    np.testing.assert_array_equal(rim[of_rim], image[of_rim])
    np.testing.assert_array_equal(stripped[of_rest], image[of_rest])
    assert of_rest.sum() == pytest.approx(np.pi * (0.8 * RADIUS) ** 2, rel=0.1)
    assert stripped[0, 3, 3] == BRIGHTEST  # what is not of the head stays


def test_stripping_removes_a_fake_skull(foreground: Region) -> None:
    image = head()
    image[~foreground] = BACKGROUND
    skulled = add_fake_skull(image, foreground)
    np.testing.assert_array_equal(skulled[foreground], image[foreground])  # no pixel of the brain changes
    with_skull = skulled > (BACKGROUND + DARKEST) / 2
    assert with_skull.sum() > 1.3 * foreground.sum()
    skull = with_skull & ~foreground
    scalp = image[foreground].mean() + 2 * image[foreground].std()
    assert np.unique(skulled[skull]) == pytest.approx([DARKEST, scalp], abs=1e-3)
    stripped = strip_skull(skulled, with_skull, 1 - RADIUS / np.sqrt(with_skull.sum() / np.pi))
    assert (stripped[~ndimage.binary_dilation(foreground)] == BACKGROUND).all()


def test_skull_is_a_share_of_the_head() -> None:
    def thickness(radius: float) -> float:
        skulled = add_fake_skull(np.where(disc(radius), 0.0, BACKGROUND).astype(np.float32), disc(radius))
        return float(np.sqrt((skulled > -3.95).sum() / np.pi) - radius)

    assert thickness(20) == pytest.approx(2 * thickness(10), rel=0.25)


def test_a_head_that_fills_the_canvas_has_its_border_as_skull() -> None:
    image, everything = np.ones((1, SIDE, SIDE), np.float32), np.ones((1, SIDE, SIDE))
    stripped = strip_skull(image, everything)
    assert stripped[0, 0, 0] == stripped[0, SIDE // 2, 0] == BACKGROUND and stripped[0, SIDE // 2, SIDE // 2] == 1
    np.testing.assert_array_equal(add_fake_skull(image, everything), image)  # no room for one


def test_lower_jpeg_quality_blurs_tissue_and_keeps_the_head() -> None:
    image = head(2)
    errors = []
    for quality in (95, 50, 10):
        stored = jpeg(image, quality)
        np.testing.assert_array_equal(stored == BACKGROUND, image == BACKGROUND)
        errors.append(float(np.abs(stored - image)[image != BACKGROUND].mean()))
    assert 0 < errors[0] < errors[1] < errors[2] < 1


def test_standardized_tissue_has_mean_0_and_deviation_1() -> None:
    image = head(2, lesion=0.5)
    image[:, :9] = image[:, :, :9] = BACKGROUND  # without marks
    standard = standardize(image)
    tissue = standard[:, image[0] != BACKGROUND]
    assert tissue.mean(axis=1) == pytest.approx(0, abs=1e-5) and tissue.std(axis=1) == pytest.approx(1, abs=1e-5)
    assert (standard[:, image[0] == BACKGROUND] == BACKGROUND).all()
    flat = np.where(disc(9), 2.0, BACKGROUND).astype(np.float32)
    np.testing.assert_array_equal(standardize(flat), np.where(disc(9), 0.0, BACKGROUND))


def test_erased_lesion_looks_like_its_surroundings(mask: Region) -> None:
    image = head()
    erased = erase_lesion(image, mask.astype(np.uint8))
    surroundings = disc(RADIUS - 2) & ~ndimage.binary_dilation(mask, iterations=3)
    assert erased[mask].mean() == pytest.approx(float(image[surroundings].mean()), abs=0.1)
    assert 0.3 < erased[mask].std() / image[surroundings].std() < 1.5  # with texture
    touched = ndimage.binary_dilation(mask[0], iterations=2)[None]
    np.testing.assert_array_equal(erased[~touched], image[~touched])


def test_erasing_continues_a_slope_across_the_lesion() -> None:
    slope = np.where(disc(RADIUS), np.linspace(-2, 2, SIDE), BACKGROUND).astype(np.float32)
    lesion = disc(5)
    with_lesion = np.where(lesion, np.float32(4), slope)
    np.testing.assert_allclose(erase_lesion(with_lesion, lesion)[lesion], slope[lesion], atol=0.05)


def test_erasing_at_the_edge_of_the_brain_leaves_no_air_in_it(foreground: Region) -> None:
    lesion = disc(8, row=SIDE / 2 + RADIUS - 2)
    image = np.where(lesion & foreground, np.float32(4), head(lesion=0))
    erased = erase_lesion(image, lesion)
    np.testing.assert_array_equal(erased == BACKGROUND, image == BACKGROUND)
    assert np.abs(erased[lesion & foreground]).max() < 1


def test_an_empty_lesion_and_a_head_without_other_tissue(foreground: Region) -> None:
    image = head()
    np.testing.assert_array_equal(erase_lesion(image, np.zeros((1, SIDE, SIDE))), image)
    np.testing.assert_array_equal(erase_lesion(image, ~foreground & (image == BACKGROUND)), image)  # lies in air alone
    all_lesion = erase_lesion(image, np.ones((1, SIDE, SIDE)))
    assert np.unique(all_lesion[image != BACKGROUND]).size == 1  # its own mean


def test_a_region_that_is_all_lesion_is_filled_from_the_rest() -> None:
    parts = disc(8, column=16) | disc(8, column=48)
    image = np.where(disc(8, column=16), 1.0, np.where(parts, 3.0, BACKGROUND)).astype(np.float32)
    erased = erase_lesion(image, disc(12, column=48))
    assert erased[disc(8, column=48)] == pytest.approx(1.0, abs=1e-3)


def test_a_margin_of_zero_replaces_only_the_mask(mask: Region) -> None:
    image = head()
    changed = erase_lesion(image, mask, margin=0) != image
    assert (changed <= mask).all() and changed.any()
