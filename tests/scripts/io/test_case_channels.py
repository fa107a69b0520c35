"""Cases that lack sequences: which channels their files fill."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from scripts.core.filenames import ABSENT
from scripts.io.readers import BrainMriReader, UnreadableImageError

ALL = ("flair", "t1", "t1ce", "t2")


def save(path: Path, level: float, shape: tuple[int, ...] = (5, 6, 4)) -> str:
    """A volume whose voxels are all of one level, or of one for each channel."""
    channels = shape[3] if len(shape) == 4 else 1
    voxels = np.ones(shape, np.float32) * (level + np.arange(channels) if channels > 1 else level)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    return str(path)


def levels(files: list[str], modalities: tuple[str, ...] = ALL) -> tuple[list[float], dict[str, object]]:
    """The level of each channel, and the metadata."""
    reader = BrainMriReader(modalities)
    array, meta = reader.get_data(reader.read(files))
    return [float(channel.mean()) for channel in array], meta


def test_the_channels_of_missing_sequences_are_zero_and_named(tmp_path: Path) -> None:
    files = [save(tmp_path / "P_flair.nii", 3), ABSENT, ABSENT, save(tmp_path / "P_t2.nii", 7)]
    found, meta = levels(files)
    assert found == [3, 0, 0, 7] and meta["missing_sequences"] == "t1 t1ce" and meta["files"] == files
    whole, meta = levels([save(tmp_path / f"P_{name}.nii", 1 + n) for n, name in enumerate(ALL)])
    assert whole == [1, 2, 3, 4] and "missing_sequences" not in meta and "sequence_unknown" not in meta


def test_a_name_tells_the_channel_of_a_single_file_and_of_some(tmp_path: Path) -> None:
    t1, t2 = save(tmp_path / "P_t1.nii", 5), save(tmp_path / "P_t2.nii", 7)
    found, meta = levels([t1])
    assert found == [0, 5, 0, 0] and meta["sequence_told"] == "t1"
    assert levels([t2, t1])[0] == [0, 5, 0, 7], "in whatever order"


def test_of_a_picture_and_an_unnamed_volume_the_sequence_is_unknown(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 5), 9, np.uint8)).save(tmp_path / "P_t1.png")
    for file, level in ((str(tmp_path / "P_t1.png"), 9), (save(tmp_path / "scan.nii", 4), 4)):
        found, meta = levels([file])
        assert found == [level] and meta["sequence_unknown"] and "missing_sequences" not in meta


def test_a_file_of_several_channels_may_lack_some(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": {"0": "T2w", "1": "FLAIR"}}))
    file = save(tmp_path / "imagesTr" / "BRATS_001.nii.gz", 10, (5, 6, 4, 2))
    found, meta = levels([file])
    assert found == [11, 0, 0, 10] and meta["missing_sequences"] == "t1 t1ce" and "channels" not in meta


def test_a_copy_of_the_flair_in_kaggle_3m_is_a_missing_sequence(tmp_path: Path) -> None:
    folder, rng = tmp_path / "P_1", np.random.default_rng(0)
    folder.mkdir()
    for number in (1, 2, 3):
        flair, t1 = rng.integers(1, 200, (2, 16, 16), np.uint8)
        colors = np.stack([t1, flair, flair], axis=2)  # no T1 after contrast
        Image.fromarray(colors).save(folder / f"P_1_{number}.tif")
    found, meta = levels([str(folder)])
    assert meta["missing_sequences"] == "t1ce t2" and found[2:] == [0, 0] and min(found[:2]) > 0


def test_no_sequence_at_all_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="no file of flair, t1; give one of them") as caught:
        levels([ABSENT, ABSENT], ("flair", "t1"))
    assert caught.value.code == "missing"
