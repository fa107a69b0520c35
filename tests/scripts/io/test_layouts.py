from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.core.filenames import MASK
from scripts.io.layouts import UNNAMED, find_volumes

TREES = {  # one case or two of each public set, as it is unpacked: files, and the kinds of each case
    "UCSF-PDGM": (
        [
            f"UCSF-PDGM-0090_nifti/UCSF-PDGM-0090_{w}.nii.gz"
            for w in ("FLAIR", "FLAIR_bias", "T1c", "ADC", "tumor_segmentation", "brain_segmentation")
        ],
        {"UCSF-PDGM-0090": {"flair", "t1ce", MASK}},
    ),
    "UPENN-GBM": (
        [
            "images_structural/UPENN-GBM-00211_11/UPENN-GBM-00211_11_FLAIR.nii.gz",
            "images_structural_unstripped/UPENN-GBM-00211_11/UPENN-GBM-00211_11_FLAIR_unstripped.nii.gz",
            "images_segm/UPENN-GBM-00211_11_segm.nii.gz",
            "automated_segm/UPENN-GBM-00211_11_automated_approx_segm.nii.gz",
        ],
        {"UPENN-GBM-00211_11": {"flair", MASK}},
    ),
    "MU-Glioma-Post": (
        [
            f"PatientID_0101/Timepoint_4/PatientID_0101_Timepoint_4_{w}.nii.gz"
            for w in ("brain_t2f", "brain_t1c", "tumorMask")
        ],
        {"PatientID_0101_Timepoint_4": {"flair", "t1ce", MASK}},
    ),
    "BIDS": (
        [
            "sub-07/ses-2/anat/sub-07_ses-2_FLAIR.nii.gz",
            "sub-07/ses-2/dwi/sub-07_ses-2_dwi.nii.gz",
            "derivatives/manual/sub-07/ses-2/anat/sub-07_ses-2_label-tumor_mask.nii.gz",
            "derivatives/prep/sub-07/ses-2/anat/sub-07_ses-2_desc-brain_mask.nii.gz",
            "derivatives/prep/sub-07/ses-2/anat/sub-07_ses-2_space-MNI_FLAIR.nii.gz",
        ],
        {"sub-07_ses-2": {"flair", MASK}},
    ),
    "LUMIERE": (
        [
            "Patient-031/week-000-1/FLAIR.nii.gz",
            "Patient-031/week-000-1/CT1.nii.gz",
            "Patient-031/week-000-1/HD-GLIO-AUTO-segmentation/native/segmentation_FLAIR_origspace.nii.gz",
            "Patient-031/week-056/FLAIR.nii.gz",
        ],
        {"Patient-031_week-000-1": {"flair", "t1ce", MASK}, "Patient-031_week-056": {"flair"}},
    ),
    "EGD": (
        [
            "EGD-0009/4_FLAIR/NIFTI/FLAIR.nii.gz",
            "EGD-0009/2_T1GD/NIFTI/T1GD.nii.gz",
            "EGD-0009/5_MASK/NIFTI/MASK.nii.gz",
        ],
        {"EGD-0009": {"flair", "t1ce", MASK}},
    ),
    "BraTS 2015": (
        [
            f"HGG/brats_2013_pat0005_1/{name}/{name}.mha"
            for name in (
                "VSD.Brain.XX.O.MR_Flair.54530",
                "VSD.Brain.XX.O.MR_T1c.54532",
                "VSD.Brain_3more.XX.O.OT.54535",
            )
        ],
        {"brats_2013_pat0005_1": {"flair", "t1ce", MASK}},
    ),
    "folders called as files": (
        [
            "BraTS-GLI-00009-000/BraTS-GLI-00009-000-t2f.nii/00000057_brain_flair.nii",
            "BraTS-GLI-00009-000/BraTS-GLI-00009-000-seg.nii/00000057_final_seg.nii",
        ],
        {"BraTS-GLI-00009-000": {"flair", MASK}},
    ),
    "a folder a sequence": (["FLAIR/c7.nii.gz", "T1/c7.nii.gz", "labels/c7.nii.gz"], {"c7": {"flair", "t1", MASK}}),
    "no sequence told": (["images/c7.nii.gz", "labels/c7.nii.gz"], {"c7": {UNNAMED, MASK}}),
    "a folder a patient": (
        ["P01/FLAIR.nii.gz", "P01/seg.nii.gz", "P02/FLAIR.nii.gz"],
        {"P01": {"flair", MASK}, "P02": {"flair"}},
    ),
    "a mask with a longer name": (
        ["c7_flair.nii.gz", "c8_flair.nii.gz", "c7_glioma_seg.nii.gz"],
        {"c7": {"flair", MASK}, "c8": {"flair"}},
    ),
    "a mask with a foreign name": (
        ["355/BraTS20_Training_355_flair.nii", "355/W39_1998.09.19_Segm.nii"],
        {"BraTS20_Training_355": {"flair", MASK}},
    ),
    "what a Mac leaves": (["A/A_flair.nii.gz", "A/._A_flair.nii.gz", "__MACOSX/../A/._A_seg.nii.gz"], {"A": {"flair"}}),
}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("layout", TREES)
def test_every_layout_gives_its_cases_with_their_files(tmp_path: Path, layout: str) -> None:
    names, cases = TREES[layout]
    found = find_volumes(touch(tmp_path / "root", *names))
    assert {volume.name: set(volume.files) for volume in found.cases} == cases


