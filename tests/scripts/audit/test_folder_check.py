"""Planted faults are found, each by its code, and clean folders have none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hostile.dicoms import mr_dataset, written
from PIL import Image

from scripts.audit.folder_check import check_folders, in_words
from scripts.core.configs import components_of
from scripts.core.files import inflated_sha256, sha256_of


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v/ with four volumes, k/ with 24 images."""
    from bundle.datasets.phantoms import write_images, write_volumes

    folder = tmp_path_factory.mktemp("clean")
    write_volumes(folder / "v", 4, slices=10, side=128, seed=5)
    write_images(folder / "k", 24, seed=5)
    return folder


@pytest.fixture(scope="module")
def check(root: Path) -> Callable[..., dict[str, Any]]:
    read = components_of(root, "preprocess.yaml", ["transform"])["transform"]

    def run(*folders: Path, model: Path | None = None, **how: Any) -> dict[str, Any]:
        given = {"transform": read, "model_path": model or "none.pt", "min_brain_pixels": 1500, "seconds": 1e6}
        return check_folders([str(folder) for folder in folders], **given, **how)

    return run


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "data"))


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine if affine is None else affine), path)


def flair(data: Path, number: int = 2) -> Path:
    return data / f"v/PHANTOM_00{number}/PHANTOM_00{number}_flair.nii.gz"


def seg(data: Path, number: int = 2) -> Path:
    return data / f"v/PHANTOM_00{number}/PHANTOM_00{number}_seg.nii.gz"


def rename(data: Path, number: int, name: str) -> None:
    old = data / f"v/PHANTOM_00{number}"
    for file in old.iterdir():
        file.rename(file.with_name(file.name.replace(old.name, name)))
    old.rename(old.with_name(name))


def first(data: Path, kind: str) -> Path:
    return min((data / "k" / kind).iterdir())


def interpolated(codes: np.ndarray) -> np.ndarray:
    return (codes + np.roll(codes.astype(np.float32), 1, axis=0)) / 2


def two_codes(codes: np.ndarray) -> np.ndarray:
    return np.where(codes == 2, 3, codes).astype(np.uint8)


