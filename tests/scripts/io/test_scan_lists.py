from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.core.filenames import ABSENT
from scripts.io.datalists import image_cases
from scripts.io.readers import BrainMriReader
from scripts.io.scan_lists import scans, survey


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def told(root: Path, **kwargs: object) -> tuple[set[str], dict[str, str]]:
    found, over = survey(root, **kwargs)  # type: ignore[arg-type]
    names = {Path(scan["image"]).relative_to(root).as_posix() for scan in found}
    return names, {Path(path).relative_to(root).as_posix(): why for path, why in over.items()}


def test_of_a_case_folder_the_sequence_of_the_weights_is_predicted(tmp_path: Path) -> None:
    words = ("t1n", "t1c", "t2w", "t2f", "seg")
    touch(tmp_path, *(f"BraTS-SSA-00041-000/BraTS-SSA-00041-000-{word}.nii.gz" for word in words))
    names, over = told(tmp_path)
    assert names == {"BraTS-SSA-00041-000/BraTS-SSA-00041-000-t2f.nii.gz"}
    assert sorted(over.values()) == [
        *("T1 after contrast, by its name", "T1, by its name", "T2, by its name", "a mask, by its name"),
    ]
    names, _ = told(tmp_path, modalities=["t2"])
    assert names == {"BraTS-SSA-00041-000/BraTS-SSA-00041-000-t2w.nii.gz"}


def test_masks_and_sidecars_are_skipped_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "sub-07_FLAIR.nii.gz", "sub-07_FLAIR.json", "sub-07_dwi.nii.gz", "sub-07_dwi.bval", "README.txt")
    names, over = told(tmp_path)
    assert names == {"sub-07_FLAIR.nii.gz"} and over["sub-07_dwi.nii.gz"] == "dwi, by its name"
    assert {over[name] for name in ("sub-07_FLAIR.json", "sub-07_dwi.bval", "README.txt")} == {"no scan, by its name"}


def test_masks_and_sequences_that_only_a_folder_names_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/BRATS_7.nii.gz", "labelsTr/BRATS_7.nii.gz", "T1/8.nii.gz", "FLAIR/8.nii.gz")
    names, over = told(tmp_path)
    assert names == {"imagesTr/BRATS_7.nii.gz", "FLAIR/8.nii.gz"}
    assert over == {"labelsTr/BRATS_7.nii.gz": "a mask, by its name", "T1/8.nii.gz": "T1, by its name"}


def test_texts_without_a_suffix_are_skipped_and_other_unknown_files_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "sub-07_FLAIR.nii.gz", "empty")
    (tmp_path / "README").write_text("Gehirne, größer\n")
    (tmp_path / "IM0001").write_bytes(b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100")  # DICOM without its mark
    (tmp_path / "damaged.png").write_text("no picture")
    names, over = told(tmp_path)
    assert names == {"sub-07_FLAIR.nii.gz", "empty", "IM0001", "damaged.png"}
    assert over == {"README": "text, by its content"}


def test_pictures_of_any_sequence_are_predicted_and_their_masks_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "T2_axial_7.png", "brain_tumor.jpg", "Y1.jpg", "Y1_mask.png")
    names, over = told(tmp_path)
    assert names == {"T2_axial_7.png", "brain_tumor.jpg", "Y1.jpg"} and over == {"Y1_mask.png": "a mask, by its name"}


def test_nnunets_channel_numbers_are_read_from_its_description(tmp_path: Path) -> None:
    touch(tmp_path, *(f"imagesTs/K_1_000{k}.nii.gz" for k in range(2)))
    assert len(told(tmp_path)[0]) == 2  # nothing tells
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1ce", "1": "FLAIR"}}))
    names, over = told(tmp_path)
    assert names == {"imagesTs/K_1_0001.nii.gz"}
    assert over["imagesTs/K_1_0000.nii.gz"] == "T1 after contrast, by its name"


def test_a_file_that_is_named_itself_is_predicted_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "A_t1.nii.gz")
    assert [scan["name"] for scan in scans(tmp_path / "A_t1.nii.gz")] == ["A_t1"]


def test_voxels_beside_a_header_are_no_scan(tmp_path: Path) -> None:
    touch(tmp_path, "A.raw", "b/B.zraw", "C.raw", "scan.png", "D.hdr", "D.img", "E.img")
    for header, voxels in (("A.mhd", "A.raw"), ("b/B.mhd", "B.zraw")):
        fields = ("ObjectType = Image", "NDims = 3", "DimSize = 2 2 2", "ElementType = MET_UCHAR")
        (tmp_path / header).write_text("\n".join((*fields, f"ElementDataFile = {voxels}\n")))
    names, over = told(tmp_path)
    assert names == {"A.mhd", "b/B.mhd", "C.raw", "scan.png", "D.hdr", "E.img"}  # nothing refers to C and E
    assert over == {
        **{"A.raw": "the voxels of A.mhd", "b/B.zraw": "the voxels of B.mhd", "D.img": "the voxels of D.hdr"}
    }


