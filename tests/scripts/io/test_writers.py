"""Files that stand beside their inputs: on their grid, under their name, and never over what is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
import pytest
import torch
from hostile.dicoms import mr_dataset, written
from monai.data import MetaTensor
from PIL import Image

from scripts.core.files import write_atomic
from scripts.io import writers
from scripts.io.writers import PredictionWriter

AFFINE = np.array([[0, -1.5, 0, 70.25], [-0.75, 0, 0.5, 80], [0, 0.25, 3, -20], [0, 0, 0, 1]])
RESULT = {"tumor_probability": 0.75, "state": "tumor", "slice_probabilities": [None, 0.75]}


def prediction(shape: tuple[int, ...] = (6, 5, 4), source: str = "in/scan.nii.gz", spacing_known: bool = True) -> Any:
    """What postprocessing leaves: a mask (1, H, W, D) on the input's grid of 2 or 3 axes, and the result."""
    mask = torch.zeros(1, *shape, *[1] * (3 - len(shape)))
    mask[0, 1, 2:4] = 1
    meta = {"filename_or_obj": source, "spatial_shape": np.array(shape), "original_affine": AFFINE}
    return {"pred": MetaTensor(mask, meta=meta | {"spacing_known": spacing_known}), "result": dict(RESULT)}


def picture(source: str = "in/Y1.jpg") -> Any:
    return prediction((6, 5), source, spacing_known=False)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_volumes_mask_is_on_the_volumes_grid(tmp_path: Path) -> None:
    image = nib.load(PredictionWriter(tmp_path)(prediction())["mask"])
    assert image.shape == (6, 5, 4) and image.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, AFFINE) and image.header.get_xyzt_units()[0] == "mm"
    assert np.array_equal(np.asarray(image.dataobj), prediction()["pred"][0].numpy())


def test_a_pictures_mask_is_black_and_white_in_the_pictures_size(tmp_path: Path) -> None:
    with Image.open(PredictionWriter(tmp_path)(picture())["mask"]) as image:
        assert image.format == "PNG" and image.mode == "L" and image.size == (5, 6)
        assert np.array_equal(np.asarray(image), picture()["pred"][0, :, :, 0].numpy() * 255)


def test_a_two_dimensional_nifti_gets_a_two_dimensional_mask(tmp_path: Path) -> None:
    image = nib.load(PredictionWriter(tmp_path)(prediction((6, 5)))["mask"])
    assert image.shape == (6, 5) and np.array_equal(np.asarray(image.dataobj), prediction((6, 5))["pred"][0, :, :, 0])


