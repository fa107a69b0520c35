from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bundle.intake.errors import IntakeError
from bundle.intake.headers import examine
from bundle.intake.limits import LOCAL


def slices(folder: Path, side: int = 32) -> Path:
    """A head of three TIFF slices, as kaggle_3m has it."""
    folder.mkdir()
    for number in range(1, 4):
        Image.new("RGB", (side, side)).save(folder / f"{folder.name}_{number}.tif")
    return folder


def test_voxels_of_a_folder_of_slices_are_counted_and_limited(tmp_path: Path) -> None:
    folder = slices(tmp_path / "P1")
    assert examine(folder, LOCAL) == 3 * 32 * 32
    for strict in (replace(LOCAL, voxels=3 * 32 * 32 - 1), replace(LOCAL, side_pixels=31)):
        with pytest.raises(IntakeError, match="allowed"):
            examine(folder, strict)


def test_a_damaged_slice_is_named(tmp_path: Path) -> None:
    folder = slices(tmp_path / "P1")
    (folder / "P1_2.tif").write_bytes(b"II*\0 and nothing more")
    with pytest.raises(IntakeError, match=r"P1_2\.tif: its TIFF header is damaged"):
        examine(folder, LOCAL)
