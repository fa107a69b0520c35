from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.datasets.phantoms import write_images, write_volumes
from scripts.core.configs import components_of
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore, build_store
from scripts.io.datalists import Case, gather_cases, volume_cases
from scripts.transforms.preprocessing import BACKGROUND

ROOT = Path(__file__).resolve().parents[3]
MIN_BRAIN = 1500
SETTINGS = {"modalities": ["flair"]}


@pytest.fixture(scope="module")
def transform() -> Callable[[Any], Any]:
    """What preprocess.yaml does to a case."""
    made: Callable[[Any], Any] = components_of(ROOT, "preprocess.yaml", ["transform"])["transform"]
    return made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, transform: Callable[[Any], Any]) -> Path:
    """Data of 3 volumes, one without a mask, and 4 images, with their store in `store`. Not to be changed."""
    folder = tmp_path_factory.mktemp("original")
    write_volumes(folder / "brats", 3, slices=10, side=128)
    write_images(folder / "kaggle", 4)
    (folder / "brats/PHANTOM_003/PHANTOM_003_seg.nii.gz").unlink()
    build_store(gather_cases(folder / "brats", folder / "kaggle"), transform, folder / "store", MIN_BRAIN, SETTINGS)
    return folder


@pytest.fixture
def data(original: Path, tmp_path: Path, transform: Callable[[Any], Any]) -> Data:
    """The same, to be changed; the cases still name the original files."""
    shutil.copytree(original, tmp_path / "copy", copy_function=shutil.copy2)
    return Data(tmp_path / "copy", original, transform)


