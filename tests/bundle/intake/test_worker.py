from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.intake.intake import Intake
from bundle.intake.limits import LOCAL
from bundle.intake.worker import decode, load_reader

ROOT = Path(__file__).resolve().parents[3]


def test_the_reader_is_the_one_of_the_config_with_its_settings() -> None:
    reader = load_reader(ROOT, {"modalities": ["t1", "t2"]})
    assert type(reader).__name__ == "BrainMriReader" and reader.modalities == ("t1", "t2")
    assert load_reader(ROOT, {}).modalities == ("flair",)


def test_decoding_imports_neither_monai_nor_torch(tmp_path: Path) -> None:
    picture = tmp_path / "slice.png"
    Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(picture)
    code = f"""
import sys
from pathlib import Path
from bundle.intake.intake import Intake
from bundle.intake.limits import LOCAL
from bundle.intake.worker import decode, load_reader
reader = load_reader(Path({str(ROOT)!r}), {{}})
array, _ = reader.get_data(reader.read({str(picture)!r}))
assert array.shape == (1, 64, 64, 1), array.shape
print(sorted({{"torch", "monai"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("argument", ["$['flair', 't1']", "@channels"])
def test_a_reader_that_is_told_by_an_expression_is_made_by_monai(tmp_path: Path, argument: str) -> None:
    for name in ("configs", "scripts", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    config = tmp_path / "configs" / "inference.yaml"
    text = config.read_text().replace('modalities: "@modalities"', f'modalities: "{argument}"', 1)
    config.write_text(text + "\nchannels: \"$['flair', 't1']\"\n")
    reader = load_reader(tmp_path, {})
    assert tuple(reader.modalities) == ("flair", "t1")


def test_monai_takes_the_reader_for_one_of_its_own() -> None:
    """In a new process, as other tests may have imported the reader before MONAI."""
    code = """
from monai.data import ImageReader
from scripts.io.readers import BrainMriReader
assert isinstance(BrainMriReader(), ImageReader)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A compressed NIfTI of random numbers, (5, 6, 7)."""
    path = tmp_path / "a_flair.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((5, 6, 7), dtype=np.float32), np.eye(4)), path)
    return path


def test_a_file_is_decompressed_once(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = load_reader(ROOT, {})
    expected, _ = reader.get_data(reader.read(str(volume)))
    monkeypatch.setattr("gzip.decompress", lambda data: pytest.fail("decompressed again"))
    array, _ = decode([volume], reader, LOCAL)
    assert np.array_equal(array, expected) and array.dtype == np.float32
    assert not reader.contents, "it is not kept"


def test_the_slices_of_a_nifti_stay_together_in_memory(volume: Path) -> None:
    with Intake(LOCAL) as intake:
        image = intake.read(volume)
    assert image.as_tensor().permute(0, 3, 2, 1).is_contiguous(), "as in the file, not in the order of the axes"
    assert np.array_equal(image[0].numpy(), nib.load(volume).get_fdata(dtype=np.float32))
