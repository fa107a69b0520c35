from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.patients import canonical_group, group_of, like_visits, patient_of, read_groups

VISITS = [
    ["sub-12_ses-pre", "sub-12_ses-post", "sub-12"],
    ["UPENN-GBM-00211_11", "UPENN-GBM-00211_21"],
    ["UCSF-PDGM-0429", "UCSF-PDGM-0429_FU003d", "UCSF-PDGM-0429_nifti"],
    ["PatientID_0101_Timepoint_1", "PatientID_0101_Timepoint_4"],
    ["BraTS-GLI-02405-100", "BraTS-GLI-02405-101"],
    ["BraTS-MEN-RT-0040-1", "BraTS-MEN-RT-0040-2"],
    ["Brats18_CBICA_ABM_1", "Brats18_CBICA_ABM_2"],
    ["Patient-031_week-000-1", "Patient-031_week-056"],
    ["100118_time1", "100118_time2"],
    ["TCGA_DU_5855_19951217", "TCGA-DU-5855", "tcga_du_5855"],
    ["P017_baseline", "P017_followup", "P017_fu2"],
    ["ReMIND-017_preop", "ReMIND-017_intraop"],
]


@pytest.mark.parametrize("names", VISITS, ids=lambda names: names[0])
def test_visits_of_a_patient_are_one_group(names: list[str]) -> None:
    groups = {group_of("here", name) for name in names}
    assert len(groups) == 1
    other = names[0].replace("12", "13").replace("00211", "00212").replace("0429", "0430").replace("0101", "0102")
    other = other.replace("02405", "02406").replace("0040", "0041").replace("ABM", "ABN").replace("031", "032")
    other = other.replace("100118", "100119").replace("5855", "5856").replace("017", "018")
    assert group_of("here", other) not in groups


@pytest.mark.parametrize("name", ["BraTS20_Training_001", "BraTS2021_00621", "PHANTOM_001", "MR_scan_01", "EGD-0001"])
def test_a_patients_number_is_not_a_visit(name: str) -> None:
    assert patient_of(name) == name


def test_patients_of_public_sets_are_merged_across_sources() -> None:
    assert group_of("brats", "TCGA-FG-6692") == group_of("lgg", "TCGA_FG_6692_20020606")
    assert group_of("a", "UPENN-GBM-00211_11") == group_of("b", "UPENN-GBM-00211_21")
    assert group_of("a", "sub-01") != group_of("b", "sub-01")


def test_groups_of_earlier_versions_name_the_same_patient() -> None:
    assert canonical_group("brats/TCGA-DU-7294") == group_of("lgg", "TCGA_DU_7294_19890104")
    assert canonical_group("brats/brats_2013_pat0003") == group_of("brats", "brats_2013_pat0003_1")
    assert canonical_group("cluster/0f1e_2") == "cluster/0f1e_2"
    for name in (names[0] for names in VISITS):
        assert canonical_group(group_of("s", name)) == group_of("s", name)


def test_names_that_may_be_visits_are_found_only_where_no_rule_fits() -> None:
    odd = ["K07_1", "K07_2", "M3_a", "M3_b", "H_20190101", "H_20190704", "N4_m06", "N4_12mo", "9101A", "9101B"]
    plain = ["UPENN-GBM-00211_11", "UPENN-GBM-00211_21", "CASE_01", "CASE_02", "BraTS20_Training_001", "K08_1"]
    assert like_visits(odd + plain) == {
        **{"K07": odd[:2], "M3": odd[2:4], "H": odd[4:6], "N4": odd[7:5:-1], "9101": odd[8:]}
    }


def test_a_table_names_patients(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_bytes("\ufeffCase, Patient\nA1,anna\nA2,anna\nB1,berta\n".replace(", ", ",").encode())
    assert read_groups(table) == {"A1": "anna", "A2": "anna", "B1": "berta"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name,patient\nA,1\n", "no column 'case'"),
        (b"case,patient\nA,1\nA,2\n", "A has no patient, or two"),
        (b"case,patient\nA,\n", "A has no patient, or two"),
        (b"\xff\xfe\x00", "cannot be read as CSV"),
        (b"", "no column 'case'"),
    ],
)
def test_an_invalid_table_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    table = tmp_path / "groups.csv"
    table.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        read_groups(table)
    assert str(table) in str(caught.value) and "\n" not in str(caught.value)