def test_for_weights_of_several_sequences_the_files_of_a_case_are_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, *(f"B-1/B-1-{word}.nii.gz" for word in ("t1n", "t1c", "t2w", "t2f", "seg")))
    touch(tmp_path, "P 2/FLAIR.nii.gz", "P 2/T1_Gd.nii.gz", "P 2/T1_Gd_bias.nii.gz", "C_flair.nii.gz", "D.nii.gz")
    found, over = survey(tmp_path, modalities=["flair", "t1ce"])
    assert {scan["name"]: scan["image"] for scan in found} == {
        "B-1/B-1": [str(tmp_path / f"B-1/B-1-{word}.nii.gz") for word in ("t2f", "t1c")],
        "P 2": [str(tmp_path / "P 2" / name) for name in ("FLAIR.nii.gz", "T1_Gd.nii.gz")],
        "C": [str(tmp_path / "C_flair.nii.gz"), ABSENT],
        "D": str(tmp_path / "D.nii.gz"),
    }
    reasons = {Path(path).name: why for path, why in over.items()}
    assert reasons["T1_Gd_bias.nii.gz"] == "t1ce again" and reasons["B-1-t1n.nii.gz"] == "T1, by its name"
    found, _ = survey(tmp_path / "P 2", modalities=["flair", "t1ce"])
    assert [scan["name"] for scan in found] == ["P 2"]


def test_the_files_of_a_case_are_read_as_channels(tmp_path: Path) -> None:
    flair = nib.Nifti1Image(np.random.default_rng(0).uniform(size=(6, 5, 4)).astype(np.float32), np.eye(4))
    for word in ("t2f", "t1c"):
        nib.save(flair, tmp_path / f"B-1-{word}.nii.gz")
    (scan,), _ = survey(tmp_path, modalities=["flair", "t1ce"])
    reader = BrainMriReader(["flair", "t1ce"])
    assert reader.get_data(reader.read(scan["image"]))[0].shape == (2, 6, 5, 4)


def test_a_name_before_a_path_is_the_folder_of_its_predictions(tmp_path: Path) -> None:
    touch(tmp_path, "a/scan.nii.gz", "b/scan.nii.gz", "x=y/scan.nii.gz")
    folders = [f"first={tmp_path / 'a'}", f"second={tmp_path / 'b'}", f"one={tmp_path / 'a/scan.nii.gz'}"]
    assert [scan["name"] for scan in scans(folders)] == ["first/scan", "second/scan", "one"]
    assert [scan["name"] for scan in scans(tmp_path / "x=y")] == ["scan"]
    with pytest.raises(ValueError, match="two scans are called scan"):
        scans([tmp_path / "a", tmp_path / "b"])


def test_a_folder_without_the_sequence_names_its_sequences(tmp_path: Path) -> None:
    touch(tmp_path, "A_t1.nii.gz", "A_t2.nii.gz", "B_t1.nii.gz", "A_seg.nii.gz")
    with pytest.raises(ValueError, match="which read FLAIR; skipped by name: 2 x T1, by its name, 1 x T2") as caught:
        scans(tmp_path)
    assert "\n" not in str(caught.value)


def test_one_sequence_of_a_case_is_enough(tmp_path: Path) -> None:
    touch(tmp_path, "A/A-t2f.nii.gz", "B/B_t1c.nii.gz", "D/D_t1.nii.gz")
    found, over = survey(tmp_path, modalities=["flair", "t1ce"])
    assert {scan["name"]: scan["image"] for scan in found} == {
        "A/A": [str(tmp_path / "A/A-t2f.nii.gz"), ABSENT],
        "B/B": [ABSENT, str(tmp_path / "B/B_t1c.nii.gz")],
    }
    assert over == {str(tmp_path / "D/D_t1.nii.gz"): "T1, by its name"}
    (alone,) = scans(tmp_path / "B/B_t1c.nii.gz", modalities=["flair", "t1ce"])
    assert alone["image"] == [ABSENT, str(tmp_path / "B/B_t1c.nii.gz")]


def test_files_of_a_case_that_are_named_one_by_one_are_one_scan(tmp_path: Path) -> None:
    touch(tmp_path, "A_t1.nii.gz", "A_flair.nii.gz", "B_flair.nii.gz")
    paths = [tmp_path / name for name in ("A_t1.nii.gz", "B_flair.nii.gz", "A_flair.nii.gz")]
    found = {scan["name"]: scan["image"] for scan in scans(paths, modalities=["flair", "t1"])}
    assert found == {"A": [str(paths[2]), str(paths[0])], "B": [str(paths[1]), ABSENT]}


def test_predictions_beside_the_scans_are_neither_scans_nor_masks_nor_images_of_a_class(tmp_path: Path) -> None:
    ends = ("", "_mask.nii.gz", "_overlay.png", "_probability.nii.gz", "_seg.dcm")
    touch(tmp_path, "yes/A_flair.nii.gz", "yes/B_mask.nii.gz", "no/1.png", *(f"yes/A_flair{end}" for end in ends[1:]))
    for name, content in (("A_flair", {"input_sha256": "0"}), ("B", {"RepetitionTime": 8})):
        (tmp_path / f"yes/{name}.json").write_text(json.dumps(content))
    names, over = told(tmp_path / "yes")
    assert names == {"A_flair.nii.gz"} and over["B_mask.nii.gz"] == "a mask, by its name"
    assert [over[f"A_flair{end}"] for end in ends[1:]] == ["a prediction of this bundle"] * 4
    (tmp_path / "yes/B.json").unlink()
    cases = image_cases(tmp_path, "x")
    assert [case["id"] for case in cases] == ["x/yes/A_flair.nii.gz", "x/yes/B_mask.nii.gz", "x/no/1.png"]
    assert cases.skipped == {"x": {"a prediction of this bundle": 5}}
