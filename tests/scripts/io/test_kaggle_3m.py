from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from scripts.core.configs import components_of
from scripts.io.datalists import volume_cases
from scripts.io.kaggle_3m import (
    SliceFolderError,
    estimated_affine,
    is_slice_folder,
    read_slice_folder,
    sequences_in,
    slice_files,
)
from scripts.io.readers import BrainMriReader, UnreadableImageError
from scripts.io.scan_lists import scans

ROOT = Path(__file__).resolve().parents[3]
PATIENT = "TCGA_XX_0001_20000101"


def write_patient(root: Path, name: str = PATIENT, slices: int = 12, side: int = 128, contrast: bool = True) -> Path:
    """A noisy ellipsoid with a bright lump at the patient's left, as kaggle_3m has it."""
    z, y, x = np.mgrid[-1 : 1 : slices * 1j, -1 : 1 : side * 1j, -1 : 1 : side * 1j]
    head = (z / 1.3) ** 2 + (y / 0.8) ** 2 + (x / 0.6) ** 2 < 1
    lump = (z / 0.4) ** 2 + ((y - 0.2) / 0.2) ** 2 + ((x - 0.25) / 0.2) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=head.shape), 2) * 60
    flair = np.clip(head * (90 + texture) + lump * 90, 0, 255)
    other = np.clip(head * (120 - texture), 0, 255) if contrast else flair
    folder = root / name
    folder.mkdir(parents=True)
    for k in range(slices):
        colors = np.stack([other[k], flair[k], other[k]], axis=-1).astype(np.uint8)
        Image.fromarray(colors).save(folder / f"{name}_{k + 1}.tif")
        Image.fromarray((lump[k] & head[k]).astype(np.uint8) * 255).save(folder / f"{name}_{k + 1}_mask.tif")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient; not to be changed."""
    return write_patient(tmp_path_factory.mktemp("kaggle_3m"))


@pytest.fixture(scope="module")
def preprocessing() -> Any:
    """What inference does to a scan."""
    return components_of(ROOT, "inference.yaml", ["preprocessing"])["preprocessing"]


def test_slices_are_in_the_order_of_their_numbers_not_of_their_names(folder: Path) -> None:
    assert [int(file.stem.rpartition("_")[2]) for file in slice_files(folder)] == list(range(1, 13))
    volume, _ = read_slice_folder(folder, ["flair", "t1"])
    mask, _ = read_slice_folder(folder, ["seg"])
    assert volume.shape == (2, 128, 128, 12) and mask.shape == (1, 128, 128, 12)
    assert volume[0][mask[0] > 0].mean() > volume[1][mask[0] > 0].mean() + 50  # the lump is bright in FLAIR alone


def test_the_longer_side_of_the_head_is_192_mm_and_the_stack_160(folder: Path) -> None:
    volume, affine = read_slice_folder(folder, ["flair"])
    rows = np.flatnonzero((volume[0] > 20).any(axis=(1, 2)))
    assert (rows[-1] - rows[0] + 1) * -affine[1, 0] == pytest.approx(192, abs=6)
    assert affine[2, 2] * 12 == 160
    assert nib.aff2axcodes(affine) == ("P", "L", "S")


def test_the_scale_does_not_depend_on_the_frame_around_the_head_nor_on_its_brightness(folder: Path) -> None:
    volume = read_slice_folder(folder, ["flair"])[0][0]
    framed = np.pad(volume, ((40, 10), (0, 30), (0, 0))) * 0.2
    assert np.allclose(estimated_affine(framed)[:3, :3], estimated_affine(volume)[:3, :3])


def test_a_folder_and_a_nifti_file_of_it_are_served_alike(folder: Path, preprocessing: Any, tmp_path: Path) -> None:
    volume, affine = read_slice_folder(folder, ["flair"])
    nib.save(nib.Nifti1Image(volume[0].astype(np.uint8), affine), tmp_path / "scan.nii.gz")
    served, other = (preprocessing({"image": str(path)})["image"] for path in (folder, tmp_path / "scan.nii.gz"))
    assert served.meta["spacing_used"] and served.meta["flags"] == "spacing_estimated"
    assert np.allclose(served.numpy(), other.numpy(), atol=2e-3)
    assert np.allclose(served.affine, other.affine, atol=1e-4)


def test_a_slice_saved_as_a_picture_has_the_scale_of_the_volume(
    folder: Path, preprocessing: Any, tmp_path: Path
) -> None:
    volume, _ = read_slice_folder(folder, ["flair"])
    Image.fromarray(volume[0, :, :, 6].astype(np.uint8)).save(tmp_path / "slice.png")
    whole = preprocessing({"image": str(folder)})["image"][0, :, :, 6] > -4
    alone = preprocessing({"image": str(tmp_path / "slice.png")})["image"][0, :, :, 0] > -4
    lengths = [int(np.ptp(np.flatnonzero(np.asarray(tissue).any(axis=1)))) for tissue in (whole, alone)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.04)


def test_cases_have_image_mask_patient_and_the_sequences_that_are_there(tmp_path: Path) -> None:
    both = [write_patient(tmp_path, f"TCGA_XX_000{n}_20000101", slices=4, contrast=n == 1) for n in (1, 2)]
    first, second = volume_cases(tmp_path, source="lgg")
    assert (first["id"], first["group"]) == ("lgg/TCGA_XX_0001_20000101", "TCGA-XX-0001")
    assert first["image"] == first["label"] == str(both[0])
    assert set(first["sequences"]) == {"flair", "t1", "t1ce"} and set(second["sequences"]) == {"flair"}
    assert sequences_in(both[1]) == ("flair",)


def test_a_folder_is_one_scan_to_predict(folder: Path) -> None:
    assert [scan["name"] for scan in scans(folder.parent)] == [PATIENT]
    assert [scan["name"] for scan in scans(folder)] == [PATIENT]


def test_a_folder_with_other_files_has_another_layout(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b_1.tif").touch()
    assert not is_slice_folder(tmp_path / "a") and not is_slice_folder(tmp_path / "missing")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / f"{PATIENT}_3.tif").unlink(), "slice 3 is missing"),
        (lambda folder: (folder / f"{PATIENT}_3_mask.tif").unlink(), "mask 3 is missing"),
        (lambda folder: (folder / f"{PATIENT}_3.tif").write_bytes(b"II*\0"), "damaged slice"),
        (lambda folder: Image.new("RGB", (9, 9)).save(folder / f"{PATIENT}_3.tif"), "differ in shape"),
        (lambda folder: Image.new("L", (128, 128)).save(folder / f"{PATIENT}_3.tif"), "has 1 channel"),
    ],
)
def test_damage_is_one_line_with_the_folders_name(folder: Path, tmp_path: Path, damage: Any, reason: str) -> None:
    copy = tmp_path / PATIENT
    shutil.copytree(folder, copy)
    damage(copy)
    with pytest.raises(UnreadableImageError, match=f"^{copy}: .*{reason}"):
        reader = BrainMriReader(["seg"])
        reader.get_data(reader.read(copy))


def test_a_sequence_that_the_layout_does_not_have_is_refused(folder: Path) -> None:
    with pytest.raises(SliceFolderError, match="not t2"):
        read_slice_folder(folder, ["t2"])