class Data:
    """A folder with brats/, kaggle/ and store/."""

    def __init__(self, folder: Path, original: Path, transform: Callable[[Any], Any]) -> None:
        self.folder, self.original, self.transform = folder, original, transform
        self.store = folder / "store"

    def build(self, cases: Sequence[Case] | None = None, min_brain_pixels: int = MIN_BRAIN) -> None:
        """Run preprocessing again, on the original files unless told otherwise."""
        cases = self.cases(self.original) if cases is None else cases
        build_store(cases, self.transform, self.store, min_brain_pixels, SETTINGS)

    def cases(self, folder: Path) -> list[Case]:
        return gather_cases(folder / "brats", folder / "kaggle")

    def written(self) -> dict[str, tuple[int, int]]:
        """Which files the store's cases have: their inode and when they were written."""
        files = [path for path in (self.store / "cases").rglob("*") if path.is_file()]
        return {str(p.relative_to(self.store)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


def write_nifti(path: Path, values: np.ndarray, affine: Sequence[float] = (-1, -1, 1, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag(affine).astype(float)), path)  # type: ignore[no-untyped-call]


def made_case(slices: Sequence[int], tumor_pixels: Sequence[int] | None = None, **more: Any) -> Case:
    case = {"id": "s/a", "source": "s", "group": "g", "kind": "volume", "slices": list(slices), **more}
    case["own_statistics"], case["sha256"] = [[[0.0], [1.0]] for _ in slices], {"image": "a"}
    return case if tumor_pixels is None else {**case, "tumor_pixels": list(tumor_pixels)}


def test_stored_slices_equal_the_networks_input_in_inference(original: Path) -> None:
    store = SliceStore(original / "store")
    serve = components_of(ROOT, "inference.yaml", ["preprocessing"])["preprocessing"]
    assert {case["kind"] for case in store.cases()} == {"volume", "image"}
    for case in store.cases():
        served = serve({"image": case["image"]})["image"].numpy()
        for position, index in enumerate(case["slices"]):
            np.testing.assert_array_equal(store.read(case["id"], position)[0], served[..., index])


def test_only_slices_with_enough_brain_are_stored(original: Path) -> None:
    serve = components_of(ROOT, "inference.yaml", ["preprocessing"])["preprocessing"]
    for case in SliceStore(original / "store").cases():
        brain = (serve({"image": case["image"]})["image"].numpy()[0] > BACKGROUND).sum(axis=(0, 1))
        assert case["slices"].tolist() == np.flatnonzero(brain >= MIN_BRAIN).tolist()
        assert case["brain_pixels"].tolist() == brain[brain >= MIN_BRAIN].tolist()
        assert case["kind"] == "image" or 0 < len(case["slices"]) < len(brain)  # blank ends were there to leave out


def test_the_mask_keeps_its_place_and_contains_every_tumor_code(
    tmp_path: Path, transform: Callable[[Any], Any]
) -> None:
    brain = np.hypot(*np.ogrid[-64:64, -64:64])[..., None].repeat(4, axis=2) < 50
    brain = np.pad(brain, ((0, 0), (0, 0), (2, 1)))  # blank slices below and above
    codes = np.zeros(brain.shape, dtype=np.uint8)
    codes[30:50, 40:47, 3:5], codes[30:40, 40:47, 3], codes[45:50, 40:47, 4] = 2, 1, 4
    write_nifti(tmp_path / "A_flair.nii.gz", np.where(codes > 0, 3000, 1000 * brain).astype(np.int16))
    write_nifti(tmp_path / "A_seg.nii.gz", codes)
    build_store(volume_cases(tmp_path), transform, tmp_path / "store", MIN_BRAIN, SETTINGS)

    store = SliceStore(tmp_path / "store")
    (case,) = store.cases()
    assert [case[key].tolist() for key in ("slices", "tumor_pixels")] == [[2, 3, 4, 5], [0, 140, 140, 0]]
    for position in range(4):
        image, mask = store.read(case["id"], position)
        assert mask is not None and mask.shape == (1, 256, 256) and mask.dtype == np.uint8
        np.testing.assert_array_equal(mask[0] == 1, image[0] > 1)
        assert mask.sum() == case["tumor_pixels"][position]


def test_a_case_without_a_mask_has_no_empty_mask(original: Path) -> None:
    store = SliceStore(original / "store")
    has_mask = {case["id"]: store.read(case["id"], 0)[1] is not None for case in store.cases()}
    assert [has_mask[f"brats/PHANTOM_00{number}"] for number in (1, 2, 3)] == [True, True, False]
    assert not any(has for case_id, has in has_mask.items() if case_id.startswith("kaggle/"))


@pytest.mark.parametrize(
    ("tumor_pixels", "expected"), [(0, 0.0), (1, np.nan), (49, np.nan), (50, 1.0), (5000, 1.0), (None, np.nan)]
)
def test_class_of_a_slice_follows_from_its_tumor_pixels(tumor_pixels: int | None, expected: float) -> None:
    case = made_case([7], None if tumor_pixels is None else [tumor_pixels])
    (record,) = SliceRecords([case], min_tumor_pixels=50)
    np.testing.assert_equal(record["cls"], expected)
    assert record["has_mask"] is (tumor_pixels is not None)


def test_image_has_the_class_of_its_folder() -> None:
    records = SliceRecords([made_case([0], cls=0, kind="image"), made_case([0], cls=1, kind="image")], 50)
    assert [(record["cls"], record["has_mask"]) for record in records] == [(0.0, False), (1.0, False)]


def test_a_record_has_its_position_in_the_store_and_index_in_the_volume() -> None:
    records = SliceRecords([made_case([3, 4, 6], [0, 60, 70])], 50)
    assert [(r["position"], r["index"], r["cls"]) for r in records] == [(0, 3, 0.0), (1, 4, 1.0), (2, 6, 1.0)]
    assert {(r["case"], r["source"], r["group"], r["kind"]) for r in records} == {("s/a", "s", "g", "volume")}


def test_one_config_key_defines_a_tumor_slice() -> None:
    lines = [line for path in (ROOT / "configs").glob("*.yaml") for line in path.read_text().splitlines()]
    rules = [line for line in lines if line.startswith("min_tumor_pixels:") and "$" not in line]
    assert [line.split("#")[0] for line in rules] == ["min_tumor_pixels: 50                             "]


def test_a_second_run_writes_no_case(data: Data) -> None:
    before = data.written()
    data.build()
    assert data.written() == before


def test_an_interrupted_case_is_stored_again_without_leftovers(data: Data) -> None:
    before, folder = data.written(), data.store / "cases/brats/PHANTOM_001"
    (folder / "case.json").unlink()
    remains = folder.with_name(".writing-abc")
    remains.mkdir()
    (remains / "image.npy").write_bytes(b"half")
    data.build()
    after = data.written()
    assert after.keys() == before.keys()
    assert {Path(name).parent.name for name in after if after[name] != before[name]} == {"PHANTOM_001"}
    SliceStore(data.store).read("brats/PHANTOM_001", 0)


@pytest.mark.parametrize("name", ["image.npy", "mask.npy"])
def test_a_case_without_its_arrays_is_stored_again(data: Data, name: str) -> None:
    array = data.store / "cases/brats/PHANTOM_001" / name
    content = array.read_bytes()
    array.unlink()
    data.build()
    assert array.read_bytes() == content


def flip(content: bytes) -> bytes:
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


@pytest.mark.parametrize("damaged", [flip, lambda content: content[:5000], lambda content: b""])
@pytest.mark.parametrize("name", ["image.npy", "mask.npy"])
def test_a_damaged_array_is_named_and_stored_again(data: Data, name: str, damaged: Callable[[bytes], bytes]) -> None:
    array = data.store / "cases/brats/PHANTOM_001" / name
    content = array.read_bytes()
    array.write_bytes(damaged(content))
    with pytest.raises(ValueError, match=rf"PHANTOM_001/{name}: missing or damaged; run the preprocessing again"):
        SliceStore(data.store).read("brats/PHANTOM_001", 0)
    data.build()
    assert array.read_bytes() == content
    SliceStore(data.store).read("brats/PHANTOM_001", 0)


def test_missing_and_damaged_metadata_is_named(data: Data) -> None:
    file = data.store / "cases/brats/PHANTOM_001/case.json"
    for content, reason in ((b"{", "damaged"), (None, "missing")):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(ValueError, match=f"case.json: {reason}, run the preprocessing again"):
            SliceStore(data.store).cases()
    (data.store / "store.json").write_text("")
    with pytest.raises(ValueError, match=r"store.json: damaged, run the preprocessing again"):
        SliceStore(data.store)


def test_leftovers_of_running_processes_are_kept(data: Data) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = data.store / "cases/brats"
    for number in (gone.pid, os.getppid()):
        (folder / f".writing-{number}-abc").mkdir()
    data.build()
    assert [path.name for path in folder.glob(".writing-*")] == [f".writing-{os.getppid()}-abc"]


def test_two_concurrent_runs_give_a_complete_store(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(data.store)
    save: Callable[..., None] = np.save

    def overtaken(file: Path, array: np.ndarray) -> None:
        save(file, array)
        monkeypatch.setattr(np, "save", save)
        data.build()  # the other one begins and ends before this one has its first case

    monkeypatch.setattr(np, "save", overtaken)
    data.build()
    for name in data.written():
        assert (data.store / name).read_bytes() == (data.original / "store" / name).read_bytes()
    assert {Path(name).parts[-2] for name in data.written()} == {Path(c["id"]).name for c in data.cases(data.original)}
    assert not list(data.store.rglob(".writing-*"))


def test_a_case_that_is_stored_concurrently_is_accepted(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(data.store / "cases/brats/PHANTOM_001")
    replace = Path.replace

    def overtaken(path: Path, target: Path) -> Path:
        if path.name.startswith(".writing-") and not target.exists():
            shutil.copytree(data.original / "store/cases/brats/PHANTOM_001", target)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", overtaken)
    data.build()
    assert SliceStore(data.store).read("brats/PHANTOM_001", 0)[1] is not None
    assert not list(data.store.rglob(".writing-*"))


def test_an_interruption_leaves_only_complete_cases(data: Data) -> None:
    shutil.rmtree(data.store)

    def interrupted(case: Mapping[str, Any]) -> Any:
        if case["id"].endswith("002"):
            raise KeyboardInterrupt
        return data.transform(case)

    cases = data.cases(data.original)[:3]
    with pytest.raises(KeyboardInterrupt):
        build_store(cases, interrupted, data.store, MIN_BRAIN, SETTINGS)
    assert {path.name for path in (data.store / "cases/brats").iterdir()} == {"PHANTOM_001"}
    data.build()
    assert len(SliceStore(data.store).cases()) == 7


def test_unreadable_files_are_named_after_all_others_are_stored(data: Data) -> None:
    for name in ("yes/broken.png", "no/text.jpg"):
        (data.folder / "kaggle" / name).write_text("no picture")
    Image.new("L", (64, 64)).save(data.folder / "kaggle/no/black.png")
    shutil.rmtree(data.store)
    with pytest.raises(ValueError, match="3 of 10 cases") as caught:
        data.build(data.cases(data.folder))
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 3
    for name, reason in (("yes/broken.png", "not a PNG"), ("no/text.jpg", "not a PNG"), ("no/black.png", "brain")):
        assert [line for line in lines if str(data.folder / "kaggle" / name) in line and reason in line]
    assert len(SliceStore(data.store).cases()) == 7


def test_missing_modality_is_named(tmp_path: Path, original: Path) -> None:
    transform = components_of(ROOT, "preprocess.yaml", ["transform"], modalities=["flair", "t1"])["transform"]
    (case, *_) = volume_cases(original / "brats")
    case["image"] = [case["image"], case["image"].replace("_flair", "_t1")]
    with pytest.raises(ValueError, match=r"PHANTOM_001_t1\.nii\.gz"):
        build_store([case], transform, tmp_path, MIN_BRAIN, SETTINGS)


def test_mask_on_another_grid_is_refused(tmp_path: Path, transform: Callable[[Any], Any]) -> None:
    head = (1000 * (np.hypot(*np.ogrid[-64:64, -64:64]) < 50))[..., None].astype(np.int16)
    write_nifti(tmp_path / "A_flair.nii.gz", head)
    for mask, affine, reason in ((head[:-1], (-1, -1, 1, 1), "shape"), (head, (1, -1, 1, 1), "affines differ")):
        write_nifti(tmp_path / "A_seg.nii.gz", mask, affine)
        with pytest.raises(ValueError, match=rf"A_seg\.nii\.gz.*{reason}"):
            build_store(volume_cases(tmp_path), transform, tmp_path / "store", MIN_BRAIN, SETTINGS)


def test_changed_file_is_read_again_and_no_other(data: Data) -> None:
    data.build(data.cases(data.folder))
    before, changed = data.written(), next((data.folder / "kaggle/yes").glob("PHANTOM_Y1.*"))
    old = SliceStore(data.store).read(f"kaggle/yes/{changed.name}", 0)[0]
    Image.open(changed).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(changed, "PNG")
    data.build(data.cases(data.folder))
    after = data.written()
    assert {Path(name).parent.name for name in after if after[name] != before[name]} == {changed.name}
    assert not np.array_equal(old, SliceStore(data.store).read(f"kaggle/yes/{changed.name}", 0)[0])


def test_a_mask_added_later_is_read(data: Data) -> None:
    brats = data.folder / "brats"
    shutil.copy(brats / "PHANTOM_001/PHANTOM_001_seg.nii.gz", brats / "PHANTOM_003/PHANTOM_003_seg.nii.gz")
    data.build(data.cases(data.folder))
    store = SliceStore(data.store)
    assert "tumor_pixels" in next(case for case in store.cases() if case["id"] == "brats/PHANTOM_003")
    assert store.read("brats/PHANTOM_003", 0)[1] is not None


def test_a_changed_setting_rebuilds_the_store(data: Data) -> None:
    slices = {case["id"]: len(case["slices"]) for case in SliceStore(data.store).cases()}
    data.build(min_brain_pixels=3500)
    fewer = {case["id"]: len(case["slices"]) for case in SliceStore(data.store).cases()}
    assert all(fewer[name] < slices[name] for name in slices if name.startswith("brats/"))


def test_a_case_removed_from_the_data_is_removed_from_the_store(data: Data) -> None:
    data.build(data.cases(data.original)[1:])
    assert "brats/PHANTOM_001" not in [case["id"] for case in SliceStore(data.store).cases()]


def test_moved_data_are_found_at_their_new_path(data: Data) -> None:
    data.build(data.cases(data.folder))
    paths = [case["image"] for case in SliceStore(data.store).cases()]
    assert all(path.startswith(str(data.folder)) for path in paths)


def test_several_workers_write_the_same_store(data: Data) -> None:
    shutil.rmtree(data.store)
    cases = data.cases(data.original)
    transform = pickle.loads(pickle.dumps(data.transform))  # as it reaches a process
    with joblib.parallel_config(backend="threading"):  # starting real processes takes 15 seconds
        build_store(cases, transform, data.store, MIN_BRAIN, SETTINGS, num_workers=2)
    for name in data.written():
        assert (data.store / name).read_bytes() == (data.original / "store" / name).read_bytes()
    assert json.loads((data.store / "store.json").read_text())["problems"] == []


def test_a_missing_store_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"python -m monai\.bundle run preprocessing") as caught:
        SliceStore(tmp_path / "none")
    assert f"--dataset_dir {tmp_path / 'none'}" in str(caught.value)


def test_a_store_of_another_version_is_refused_with_a_remedy(tmp_path: Path) -> None:
    for content in ({"cases": [], "settings": {}}, {"schema_version": 0, "cases": []}):
        (tmp_path / "store.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match="a slice store of another version of the bundle, make one with") as error:
            SliceStore(tmp_path)
        assert str(error.value).startswith(f"{tmp_path}: ") and "\n" not in str(error.value)
