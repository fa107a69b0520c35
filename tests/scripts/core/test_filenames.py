from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.core.filenames import KIND_OF, MASK, OTHER, SEQUENCES, FileName, parse_name, sequence_in_text, stem

PUBLIC = [  # name, case, kind
    ("Brats17_TCIA_605_1_t1ce.nii.gz", "Brats17_TCIA_605_1", "t1ce"),
    ("BraTS2021_00621_t2.nii.gz", "BraTS2021_00621", "t2"),
    ("BraTS-MET-00086-000-t1n.nii.gz", "BraTS-MET-00086-000", "t1"),
    ("BraTS-MEN-RT-0040-1_gtv.nii.gz", "BraTS-MEN-RT-0040-1", MASK),
    ("BraTS-GoAT-00417-t2w.nii.gz", "BraTS-GoAT-00417", "t2"),
    ("UCSF-PDGM-0429_FU003d_T1c_bias.nii.gz", "UCSF-PDGM-0429_FU003d", "t1ce"),
    ("UCSF-PDGM-0090_brain_parenchyma_segmentation.nii.gz", "UCSF-PDGM-0090", OTHER),
    ("UCSF-PDGM-0090_DTI_eddy_FA.nii.gz", "UCSF-PDGM-0090", OTHER),
    ("UPENN-GBM-00211_21_T1GD.nii.gz", "UPENN-GBM-00211_21", "t1ce"),
    ("UPENN-GBM-00211_11_automated_approx_segm.nii.gz", "UPENN-GBM-00211_11", MASK),
    ("PatientID_0101_Timepoint_4_brain_t1c.nii.gz", "PatientID_0101_Timepoint_4", "t1ce"),
    ("100118_time2_seg.nii.gz", "100118_time2", MASK),
    ("VSD.Brain.XX.O.MR_T2.40982.mha", "", "t2"),
    ("VSD.Brain_2more.XX.O.OT.42280.nii", "", MASK),
    ("sub-07_ses-2_acq-space_run-1_T2w.nii.gz", "sub-07_ses-2", "t2"),
    ("sub-07_ce-gadolinium_T1w.nii.gz", "sub-07", "t1ce"),
    ("sub-07_desc-brain_mask.nii.gz", "sub-07", OTHER),
    ("sub-07_space-MNI152_label-tumor_dseg.nii.gz", "sub-07", MASK),
    ("CT1.nii.gz", "", "t1ce"),
    ("case12_T1_to_FLAIR.nii.gz", "case12", "t1"),
    ("T2_axial_007.png", "axial_007", "t2"),
    ("UPENN-GBM-00211_11_DTI_AD.nii.gz", "UPENN-GBM-00211_11_AD", OTHER),
    ("VSD.Brain.XX.O.MR_MTT.70616.nii", "", OTHER),
    ("sub-strokecase0012_ses-0001_msk.nii.gz", "sub-strokecase0012_ses-0001", MASK),
    ("TCGA-06-0119_2008.09.24_GlistrBoost_ManuallyCorrected.nii.gz", "TCGA-06-0119_2008.09.24", MASK),
    ("7_t2_spc_da-fl_sag_p2_iso.nii.gz", "7_sag_p2_iso", "flair"),  # dcm2niix: number and protocol
    ("5_t2_space_dark-fluid_sag_p2.nii.gz", "5_t2_space_sag_p2", "flair"),
    ("ct_003.nii.gz", "ct_003", None),  # too short to tell
    ("Te-gl_0010.jpg", "Te-gl_0010", None),
    ("BRATS_485.nii.gz", "BRATS_485", None),
    ("brain_tumor.nii.gz", "brain_tumor", None),
]


@pytest.mark.parametrize(("name", "case", "kind"), PUBLIC)
def test_case_and_kind_are_read_from_names_of_public_data_sets(name: str, case: str, kind: str | None) -> None:
    told = parse_name(name)
    assert (told.case, told.kind) == (case, kind)


@given(
    st.from_regex(r"[A-Z]{2,4}[0-9]{3}(_[0-9]{1,2})?", fullmatch=True),
    st.sampled_from([*sorted(SEQUENCES), MASK]),
    st.sampled_from("_-."),
    st.sampled_from([".nii", ".nii.gz", ".NII.GZ", ".mha", ".nrrd"]),
)
def test_a_word_at_the_end_is_found_behind_any_separator(case: str, kind: str, separator: str, suffix: str) -> None:
    for word in (kind, kind.upper()):
        assert parse_name(f"{case}{separator}{word}{suffix}") == FileName(case, kind, word)


def test_the_original_file_has_fewer_variants_than_its_copies() -> None:
    plain, bias = parse_name("A1_FLAIR.nii.gz"), parse_name("A1_FLAIR_bias.nii.gz")
    unstripped = parse_name("A1_FLAIR_unstripped.nii.gz")
    assert plain.variants == () and bias.variants == ("bias",) and unstripped.variants == ("unstripped",)
    assert plain.case == bias.case == unstripped.case == "A1"
    manual, automatic = (parse_name(f"A1_GlistrBoost{end}.nii.gz") for end in ("_ManuallyCorrected", ""))
    assert (manual.case, manual.variants) == ("A1", ()) and (automatic.case, len(automatic.variants)) == ("A1", 1)
    first, second = parse_name("sub-1_run-01_FLAIR.nii.gz"), parse_name("sub-1_run-02_FLAIR.nii.gz")
    assert first.case == second.case == "sub-1" and (first.variants, second.variants) == ((), ("run-02",))


def test_no_word_has_two_meanings() -> None:
    from scripts.core.filenames import WORDS

    words = [word for listed in WORDS.values() for word in listed.split()]
    assert len(words) == len(set(words)) == len(KIND_OF)
    assert all(word.isascii() and word.isalnum() and word == word.lower() for word in words)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("t2_tirm_tra_dark-fluid_4mm", "flair"),
        ("AX FLAIR POST", "flair"),
        ("3D T2 FLAIR FS", "flair"),
        ("AX T1 FLAIR", "t1"),  # an inversion recovery T1
        ("T1 MPRAGE POST GAD", "t1ce"),
        ("Ax T1 +C", "t1ce"),
        ("t1_se_tra PRE", "t1"),
        ("AX T2 FSE", "t2"),
        ("t2_spc_da-fl_sag_p2_iso", "flair"),
        ("AX T2* PERF", OTHER),
        ("Apparent Diffusion Coefficient (mm2/s)", OTHER),
        ("ep2d_diff_ADC", OTHER),
        ("3 plane localizer", OTHER),
        ("HEAD ROUTINE", None),
    ],
)
def test_the_sequence_is_read_from_series_descriptions(text: str, kind: str | None) -> None:
    assert sequence_in_text(text) == kind


def test_only_image_suffixes_are_removed() -> None:
    assert [stem(name).name for name in ("a.b.nii.gz", "A.JPG", "x.mha", "notes.v2", ".nii")] == [
        *("a.b", "A", "x", "notes.v2", ".nii"),
    ]