def test_the_original_scan_is_read_and_its_copies_are_skipped(tmp_path: Path) -> None:
    found = find_volumes(touch(tmp_path, *TREES["UCSF-PDGM"][0]))
    assert found.cases[0].files["flair"].name == "UCSF-PDGM-0090_FLAIR.nii.gz"
    assert found.counts() == {"adc": 1, "brain_segmentation": 1, "flair again": 1}


def test_predictions_are_no_references(tmp_path: Path) -> None:
    found = find_volumes(
        touch(tmp_path, "P1/P1_flair.nii.gz", "P1/P1_flair_mask.nii.gz", "P2_flair.nii.gz", "P2_mask.nii.gz")
    )
    assert {volume.name: MASK in volume.files for volume in found.cases} == {"P1": True, "P2": True}
    (tmp_path / "P1" / "P1_flair.json").write_text(json.dumps({"input_sha256": "a"}))
    (tmp_path / "P2.json").write_text(json.dumps({"site": "a"}))  # of another program
    found = find_volumes(tmp_path)
    assert {volume.name: MASK in volume.files for volume in found.cases} == {"P1": False, "P2": True}
    assert found.counts() == {"a prediction of this bundle": 1}


def test_a_manual_mask_comes_before_an_automatic_one(tmp_path: Path) -> None:
    found = find_volumes(touch(tmp_path, *TREES["UPENN-GBM"][0]))
    assert found.cases[0].files[MASK].parent.name == "images_segm"
    assert "unstripped" not in found.cases[0].files["flair"].name


def describe(folder: Path, **content: object) -> Path:
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("below", ["", "Dataset042_Glioma"])
def test_nnunets_channels_have_the_names_of_its_description(tmp_path: Path, below: str) -> None:
    names = [f"imagesTr/K_1_000{k}.nii.gz" for k in range(4)] + ["labelsTr/K_1.nii.gz", "imagesTs/K_2_0000.nii.gz"]
    folder = touch(tmp_path / below, *names)
    labels = {"background": 0, "edema": 1, "tumor": 2, "resection cavity": 3}
    describe(folder, channel_names={"0": "T1", "1": "T1-CE", "2": "T2w", "3": "T2-FLAIR"}, labels=labels)
    (case,) = find_volumes(tmp_path).cases
    digits = {kind: path.name[-8] for kind, path in case.files.items() if kind != MASK}
    assert (case.name, digits) == ("K_1", {"t1": "0", "t1ce": "1", "t2": "2", "flair": "3"})
    assert case.files[MASK] == folder / "labelsTr/K_1.nii.gz" and case.tumor_codes == (1, 2)


def test_the_first_nnunet_format_and_one_channel_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/._a_0000.nii.gz")
    describe(tmp_path, modality={"0": "FLAIR"}, labels={"0": "background", "1": "tumor"})
    (case,) = find_volumes(tmp_path).cases
    assert (case.name, set(case.files), case.tumor_codes) == ("a", {"flair", MASK}, (1,))


@pytest.mark.parametrize("content", ["", "[]", '{"modality": []}', '{"channel_names": {"x": "T1"}}'])
def test_a_description_that_names_no_channels_is_refused(tmp_path: Path, content: str) -> None:
    touch(tmp_path, "imagesTr/a_0000.nii.gz")
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(ValueError, match=r"dataset\.json, which names the channels"):
        find_volumes(tmp_path)


def test_ambiguous_scans_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "HGG/A/A_flair.nii.gz", "copy/A/A_flair.nii.gz")
    with pytest.raises(ValueError, match=r"two files may be the FLAIR of A: .*HGG/A/A_flair.* and .*copy/A"):
        find_volumes(tmp_path)


def test_folders_named_for_visits_belong_to_the_patient_above(tmp_path: Path) -> None:
    touch(tmp_path, *(f"P{number}/{visit}/FLAIR.nii.gz" for number in (1, 2) for visit in ("pre", "post")))
    assert [volume.name for volume in find_volumes(tmp_path).cases] == ["P1_post", "P1_pre", "P2_post", "P2_pre"]