def in_the_air(codes: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(codes)
    moved[:6, :6, 4:6] = 1
    return moved


def with_skull(gray: np.ndarray) -> np.ndarray:
    """A bright scalp and a dark bone around the head."""
    from scipy import ndimage

    brain = ndimage.binary_fill_holes(gray.max(axis=2) > 0)
    depth = ndimage.distance_transform_edt(brain)[..., None]
    bone, scalp = (depth > 5) & (depth < 14), (depth > 0) & (depth <= 5)
    return np.where(scalp, gray.max(), np.where(bone, gray.max() / 8, gray)).astype(gray.dtype)


def spaced(pixel: float, slices: float) -> np.ndarray:
    return np.diag([-pixel, -pixel, slices, 1.0])


def shift(path: Path) -> np.ndarray:
    affine = np.array(nib.load(path).affine)
    affine[:3, 3] += 20
    return affine


FAULTS: dict[str, Callable[[Path], Any]] = {
    "no_masks": lambda d: [seg(d, n).unlink() for n in range(1, 5)],
    "masks_missing": lambda d: seg(d).unlink(),
    "mask_without_scan": lambda d: flair(d).unlink(),
    "sequence_missing": lambda d: flair(d).rename(flair(d).with_name("PHANTOM_002_t1.nii.gz")),
    "sequence_untold": lambda d: (
        (d / "v/images").mkdir(),
        flair(d).rename(d / "v/images/PHANTOM_002.nii.gz"),
    ),
    "broken_link": lambda d: (d / "v/lost.nii.gz").symlink_to(d / "gone.nii.gz"),
    "visits": lambda d: (rename(d, 1, "K07_1"), rename(d, 2, "K07_2")),
    "few_patients": lambda d: [shutil.rmtree(flair(d, n).parent) for n in (3, 4)],
    "layout: two files may be the": lambda d: shutil.copytree(flair(d).parent, d / "v/copy"),
    "layout: has no image": lambda d: (shutil.rmtree(d / "k/no"), (d / "k/no").mkdir()),
    "layout: no folder 'no'": lambda d: (d / "k/no").rename(d / "k/other"),
    "layout: no case found": lambda d: [flair(d, n).parent.rename(d / f"{n}") for n in range(1, 5)],
    "no_picture": lambda d: (d / "k/yes/notes.txt").write_text("seen on Monday"),
    "unreadable: truncated": lambda d: flair(d).write_bytes(flair(d).read_bytes()[:5000]),
    "unreadable: empty": lambda d: flair(d).write_bytes(b""),
    "unreadable: not finite": lambda d: edit(flair(d), lambda v: np.where(v > v.mean(), np.inf, v).astype(np.float32)),
    "name": lambda d: rename(d, 2, "CASE\x07_2"),
    "mixed_spacing": lambda d: [edit(file, lambda v: v, spaced(0.4, 3.0)) for file in (flair(d), seg(d))],
    "thick_slices": lambda d: [edit(file, lambda v: v, spaced(1.0, 8.0)) for file in (flair(d), seg(d))],
    "empty_masks": lambda d: edit(seg(d), np.zeros_like),
    "unreadable: no picture": lambda d: first(d, "yes").write_bytes(b"<html>not found</html>"),
    "mask_unusable: shape": lambda d: edit(seg(d), lambda v: v[:-2]),
    "mask_unusable: place": lambda d: edit(seg(d), lambda v: v, shift(seg(d))),
    "label_codes: interpolated": lambda d: edit(seg(d), interpolated),
    "label_codes: 3 and 4": lambda d: edit(seg(d), two_codes),
    "mask_of_brain": lambda d: edit(seg(d), lambda v: (np.asanyarray(nib.load(flair(d)).dataobj) > 0).astype(np.uint8)),
    "mask_outside": lambda d: edit(seg(d), in_the_air),
    "all_masks_empty": lambda d: [edit(seg(d, n), np.zeros_like) for n in range(1, 5)],
    "copies": lambda d: shutil.copy(flair(d, 1), flair(d, 2)),
    "class_conflict": lambda d: shutil.copy(first(d, "yes"), d / "k/no/again.jpg"),
    "class_conflict_by_look": lambda d: Image.open(first(d, "yes")).convert("L").save(d / "k/no/x.png"),
    "spacing": lambda d: [edit(file, lambda v: v, np.diag([-9.0, -9.0, 9.0, 1.0])) for file in (flair(d), seg(d))],
    "no_brain": lambda d: edit(flair(d), lambda v: np.zeros_like(v)),
    "single_slice": lambda d: (edit(flair(d), lambda v: v[:, :, 4:5]), edit(seg(d), lambda v: v[:, :, 4:5])),
    "colored": lambda d: Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(
        d / "k/yes/photo.png"
    ),
    "small_picture": lambda d: Image.open(first(d, "no")).convert("L").resize((60, 70)).save(d / "k/no/icon.png"),
    "uneven_classes": lambda d: [path.unlink() for path in sorted((d / "k/no").iterdir())[1:]],
}


def worst(found: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in found["findings"] if finding["level"] != "note"}


def test_clean_folders_have_no_findings(clean: Path, check: Callable[..., dict[str, Any]]) -> None:
    found = check(clean / "v", clean / "k")
    assert worst(found) == set()
    assert (found["cases"], found["looked_at"]) == (28, 28)
    assert found["sources"]["v"]["with_mask"] == 4 and found["sources"]["k"]["yes"] == 12
    assert found["sources"]["v"]["facts"]["orientations"] == {"LPS": 4}
    assert sum(found["sources"]["v"]["facts"]["skull"].values()) == 4
    assert json.loads(json.dumps(found)) == found


def test_a_folder_of_scans_alone_is_no_error(tmp_path: Path, check: Callable[..., dict[str, Any]]) -> None:
    """Nothing to learn from, but to predict."""
    (tmp_path / "study").mkdir()
    for index in range(3):
        data = written(mr_dataset(np.full((32, 32), index, np.uint16), position=3.0 * index))
        (tmp_path / "study" / str(index)).write_bytes(data)
    found = check(tmp_path)
    assert [(finding["code"], finding["level"]) for finding in found["findings"]] == [("layout", "warning")]
    assert found["sources"][tmp_path.name]["predict"] == {"scans": 1, "skipped": {}}


def test_skulls_are_counted_by_source(data: Path, check: Callable[..., dict[str, Any]]) -> None:
    for number in range(1, 5):
        edit(flair(data, number), with_skull)
    found = check(data / "v", data / "k")
    assert found["sources"]["v"]["facts"]["skull"] == {"on": 4}
    assert "skull: on 4" in in_words(found)


def test_two_sources_of_one_name_are_refused(data: Path, check: Callable[..., dict[str, Any]]) -> None:
    (data / "other").mkdir()
    shutil.copytree(data / "v", data / "other" / "v")
    assert "source_name" in worst(check(data / "v", data / "other" / "v"))
    found = check(data / "v", Path(f"again={data / 'other' / 'v'}"))
    assert "source_name" not in worst(found) and set(found["sources"]) == {"v", "again"}
    assert "copies" in worst(found)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_in_the_data_is_found(fault: str, data: Path, check: Callable[..., dict[str, Any]]) -> None:
    FAULTS[fault](data)
    found = check(data / "v", data / "k")
    code, _, words = fault.partition(": ")
    texts = [finding["text"] for finding in found["findings"] if finding["code"] == code]
    assert texts, worst(found)
    assert all("\n" not in text for text in texts)
    if code == "layout":
        assert any(words in text for text in texts)
    assert f"[{code}]" in in_words(found)


def test_file_properties_that_predict_the_class_are_named(tmp_path: Path, check: Callable[..., dict[str, Any]]) -> None:
    from bundle.datasets.phantoms import write_images

    write_images(tmp_path / "k", 24, shortcut=True)
    (text,) = [f["text"] for f in check(tmp_path / "k")["findings"] if f["code"] == "files_tell_class"]
    assert "AUC 1.00, n = 24" in text


def test_training_cases_are_named(data: Path, tmp_path: Path, check: Callable[..., dict[str, Any]]) -> None:
    import hashlib

    model = tmp_path / "model.pt"
    model.write_bytes(b"weights")
    content = hashlib.sha256(inflated_sha256(flair(data)).encode()).hexdigest()
    seen = {"brats/other": {"sha256": content, "group": "brats/other", "subset": "train", "phash": None}}
    model.with_suffix(".json").write_text(json.dumps({"sha256": sha256_of(model), "trained_on": seen}))
    (finding,) = [f for f in check(data / "v", model=model)["findings"] if f["code"] == "seen"]
    assert finding["cases"] == ["v/PHANTOM_002"] and finding["level"] == "warning"


def test_a_table_of_patients_groups_visits(data: Path, check: Callable[..., dict[str, Any]]) -> None:
    FAULTS["visits"](data)
    table = data / "groups.csv"
    table.write_text("case,patient\nK07_1,anna\nK07_2,anna\n")
    found = check(data / "v", groups_file=str(table))
    assert worst(found) == set()
    table.write_text("case,patient\nX,anna\n")
    assert "groups" in worst(check(data / "v", groups_file=str(table)))


def test_resection_cavities_are_known_by_name_or_option(data: Path, check: Callable[..., dict[str, Any]]) -> None:
    FAULTS["label_codes: 3 and 4"](data)
    assert "label_codes" in worst(check(data / "v"))
    assert worst(check(data / "v", tumor_codes=[1, 2, 3])) == set()
    rename(data, 2, "BraTS-GLI-02405-100")
    assert worst(check(data / "v")) == set()


def test_circular_links_are_handled(data: Path, check: Callable[..., dict[str, Any]]) -> None:
    (data / "v" / "again").symlink_to(data / "v")
    assert worst(check(data / "v")) == set()


def test_with_little_time_some_cases_of_every_source_are_read(
    clean: Path, root: Path, check: Callable[..., dict[str, Any]]
) -> None:
    read = components_of(root, "preprocess.yaml", ["transform"])["transform"]
    found = check_folders([str(clean / "v"), str(clean / "k")], read, "none.pt", 1500, seconds=0.0)
    assert found["looked_at"] == 2 and found["cases"] == 28
    assert "looked into 2" in in_words(found)
