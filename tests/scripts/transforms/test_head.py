"""Where the head is: frames, text and margins are not it, whatever the gray scale."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scripts.transforms.head import background_level, fill_planes, find_frame, find_head, tissue_level

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)


def ellipse(height: int, width: int, center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    return np.asarray(((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 <= 1)


def picture(height: int = 200, width: int = 180, background: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A textured head on an even background, and where it is."""
    head = ellipse(height, width, (height / 2, width / 2), (height * 0.36, width * 0.36))
    texture = np.random.default_rng(0).uniform(60, 200, (height, width))
    return np.where(head, background + texture, background).astype(np.float32), head


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks."""
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("background", [0.0, 30.0, -1000.0])
def test_the_head_is_found_on_any_background(background: float) -> None:
    plane, truth = picture(background=background)
    head, level = find_head(plane)
    assert overlap(head, truth) > 0.97 and level == pytest.approx(background)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (150, 300), (257, 255), (900, 700), (1500, 1400)])
def test_the_head_is_found_in_any_resolution(height: int, width: int) -> None:
    plane, truth = picture(height, width)
    head, _ = find_head(plane)
    assert head.shape == plane.shape and overlap(head, truth) > 0.95


def test_the_head_has_no_holes() -> None:
    plane, truth = picture()
    plane[ellipse(200, 180, (100, 90), (30, 12))] = 0  # dark ventricles
    assert overlap(find_head(plane)[0], truth) > 0.97


def test_two_large_parts_are_one_head() -> None:
    plane, truth = picture()
    plane[:, 86:94] = 0  # a dark cleft from front to back
    assert overlap(find_head(plane)[0], truth) > 0.97


@pytest.mark.parametrize("place", [(slice(4, 12), slice(4, 40)), (slice(188, 196), slice(140, 176))])
def test_text_in_a_corner_is_not_the_head(place: tuple[slice, slice]) -> None:
    plane, truth = picture()
    plane[place][::2, ::3] = 255
    assert overlap(find_head(plane)[0], truth) > 0.97


def test_a_solid_mark_in_a_corner_is_not_the_head() -> None:
    plane, truth = picture()
    plane[4:16, 4:20] = 255
    assert overlap(find_head(plane)[0], truth) > 0.97


@pytest.mark.parametrize("border", [3, 8, 20])
def test_a_white_frame_is_not_the_head(border: int) -> None:
    plane, truth = picture()
    framed, truth = np.pad(plane, border, constant_values=255), np.pad(truth, border)
    head, level = find_head(framed)
    assert overlap(head, truth) > 0.97 and level == 0


def test_white_bars_at_both_sides_are_not_the_head() -> None:
    plane, truth = picture()
    head, level = find_head(np.pad(plane, ((0, 0), (30, 30)), constant_values=255))
    assert overlap(head, np.pad(truth, ((0, 0), (30, 30)))) > 0.97 and level == 0


@PROPERTY
@given(scale=st.floats(1e-3, 1e4), shift=st.floats(-1e3, 1e3))
def test_the_gray_scale_does_not_move_the_head(scale: float, shift: float) -> None:
    plane, truth = picture()
    head, level = find_head((plane.astype(np.float64) * scale + shift * scale).astype(np.float32))
    assert overlap(head, truth) > 0.97 and level == pytest.approx(shift * scale, rel=1e-4, abs=1e-3 * scale)


@PROPERTY
@given(margins=st.tuples(*[st.integers(0, 28)] * 4))
def test_margins_only_shift_the_head(margins: tuple[int, int, int, int]) -> None:
    plane, _ = picture()
    top, bottom, left, right = margins
    moved = find_head(np.pad(plane, ((top, bottom), (left, right))))[0]
    assert np.array_equal(moved[top : top + 200, left : left + 180], find_head(plane)[0])
    assert moved.sum() == find_head(plane)[0].sum()


@pytest.mark.parametrize("value", [0.0, 128.0, -5.0])
def test_a_constant_picture_has_no_head(value: float) -> None:
    head, level = find_head(np.full((40, 60), value, dtype=np.float32))
    assert not head.any() and level == value


SIDES = [1, 2, 3, 17, 256, 257, 513, 1500]


@pytest.mark.parametrize(
    ("height", "width"),
    [(h, w) for h in SIDES for w in SIDES if min(h, w) < 4 or h == w],
)
def test_the_head_mask_has_the_size_of_the_picture(height: int, width: int) -> None:
    plane = np.random.default_rng(0).random((height, width), dtype=np.float32)
    head, level = find_head(plane)
    assert head.shape == plane.shape and head.dtype == bool and np.isfinite(level)


def test_a_frame_is_found_with_its_blurred_edge() -> None:
    plane = np.pad(picture()[0], 10, constant_values=255)
    frame = find_frame(plane)
    assert frame[:12].all() and frame[:, -12:].all() and not frame[12:-12, 12:-12].any()


def test_a_bright_head_at_the_border_is_not_a_frame() -> None:
    plane = np.where(ellipse(200, 180, (190, 90), (120, 60)), 255.0, 0.0)
    assert plane[-1].any() and not find_frame(plane).any()


def test_a_picture_without_contrast_has_no_frame() -> None:
    assert not find_frame(np.full((20, 20), 255.0)).any()


def test_the_background_is_read_inside_the_frame() -> None:
    plane = np.pad(picture(background=12.0)[0], 10, constant_values=255)
    assert background_level(plane, find_frame(plane)) == 12.0


def test_one_bright_pixel_does_not_move_the_tissue_level() -> None:
    values = np.concatenate([np.zeros(1000), np.linspace(50, 100, 1000)])
    level = tissue_level(values, 0.0)
    assert level == pytest.approx(10, abs=0.2)
    assert tissue_level(np.append(values, 1e6), 0.0) == pytest.approx(level, rel=0.01)


def test_the_tissue_level_without_tissue_is_the_background() -> None:
    assert tissue_level(np.full(9, 3.0), 3.0) == 3.0


def test_a_white_page_within_a_thin_dark_line_is_a_frame() -> None:
    plane = np.zeros((120, 100), dtype=np.float32)
    plane[2:-2, 2:-2] = 255
    rows, columns = np.mgrid[:120, :100]
    inside = ((rows - 60) / 40) ** 2 + ((columns - 50) / 35) ** 2 <= 1
    plane[inside] = 20 + columns[inside] * 1.5
    plane[50:60, 45:55] = 0  # a ventricle
    head, background = find_head(plane)
    assert background < 60 and (head & inside).sum() > 0.9 * inside.sum()
    assert (head & ~inside).sum() < 0.1 * inside.sum()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 2, 99, 49_153, 327_680])
@pytest.mark.parametrize("order", ["mixed", "rising", "falling", "steps"])
def test_the_tissue_level_is_a_tenth_of_the_percentile_of_all_values(kind: type, count: int, order: str) -> None:
    values = np.random.default_rng(count).gamma(2.0, size=count).astype(kind) + kind(0.01)
    values = {"mixed": values, "rising": np.sort(values), "falling": np.sort(values)[::-1], "steps": np.ceil(values)}[
        order
    ]
    assert tissue_level(values, 0.0) == 0.1 * float(np.percentile(values, 99))


def test_holes_are_filled_in_each_plane_as_by_scipy() -> None:
    mask = np.random.default_rng(0).random((2, 15, 14, 3)) > 0.45
    filled = fill_planes(mask)
    for channel, plane in np.ndindex(2, 3):
        assert np.array_equal(filled[channel, ..., plane], ndimage.binary_fill_holes(mask[channel, ..., plane]))
