"""Overlays: the tumor is on its side of the picture, with the right letters; lengths are right."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor
from PIL import Image

from bundle.core.messages import STATES, flag
from bundle.intake import local_intake
from bundle.pictures import overlay
from bundle.pictures.drawing import MASK_COLOR, levels_of
from bundle.pictures.overlay import FOOT, HEAD, SIDE, overlay_png

SHAPE, TUMOR = (64, 80, 40), (slice(14, 22), slice(50, 60), slice(10, 18))  # axes to the right, the front and the top
RESULT = {"kind": "volume", "tumor_probability": 0.93, "threshold": 0.4, "state": "tumor", "flags": []}


def head() -> tuple[np.ndarray, np.ndarray]:
    """A head whose axes run to the right, the front and the top, and a tumor in its left front."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    tumor = np.zeros(SHAPE, dtype=bool)
    tumor[TUMOR] = True
    return np.where(x**2 + y**2 + z**2 < 0.8, 100.0, 0.0) + 60.0 * tumor, tumor


def predicted(folder: Path, codes: str = "RAS", sides: tuple[float, ...] = (2, 2, 2), **result: Any) -> dict[str, Any]:
    """A prediction of the head, as it is read from a file with these axes; sides of its voxels in mm."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(codes))
    affine = np.diag([*sides, 1.0]) @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    scan, mask = (nib.orientations.apply_orientation(volume, turn) for volume in head())
    nib.save(nib.Nifti1Image(scan.astype(np.float32), affine), folder / "scan.nii.gz")
    image = local_intake().read(folder / "scan.nii.gz")
    axis = next(number for number, code in enumerate(codes) if code in "SI")
    inside = np.flatnonzero(np.moveaxis(mask, axis, 0).any(axis=(1, 2)))
    probabilities = [0.9 if number == inside[1] else 0.1 for number in range(mask.shape[axis])]
    found = {**RESULT, "slice_axis": axis, "slice_probabilities": probabilities, **result}
    pred = MetaTensor(mask[None].astype(np.float32), meta={**image.meta, "spacing_used": True})
    return {"scan": image, "pred": pred, "result": found}


def drawn(prediction: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, list[tuple[str, Any]]]:
    """The picture, and the words in it with their places."""
    words: list[tuple[str, Any]] = []
    write = overlay.text

    def note(picture: Image.Image, line: str, place: tuple[int, int], *more: Any) -> None:
        words.append((line, place))
        write(picture, line, place, *more)

    monkeypatch.setattr(overlay, "text", note)
    picture = Image.open(io.BytesIO(overlay_png(prediction)))
    assert picture.format == "PNG"
    return np.asarray(picture), words


def outline(picture: np.ndarray) -> np.ndarray:
    """Rows and columns of the mask's outline in the large slice."""
    return np.argwhere((picture[HEAD : HEAD + SIDE, :SIDE] == MASK_COLOR).all(axis=2))


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SRP", "ASL", "PIR"])
def test_a_tumor_in_the_left_front_is_at_the_upper_right_beside_the_letter_l(
    codes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, words = drawn(predicted(tmp_path, codes), monkeypatch)
    rows, columns = outline(picture).mean(axis=0)
    assert columns > 0.55 * SIDE and rows < 0.45 * SIDE
    places = {line: place for line, place in words if place[1] == SIDE // 2}
    assert places["L"][0] > 0.9 * SIDE and places["R"][0] < 0.1 * SIDE


def test_the_slices_are_those_of_the_mask_from_below_to_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file whose slices run downwards, too; their numbers are those of the file."""
    for codes, most, expected in (("RAS", 11, range(8, 20)), ("RAI", 23, range(31, 19, -1))):
        _, words = drawn(predicted(tmp_path, codes), monkeypatch)
        numbers = [line for line, _ in words if line.isdigit()]
        assert numbers == [str(number) for number in expected]
        assert f"slice {most}" in [line for line, _ in words]


def test_lengths_are_right_in_voxels_of_any_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tumor is 8 x 10 voxels wide; the bar is as long as it says."""
    picture, words = drawn(predicted(tmp_path, sides=(3.0, 1.5, 2.0)), monkeypatch)
    height, width = np.ptp(outline(picture), axis=0) + 1
    assert width / height == pytest.approx(8 * 3.0 / (10 * 1.5), rel=0.1)
    (length,) = [int(line.split()[0]) for line, _ in words if line.endswith(" mm")]
    bar = (picture[HEAD + SIDE - 10, :SIDE] > 250).all(axis=1).sum()
    assert bar / length == pytest.approx(width / (8 * 3.0), rel=0.1)


@pytest.mark.parametrize("code", ["orientation_unknown", "spacing_estimated"])
def test_letters_are_left_out_where_the_file_does_not_tell_them(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, words = drawn(predicted(tmp_path, flags=[flag(code)]), monkeypatch)
    lines = [line for line, _ in words]
    assert not {"L", "R"} & set(lines) and code in lines
    assert any(line.endswith(" mm") for line in lines) is (code == "orientation_unknown")


def test_a_picture_has_neither_letters_nor_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(np.eye(120, 90, dtype=np.uint8) * 200).save(tmp_path / "x.png")
    image = local_intake().read(tmp_path / "x.png")
    mask = np.zeros((1, 120, 90, 1), dtype=np.float32)
    mask[0, 30:60, 20:50] = 1
    result = {**RESULT, "kind": "image", "threshold_moved_from": 0.262}
    picture, words = drawn({"scan": image, "pred": MetaTensor(mask, meta=image.meta), "result": result}, monkeypatch)
    assert [line for line, _ in words] == [
        STATES["tumor"].title,
        "probability 0.93, operating point 0.40 (moved from 0.26)",
        "",
        "orange: predicted mask",
        "Research use only. Not a medical device.",
    ]
    assert picture.shape == (HEAD + SIDE + FOOT, SIDE, 3)
    assert np.ptp(outline(picture), axis=0) + 1 == pytest.approx([120, 120], abs=3)  # 4 pixels for one


def test_without_a_prediction_the_middle_of_the_volume_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = {"tumor_probability": None, "state": "no_prediction", "flags": [flag("other_sequence")]}
    prediction = predicted(tmp_path, **none, slice_probabilities=[None] * SHAPE[2])
    prediction["pred"] = prediction["pred"] * 0
    picture, words = drawn(prediction, monkeypatch)
    lines = [line for line, _ in words]
    assert not outline(picture).size and picture[HEAD : HEAD + SIDE, :SIDE].max() > 200
    assert lines[-5:-2] == ["No prediction", "probability none, operating point 0.40", "other_sequence"]
    assert "slice 20" in lines


def test_a_volume_of_few_slices_is_drawn_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = predicted(tmp_path)
    meta = {**found["pred"].meta, "spatial_shape": np.array([*SHAPE[:2], 5])}
    few = {name: MetaTensor(found[name].as_tensor()[..., 15:20], meta=meta) for name in ("scan", "pred")}
    result = {**found["result"], "slice_probabilities": [0.1, 0.2, None, 0.9, 0.3]}
    _, words = drawn({**few, "result": result}, monkeypatch)
    assert [line for line, _ in words if line.isdigit()] == ["0", "1", "2", "3", "4"]
    assert "slice 3" in [line for line, _ in words]


@pytest.mark.parametrize("padding", [-32768.0, 65535.0])
def test_padding_does_not_change_the_gray_levels_of_the_head(padding: float) -> None:
    image = np.random.default_rng(0).uniform(0, 100, (50, 50))
    low, high = levels_of(image)
    image[:10] = padding
    assert levels_of(image) == pytest.approx((low, high), abs=1) and levels_of(np.full((4, 4), 7.0)) == (7, 7)
