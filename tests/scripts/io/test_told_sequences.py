from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.core.filenames import ABSENT
from scripts.io.told_sequences import series_read
from tests.hostile.dicoms import mr_dataset, written


def series(folder: Path, description: str) -> Path:
    folder.mkdir()
    pixels = np.zeros((8, 8), dtype=np.uint16)
    data = written(mr_dataset(pixels, series=f"1.2.{len(description)}", SeriesDescription=description))
    (folder / "000000.dcm").write_bytes(data)
    return folder


def test_the_series_of_a_study_are_told_by_their_headers(tmp_path: Path) -> None:
    names = {"0": "AX T1 +C", "1": "AX T2 FLAIR", "2": "LOCALIZER", "3": "AX T2 FLAIR again"}
    folders = [series(tmp_path / number, description) for number, description in names.items()]
    assert series_read(folders, ["flair", "t1", "t1ce"]) == [str(folders[1]), ABSENT, str(folders[0])]
    assert series_read(folders, ["flair"]) == [str(folders[0])], "the selector of the study has chosen it"
    with pytest.raises(ValueError, match="whose header tells one of t1, t2"):
        series_read(folders, ["t1", "t2"])
