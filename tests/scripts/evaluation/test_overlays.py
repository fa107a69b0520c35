"""A gallery shows what was predicted: the right slice, the right outlines, and how many of how many cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from scripts.evaluation import overlays as pictures
from scripts.evaluation.overlays import DrawGallery, draw_tiles
from scripts.inference.decision import Decision
from scripts.io.datalists import Case

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])

Tiles = dict[str, tuple[list[dict[str, Any]], str]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Tiles:
    """What would be drawn: tiles, and which they are, by the picture's name."""
    found: Tiles = {}

    def keep(tiles: list[dict[str, Any]], path: Path, which: str) -> None:
        found[path.name] = (tiles, which)

    monkeypatch.setattr(pictures, "draw_tiles", keep)
    return found


def volume(folder: Path, name: str, row: int) -> tuple[Case, dict[str, Any]]:
    """A case whose tumor is a row of its second slice; its prediction draws the row below, and all of the third."""
    image, label, predicted = (np.zeros((12, 10, 4), np.float32) for _ in range(3))
    image[row, :, 1], label[row, 2:8, 1], label[row, 2, 2] = 9.0, 1.0, 1.0
    predicted[row + 1, 2:8, 1], predicted[:, :, 2] = 1.0, 1.0
    for kind, array in (("flair", image), ("seg", label)):
        nib.save(nib.Nifti1Image(array, AFFINE), folder / f"{name}_{kind}.nii.gz")  # type: ignore[no-untyped-call]
    case = {"id": f"brats/{name}", "source": "brats", "kind": "volume"}
    files = {"image": str(folder / f"{name}_flair.nii.gz"), "label": str(folder / f"{name}_seg.nii.gz")}
    pred = MetaTensor(predicted[None], meta={"original_affine": AFFINE})
    return {**case, **files}, {"pred": pred, "slice_logits": np.array([-9.0, 0.0, 9.0, 9.0])}


def picture(folder: Path, number: int, cls: int) -> tuple[Case, dict[str, Any]]:
    path = folder / f"{number:03d}.png"
    Image.fromarray(np.full((8, 8), 100, np.uint8)).save(path)
    case = {"id": f"kaggle/{path.name}", "source": "kaggle", "kind": "image", "image": str(path), "cls": cls}
    pred = MetaTensor(np.zeros((1, 8, 8, 1), np.float32), meta={"original_affine": AFFINE})
    return case, {"pred": pred, "slice_logits": np.array([0.0])}


def run(folder: Path, pairs: list[tuple[Case, dict[str, Any]]], **options: Any) -> None:
    gallery = DrawGallery([case for case, _ in pairs], Decision(), ["flair"], folder, **options)
    engine = Engine(lambda engine, batch: None)
    gallery.start(engine)
    for case, output in pairs:
        engine.state.batch, engine.state.output = [{"case": case["id"]}], [output]
        gallery.draw_batch(engine)
    gallery.finish(engine)


def test_a_volume_is_shown_at_its_largest_tumor_with_its_masks(tmp_path: Path, drawn: Tiles) -> None:
    run(tmp_path, [volume(tmp_path, "A", 3), volume(tmp_path, "B", 6)])
    tiles, which = drawn["overlays_brats.png"]
    assert which == "2 of 2"
    for tile, row in zip(tiles, (3, 6), strict=True):
        assert tile["title"].endswith("slice 1  p=0.50")
        places = [set(np.argwhere(tile[name] > 0)[:, 0]) for name in ("image", "reference", "predicted")]
        turned = [[{row}, {row}, {row + 1}], [{11 - row}, {11 - row}, {10 - row}]]  # as displayed
        by_column = [set(np.argwhere(tile[name] > 0)[:, 1]) for name in ("image", "reference", "predicted")]
        assert places in turned or by_column in turned
        assert all(tile[name].base is None for name in ("image", "reference", "predicted")), "no volume is kept"


def test_a_gallery_of_many_cases_shows_all_kinds(tmp_path: Path, drawn: Tiles) -> None:
    """Names sort by class: the first four would show one kind only."""
    run(tmp_path, [picture(tmp_path, number, int(number >= 10)) for number in range(20)], most=4)
    tiles, which = drawn["overlays_kaggle.png"]
    assert which == "4 of 20"
    assert [tile["title"].split("  ")[1] for tile in tiles] == ["label 0", "label 0", "label 1", "label 1"]


def test_the_prediction_is_orange_and_the_reference_teal(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True

    def colors(predicted: bool, reference: bool) -> tuple[bool, bool]:
        tile = {"title": "", "image": np.zeros((40, 40)), "predicted": mask & predicted, "reference": mask & reference}
        draw_tiles([tile], tmp_path / "a.png", "1 of 1")
        pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
        red, blue = pixels[..., 0] - pixels[..., 2] > 100, pixels[..., 2] - pixels[..., 0] > 60
        return bool(red.any()), bool(blue.any())

    assert colors(True, False) == (True, False) and colors(False, True) == (False, True)