def test_the_json_is_the_result_with_the_name_of_its_input(tmp_path: Path) -> None:
    written = json.loads(Path(PredictionWriter(tmp_path)(prediction())["json"]).read_text())
    assert written == {"input": "scan.nii.gz", "input_sha256": None, **RESULT}


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a/scan.nii.gz", "scan"),
        ("a/scan.nii", "scan"),
        ("a/Scan.NII.GZ", "Scan"),
        ("a/b/scan.v1.2.nii", "scan.v1.2"),
        ("scan_without_suffix", "scan_without_suffix"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_predictions_are_called_after_their_input(tmp_path: Path, source: str, stem: str) -> None:
    PredictionWriter(tmp_path)(prediction(source=source))
    assert set(files_of(tmp_path)) == {f"{stem}.json", f"{stem}_mask.nii.gz"}


@pytest.mark.parametrize("source", ["Y1.jpg", "Y1.JPEG", "Y1.png"])
def test_a_pictures_predictions_are_called_after_it(tmp_path: Path, source: str) -> None:
    files = PredictionWriter(tmp_path)(picture(source))
    assert files == {"json": str(tmp_path / "Y1.json"), "mask": str(tmp_path / "Y1_mask.png")}
    assert set(files_of(tmp_path)) == {"Y1.json", "Y1_mask.png"}


def test_a_given_name_may_hold_folders_and_dots(tmp_path: Path) -> None:
    PredictionWriter(tmp_path / "new")(picture(), name="yes/Y1.jpg")
    assert set(files_of(tmp_path)) == {"new/yes/Y1.jpg.json", "new/yes/Y1.jpg_mask.png"}


@pytest.mark.parametrize("present", ["scan.json", "scan_mask.nii.gz"])
def test_nothing_is_overwritten_by_default(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=present):
        PredictionWriter(tmp_path)(prediction())
    assert files_of(tmp_path) == {present: b"precious"}


def test_overwriting_replaces_both_files(tmp_path: Path) -> None:
    PredictionWriter(tmp_path)(prediction())
    new = prediction()
    new["pred"][:] = 0
    files = PredictionWriter(tmp_path, overwrite=True)({**new, "result": {"state": "no_tumor"}})
    assert not np.asarray(nib.load(files["mask"]).dataobj).any()
    assert json.loads(Path(files["json"]).read_text())["state"] == "no_tumor"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("killed_at", ["scan_mask.nii.gz", "scan_overlay.png", "scan.json"])
def test_what_a_killed_process_left_is_replaced_by_the_same_command(
    tmp_path: Path, killed_at: str, overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(b"one")
    model = {"version": "1.2.3", "sha256": "ab" * 32}
    found = prediction(source=str(tmp_path / "scan.nii.gz"))
    found["result"]["model"] = model
    write, beside = PredictionWriter(tmp_path / "out", overwrite), {"overlay.png": b"new"}
    if overwrite:
        write(found, beside={"overlay.png": b"old"})

    def killed(path: str | Path, content: Callable[[BinaryIO], Any]) -> None:
        if Path(path).name == killed_at:
            raise KeyboardInterrupt
        write_atomic(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(writers, "write_atomic", killed)
        patched.setattr(writers, "write_json", lambda path, content: killed(path, partial(dump, content)))
        with pytest.raises(KeyboardInterrupt):
            write(found, beside=beside)
    again = PredictionWriter(tmp_path / "out")
    assert again.done_before("scan", tmp_path / "scan.nii.gz", model) is None
    made = again(found, beside=beside)
    assert again.done_before("scan", tmp_path / "scan.nii.gz", model, ["overlay"]) == dict(sorted(made.items()))
    assert Path(made["overlay"]).read_bytes() == b"new"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {Path(file).name for file in made.values()}


def test_what_a_killed_process_did_not_write_is_kept(tmp_path: Path) -> None:
    (tmp_path / ".scan.unfinished").write_text('["scan.json", "scan_mask.nii.gz"]')
    (tmp_path / "scan_overlay.png").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="scan_overlay"):
        PredictionWriter(tmp_path)(prediction(), beside={"overlay.png": b"new"})
    assert (tmp_path / "scan_overlay.png").read_bytes() == b"precious"


def dump(content: Any, file: BinaryIO) -> None:
    file.write(json.dumps(content).encode())


@pytest.mark.parametrize("make", [prediction, picture])
def test_the_same_prediction_gives_the_same_bytes_at_any_time(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, now in {"a": 1e9, "b": 2e9}.items():
        monkeypatch.setattr("time.time", lambda now=now: now)
        PredictionWriter(tmp_path / folder)(make())
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_the_json_is_written_last_and_atomically(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        PredictionWriter(tmp_path)({**prediction(), "result": {"tumor_probability": float("nan")}})
    assert set(files_of(tmp_path)) == {".scan.unfinished", "scan_mask.nii.gz"}  # a JSON belongs to a whole prediction


def test_the_index_keeps_concurrent_entries(tmp_path: Path) -> None:
    """Two runs into one folder, each with a writer of its own."""
    names = [f"{number}.png" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: PredictionWriter(tmp_path).update_index({name: {"json": name}}), names))
    assert sorted(json.loads((tmp_path / "index.json").read_text())["scans"]) == sorted(names)


def test_the_index_keeps_entries_of_earlier_runs(tmp_path: Path) -> None:
    writer = PredictionWriter(tmp_path)
    writer.update_index({"a.png": {"json": "a.json"}, "b.png": {"error": "damaged"}})
    writer.update_index({"b.png": {"json": "b.json"}, "c.png": {"json": "c.json"}})
    index = json.loads((tmp_path / "index.json").read_text())["scans"]
    assert index == {f"{name}.png": {"json": f"{name}.json"} for name in "abc"}


@pytest.mark.parametrize("before", ['{"a.png": {"json": "a.json"}}', '{"schema_version": 0, "scans": {}}', "[]", "{"])
def test_an_index_of_another_version_is_replaced(tmp_path: Path, before: str) -> None:
    (tmp_path / "index.json").write_text(before)
    PredictionWriter(tmp_path).update_index({"b.png": {"json": "b.json"}})
    index = json.loads((tmp_path / "index.json").read_text())
    assert index == {"schema_version": 1, "scans": {"b.png": {"json": "b.json"}}}


def test_a_dicom_seg_is_written_only_for_a_series_and_not_repeated(tmp_path: Path) -> None:
    data = {"version": "1.2.3", "sha256": "ab" * 32, "decision": "cd" * 8}
    (tmp_path / "series").mkdir()
    dataset = mr_dataset(np.full((6, 5), 9, np.uint16), StudyInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.3.5")
    (tmp_path / "series" / "1").write_bytes(written(dataset))
    found = prediction((6, 5, 1), source=str(tmp_path / "series"))
    found["result"]["model"] = data
    write = PredictionWriter(tmp_path / "out", dicom_seg=True)
    files = write(found)
    assert set(files) == {"json", "mask", "seg"} and Path(files["seg"]).name == "series_seg.dcm"
    assert write.done_before("series", tmp_path / "series", data) == files
    more = PredictionWriter(tmp_path / "more", dicom_sr=True, rtstruct=True)
    told = {**found, "result": {**found["result"], "tumor_probability": 0.7, "threshold": 0.4, "state": "tumor"}}
    assert set(more(told)) == {"json", "mask", "seg", "sr", "rtstruct"}
    assert more.done_before("series", tmp_path / "series", data) is not None
    assert PredictionWriter(tmp_path / "out", rtstruct=True).done_before("series", tmp_path / "series", data) is None
    Path(files["seg"]).unlink()
    assert write.done_before("series", tmp_path / "series", data) is None
    (tmp_path / "scan.nii.gz").write_bytes(b"one")
    volume = prediction(source=str(tmp_path / "scan.nii.gz"))
    volume["result"]["model"] = data
    assert set(write(volume)) == {"json", "mask"}
    assert write.done_before("scan", tmp_path / "scan.nii.gz", data) is not None
    (tmp_path / "scan.nii.gz").write_bytes(b"another")
    with pytest.raises(FileExistsError, match=r"scan\.json: exists already, of another scan"):
        write.done_before("scan", tmp_path / "scan.nii.gz", data)


@pytest.mark.parametrize("name", ["scan.v1.2", "1.2.840.113619", "deep/mr.1"])
def test_an_existing_prediction_is_found_for_a_name_with_dots(tmp_path: Path, name: str) -> None:
    source, model = tmp_path / "in.nii.gz", {"version": "1.2.3", "sha256": "ab" * 32}
    source.write_bytes(b"one")
    found = prediction(source=str(source))
    found["result"]["model"] = model
    write = PredictionWriter(tmp_path / "out")
    assert write.done_before(name, source, model) is None
    files = write(found, name)
    assert write.done_before(name, source, model) == files


@pytest.mark.parametrize("changed", [{"version": "1.2.4"}, {"sha256": "ef" * 32}, {"decision": "ef" * 8}], ids=str)
def test_a_prediction_by_other_thresholds_is_neither_taken_nor_replaced(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    model = {"version": "1.2.3", "sha256": "ab" * 32, "report": "matches these weights", "decision": "cd" * 8}
    (tmp_path / "scan.nii.gz").write_bytes(b"one")
    found = prediction(source=str(tmp_path / "scan.nii.gz"))
    found["result"]["model"] = model
    write = PredictionWriter(tmp_path / "out")
    files = write(found)
    assert write.done_before("scan", tmp_path / "scan.nii.gz", model) == files
    with pytest.raises(FileExistsError, match="name another folder, or add --overwrite"):
        write.done_before("scan", tmp_path / "scan.nii.gz", {**model, **changed})
    older = {key: value for key, value in model.items() if key != "decision"}
    write.overwrite = True
    assert write.done_before("scan", tmp_path / "scan.nii.gz", model) is None
    write({**found, "result": {**found["result"], "model": older}})
    write.overwrite = False
    with pytest.raises(FileExistsError):
        write.done_before("scan", tmp_path / "scan.nii.gz", model)


def test_a_prediction_from_several_files_is_another_when_any_of_them_changes(tmp_path: Path) -> None:
    files = [str(tmp_path / f"case_{modality}.nii.gz") for modality in ("flair", "t1")]
    for file in files:
        Path(file).write_bytes(b"one")
    found = prediction(source=files[0])
    found["pred"].meta["files"] = files
    model = {"version": "1.2.3", "sha256": "ab" * 32}
    found["result"]["model"] = model
    write = PredictionWriter(tmp_path / "out")
    written = write(found, "case")
    assert write.done_before("case", files, model) == written
    Path(files[1]).write_bytes(b"another")
    with pytest.raises(FileExistsError, match="of another scan"):
        write.done_before("case", files, model)


def test_further_files_are_added_to_the_same_prediction(tmp_path: Path) -> None:
    scan, model = tmp_path / "scan.nii.gz", {"version": "1.2.3", "sha256": "ab" * 32, "decision": "cd" * 8}
    scan.write_bytes(b"one")
    found = prediction(source=str(scan))
    found["result"]["model"] = model
    write = PredictionWriter(tmp_path / "out")
    write(found, beside={"overlay.png": b"drawn"})
    assert write.done_before("scan", scan, model, ["overlay", "probability"]) is None
    write(found, beside={"overlay.png": b"drawn", "probability.nii.gz": b"map"})
    there = write.done_before("scan", scan, model, ["overlay", "probability"])
    assert there is not None and set(there) == {"json", "mask", "overlay", "probability"}
    assert Path(there["overlay"]).read_bytes() == b"drawn" and there["probability"].endswith("_probability.nii.gz")
