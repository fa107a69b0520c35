from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.datasets.phantoms import write_volumes
from scripts.core.configs import components_of
from scripts.dataset.slice_pictures import with_slice_pictures
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.io.datalists import Case, Cases, gather_cases

ROOT = Path(__file__).resolve().parents[3]
LIMITS = {"per_volume": 5, "min_tumor_pixels": 50, "min_brain_pixels": 1500}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Cases:
    """Two patients with FLAIR, T1 and T2."""
    folder = tmp_path_factory.mktemp("volumes")
    write_volumes(folder / "brats", 2, slices=12, side=128, modalities=["flair", "t1", "t2"])
    return gather_cases(folder / "brats", None)


@pytest.fixture(scope="module")
def pictures(volumes: Cases, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Slices of their T1 and T2; the mask holds for T2."""
    folder = tmp_path_factory.mktemp("pictures")
    return with_slice_pictures(volumes, folder, ["t1", "t1ce", "t2"], ["t2"], **LIMITS)[len(volumes) :]


def mask_of(volumes: Cases, picture: Case) -> np.ndarray:
    """The mask of a picture's slice, as displayed."""
    label = next(case["label"] for case in volumes if case["id"] == picture["volume"])
    plane = np.asarray(nib.load(label).dataobj)[:, :, int(Path(picture["image"]).stem)]
    return np.asarray(plane.T > 0)


def test_pictures_have_class_patient_and_a_source_of_their_own(volumes: Cases, pictures: list[Case]) -> None:
    assert {picture["source"] for picture in pictures} == {"brats_t1", "brats_t2"}
    assert {picture["group"] for picture in pictures} == {case["group"] for case in volumes}
    assert {picture["cls"] for picture in pictures} == {0, 1}
    assert all(picture["kind"] == "image" for picture in pictures)
    assert len({picture["id"] for picture in pictures}) == len(pictures) == 2 * 2 * 5


def test_class_and_mask_are_those_of_the_slice(volumes: Cases, pictures: list[Case]) -> None:
    for picture in pictures:
        mask = mask_of(volumes, picture)
        assert picture["cls"] == int(mask.any()) and not 0 < mask.sum() < 50
        assert ("label" in picture) == (picture["source"] == "brats_t2")
        if "label" in picture:
            np.testing.assert_array_equal(np.asarray(Image.open(picture["label"])), mask)


def test_picture_shows_the_slice_as_radiology_displays_it(volumes: Cases, pictures: list[Case]) -> None:
    picture = pictures[0]
    volume = next(case for case in volumes if case["id"] == picture["volume"])
    plane = np.asarray(nib.load(volume["sequences"]["t1"]).dataobj)[:, :, int(Path(picture["image"]).stem)]
    shown = np.asarray(Image.open(picture["image"]))
    assert np.corrcoef(shown.ravel(), plane.T.ravel())[0, 1] > 0.99


def test_pictures_are_rewritten_only_for_changed_content(volumes: Cases, tmp_path: Path) -> None:
    def written() -> dict[str, int]:
        with_slice_pictures(Cases(volumes[:1]), tmp_path, ["t2"], [], **LIMITS)
        return {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}

    before = written()
    assert before == written()
    with_slice_pictures(Cases(volumes[:1]), tmp_path, ["t2"], [], **{**LIMITS, "per_volume": 4})
    assert before != {path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}


def test_stored_pictures_are_images_whose_mask_is_known(volumes: Cases, pictures: list[Case], tmp_path: Path) -> None:
    chosen = [next(p for p in pictures if p["source"] == source and p["cls"]) for source in ("brats_t1", "brats_t2")]
    transform: Any = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    build_store(Cases(chosen), transform, tmp_path, 1500, {})
    plain, masked = SliceRecords(SliceStore(tmp_path).cases(), 50)
    assert (plain["cls"], plain["has_mask"], masked["cls"], masked["has_mask"]) == (1.0, False, 1.0, True)
    assert plain["of_volume"] and masked["of_volume"] and not masked["tumor_free"]
    image, mask = SliceStore(tmp_path).read(masked["case"], 0)
    assert mask is not None and mask.sum() > 50 and (image[0][mask[0] > 0] > -4).all()


def test_the_mask_is_resampled_to_a_sequence_on_another_grid(
    volumes: Cases, pictures: list[Case], tmp_path: Path
) -> None:
    """Raw data are not resampled to each other: here the T2 has every second slice, and begins at the second."""
    case = {**volumes[0], "sequences": dict(volumes[0]["sequences"])}
    image = nib.load(case["sequences"]["t2"])
    thick = image.slicer[:, :, 1::2]
    nib.save(thick, tmp_path / "thick_t2.nii.gz")
    case["sequences"]["t2"] = str(tmp_path / "thick_t2.nii.gz")
    found = with_slice_pictures(Cases([case]), tmp_path, ["t2"], ["t2"], **{**LIMITS, "per_volume": 99})[1:]
    reference = np.asarray(nib.load(case["label"]).dataobj)[:, :, 1::2] > 0
    assert {picture["cls"] for picture in found} == {0, 1}
    for picture in found:
        plane = reference[:, :, int(Path(picture["image"]).stem)].T
        np.testing.assert_array_equal(np.asarray(Image.open(picture["label"])) > 0, plane)


def test_outliers_below_the_background_change_no_picture(volumes: Cases, tmp_path: Path) -> None:
    case = volumes[0]
    scan = nib.load(case["sequences"]["t1"])
    values = np.asarray(scan.dataobj, dtype=np.float32)
    values[::32, ::32] = -2.0 * values.max()
    low = tmp_path / "case_t1.nii.gz"
    nib.save(nib.Nifti1Image(values, scan.affine), low)
    edited: Case = {**case, "sequences": {"t1": str(low)}}
    shown = [
        {
            p["id"]: np.asarray(Image.open(p["image"]))
            for p in with_slice_pictures(Cases([c]), folder, ["t1"], [], **LIMITS)[1:]
        }
        for c, folder in ((case, tmp_path / "plain"), (edited, tmp_path / "low"))
    ]
    assert shown[0].keys() == shown[1].keys()
    for id, picture in shown[0].items():
        assert np.median(np.abs(picture.astype(int) - shown[1][id])) <= 1
