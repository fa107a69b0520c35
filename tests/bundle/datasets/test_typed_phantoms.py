"""Synthetic images of types of tumors: their layout, and where the tumors lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.command_line.cli import main
from bundle.datasets import phantoms, typed_phantoms
from bundle.datasets.typed_phantoms import write_typed_images
from scripts.core.tumor_types import TUMOR_TYPES
from scripts.io.datalists import image_cases

CLASSES = (*TUMOR_TYPES, "notumor")


def drawn(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tissues of a head with a tumor of a type, and which pixels are tumor, both (side, side)."""
    draw = {"meningioma": typed_phantoms._draw_meningioma, "pituitary": typed_phantoms._draw_pituitary_tumor}
    rng = np.random.default_rng(seed)
    tissue = phantoms._draw_head(rng, 160, np.array([-0.3]), tumor_slices=1, draw_tumor=draw.get(name))[..., 0]
    return tissue, np.isin(tissue, (phantoms.EDEMA, phantoms.RING, phantoms.CORE))


def test_images_lie_in_kaggles_four_classes_and_are_read_as_such(tmp_path: Path) -> None:
    paths = write_typed_images(tmp_path / "kaggle", 40)
    folders = Counter(path.parent.relative_to(tmp_path / "kaggle").as_posix() for path in paths)
    assert folders == {**{f"Training/{name}": 8 for name in CLASSES}, **{f"Testing/{name}": 2 for name in CLASSES}}
    assert len({path.read_bytes() for path in paths}) == 40 and len({Image.open(path).size for path in paths}) > 10
    cases = image_cases(tmp_path / "kaggle", "kaggle", four_classes=True)
    assert Counter(case["class_name"] for case in cases) == dict.fromkeys(CLASSES, 10)


def test_the_same_seed_gives_the_same_bytes_in_any_number(tmp_path: Path) -> None:
    first, other = (write_typed_images(tmp_path / str(seed), 4, seed=seed) for seed in (0, 1))
    again = write_typed_images(tmp_path / "again", 8)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again[:4]]
    assert all(one.read_bytes() != two.read_bytes() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_each_type_lies_where_it_does_in_patients(seed: int) -> None:
    for name in TUMOR_TYPES:
        tissue, tumor = drawn(name, seed)
        rows, columns = np.nonzero(tumor)
        brain = np.argwhere(tissue != phantoms.AIR)
        assert 100 < tumor.sum() < 0.2 * len(brain)
        touches = np.isin(tissue[np.clip(rows + np.array([[-4], [4], [0], [0]]), 0, 159), columns], phantoms.AIR).any()
        sides = np.isin(tissue[rows, np.clip(columns + np.array([[-4], [4]]), 0, 159)], phantoms.AIR).any()
        assert (touches or sides) == (name == "meningioma") or name == "glioma", "a meningioma lies at the surface"
        homogeneous = set(np.unique(tissue[tumor])) == {phantoms.RING}
        assert homogeneous is (name != "glioma"), "a glioma has edema and a core"
        if name == "pituitary":
            assert abs(columns.mean() - 80) < 8 and 60 < rows.mean() < 85, "in the middle, a little in front"


def test_the_command_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["phantoms", "--output", str(tmp_path / "p"), "--patients", "1", "--images", "4"]
    assert main([*asked, "--four-classes"]) == 0
    assert len(list((tmp_path / "p/kaggle").rglob("PHANTOM_*"))) == 4
    with pytest.raises(SystemExit):
        main([*asked, "--four-classes", "--shortcut"])
    assert "not allowed with argument" in capsys.readouterr().err
