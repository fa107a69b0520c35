from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from scripts.core.filenames import ABSENT
from scripts.io.datalists import gather_cases, image_cases, volume_cases
from scripts.io.patients import group_of
from scripts.io.scan_lists import scans

ALL = ("flair", "t1", "t1ce", "t2")


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def make_images(root: Path, yes: str = "Y1.jpg", no: str = "1 no.jpg") -> Path:
    touch(root / "yes" / yes, root / "no" / no)
    return root


def make_decathlon(root: Path) -> Path:
    """Two cases as in Task01_BrainTumour, the second without a mask."""
    touch(root / "imagesTr/BRATS_001.nii.gz", root / "imagesTr/BRATS_002.nii.gz", root / "labelsTr/BRATS_001.nii.gz")
    touch(
        root / "imagesTr/._BRATS_001.nii.gz", root / "labelsTr/._BRATS_002.nii.gz", root / "imagesTs/BRATS_485.nii.gz"
    )
    names = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (root / "dataset.json").write_text(json.dumps({"modality": names}))
    return root


@pytest.mark.parametrize(
    ("folder", "name", "words", "suffix"),
    [
        ("HGG/Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB_1", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], ".nii.gz"),
        ("BraTS19_CBICA_AAB_1", "BraTS19_CBICA_AAB_1", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], ".nii"),
        ("BraTS20_Training_001", "BraTS20_Training_001", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], ".nii"),
        ("", "BraTS2021_00000", ["_flair", "_t1", "_t1ce", "_t2", "_seg"], ".nii.gz"),
        ("BraTS-GLI-00002-000", "BraTS-GLI-00002-000", ["-t2f", "-t1n", "-t1c", "-t2w", "-seg"], ".nii.gz"),
    ],
)
def test_files_of_every_year_become_the_same_case(
    tmp_path: Path, folder: str, name: str, words: list[str], suffix: str
) -> None:
    files = [tmp_path / folder / f"{name}{word}{suffix}" for word in words]
    touch(*files)
    (case,) = volume_cases(tmp_path, ALL)
    assert case == {
        "id": f"brats/{name}",
        "source": "brats",
        "group": group_of("brats", name),
        "kind": "volume",
        "image": [str(path) for path in files[:4]],
        "sequences": dict(zip(ALL, map(str, files[:4]), strict=True)),
        "label": str(files[4]),
    }


def test_one_modality_is_a_single_path(tmp_path: Path) -> None:
    touch(tmp_path / "A/A_flair.nii.gz", tmp_path / "A/A_t1.nii.gz")
    assert volume_cases(tmp_path)[0]["image"] == str(tmp_path / "A/A_flair.nii.gz")


def test_the_misnamed_mask_of_case_355_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "BraTS20_Training_355"
    touch(folder / "BraTS20_Training_355_flair.nii", folder / "W39_1998.09.19_Segm.nii")
    (case,) = volume_cases(tmp_path)
    assert (case["id"], case["label"]) == ("brats/BraTS20_Training_355", str(folder / "W39_1998.09.19_Segm.nii"))


def test_a_misnamed_mask_is_not_used_if_its_folder_has_several_cases(tmp_path: Path) -> None:
    touch(tmp_path / "A_flair.nii", tmp_path / "B_flair.nii", tmp_path / "W39_Segm.nii")
    assert {case["id"]: "label" in case for case in volume_cases(tmp_path)}.items() >= {
        "brats/A": False,
        "brats/B": False,
    }.items()


def test_case_without_a_mask_has_no_label_at_all(tmp_path: Path) -> None:
    touch(tmp_path / "A/A_flair.nii.gz", tmp_path / "B/B_flair.nii.gz", tmp_path / "B/B_seg.nii.gz")
    assert ["label" in case for case in volume_cases(tmp_path)] == [False, True]


def test_a_missing_sequence_has_its_place_among_the_files(tmp_path: Path) -> None:
    touch(tmp_path / "A/A_t2.nii.gz")
    with pytest.raises(ValueError, match="no case has FLAIR or T1; name other"):
        volume_cases(tmp_path, ["flair", "t1"])
    touch(tmp_path / "A/A_flair.nii.gz", *(tmp_path / f"B/B_{sequence}.nii.gz" for sequence in ALL))
    found = volume_cases(tmp_path, ALL)
    there = {sequence: str(tmp_path / f"A/A_{sequence}.nii.gz") for sequence in ("flair", "t2")}
    assert found[0]["image"] == [there.get(sequence, ABSENT) for sequence in ALL]
    assert ABSENT not in found[1]["image"]
    levels = {notice.code: notice.level for notice in found.notices}
    assert levels["sequence_missing"] == "warning", "of a case that has another sequence"


@pytest.mark.parametrize("below", ["", "Task01_BrainTumour"])
def test_decathlon_is_read_from_its_folder_or_its_parent(tmp_path: Path, below: str) -> None:
    task = make_decathlon(tmp_path / below)
    first, second = volume_cases(tmp_path)
    assert first["image"] == str(task / "imagesTr/BRATS_001.nii.gz")
    assert first["label"] == str(task / "labelsTr/BRATS_001.nii.gz")
    assert (first["id"], first["group"], first["kind"]) == ("brats/BRATS_001", "brats/BRATS_001", "volume")
    assert second["id"] == "brats/BRATS_002" and "label" not in second


def test_decathlon_without_its_description_is_refused(tmp_path: Path) -> None:
    (make_decathlon(tmp_path) / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"dataset\.json"):
        volume_cases(tmp_path)


@pytest.mark.parametrize(
    ("cases", "patients"),
    [
        (["BraTS-GLI-00002-000", "BraTS-GLI-00002-001", "BraTS-GLI-00003-000"], 2),
        (["Brats18_2013_11_1", "Brats18_2013_11_2", "Brats18_2013_12_1"], 2),
        (["brats_2013_pat0003_1", "brats_2013_pat0003_2"], 1),
        (["Brats17_CBICA_AAB_1", "Brats17_CBICA_AAB_2", "Brats17_CBICA_AAG_1"], 2),
        (["BraTS20_Training_001", "BraTS20_Training_002"], 2),
        (["BraTS2021_00000", "BraTS2021_00002"], 2),
    ],
)
def test_visits_of_one_patient_share_a_group(tmp_path: Path, cases: list[str], patients: int) -> None:
    touch(*(tmp_path / name / f"{name}_flair.nii.gz" for name in cases))
    found = volume_cases(tmp_path)
    assert len(found) == len(cases)
    assert len({case["group"] for case in found}) == patients


def test_hidden_and_other_files_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "A/A_flair.nii.gz", tmp_path / "A/._A_flair.nii.gz", tmp_path / "name_mapping.csv")
    assert [case["id"] for case in volume_cases(tmp_path)] == ["brats/A"]


def test_two_cases_of_the_same_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "HGG/A/A_flair.nii.gz", tmp_path / "copy/A/A_flair.nii.gz")
    with pytest.raises(ValueError, match="A"):
        volume_cases(tmp_path)


def test_yes_and_no_are_found_in_any_case_of_letters(tmp_path: Path) -> None:
    touch(tmp_path / "YES/Y1.JPG", tmp_path / "YES/deeper/Y2.Png", tmp_path / "No/1 no.jpeg")
    assert {case["id"]: case["cls"] for case in image_cases(tmp_path, "k")} == {
        "k/yes/Y1.JPG": 1,
        "k/yes/deeper/Y2.Png": 1,
        "k/no/1 no.jpeg": 0,
    }


def test_an_image_case_has_all_fields_but_its_group(tmp_path: Path) -> None:
    make_images(tmp_path)
    assert image_cases(tmp_path, "k")[0] == {
        "id": "k/yes/Y1.jpg",
        "source": "k",
        "kind": "image",
        "image": str(tmp_path / "yes/Y1.jpg"),
        "cls": 1,
    }


def test_files_of_file_managers_are_skipped(tmp_path: Path) -> None:
    make_images(tmp_path)
    touch(tmp_path / "yes/Thumbs.db", tmp_path / "no/.DS_Store", tmp_path / "yes/._Y1.jpg", tmp_path / "no/desktop.ini")
    assert [case["id"] for case in image_cases(tmp_path, "k")] == ["k/yes/Y1.jpg", "k/no/1 no.jpg"]


def test_folders_yes_and_YES_are_both_read(tmp_path: Path) -> None:
    make_images(tmp_path)
    touch(tmp_path / "YES/Y2.jpg")
    try:
        found = {case["id"] for case in image_cases(tmp_path, "k")}
    except ValueError:
        return  # refusing is as good
    assert found == {"k/yes/Y1.jpg", "k/yes/Y2.jpg", "k/no/1 no.jpg"}


def test_several_image_sources_have_their_names(tmp_path: Path) -> None:
    first, second = make_images(tmp_path / "hospital"), make_images(tmp_path / "other")
    for given in ([str(first), f"B={second}"], {"hospital": str(first), "B": str(second)}):
        assert {case["source"] for case in gather_cases(None, given)} == {"hospital", "B"}
    assert {case["id"].split("/")[0] for case in gather_cases(None, f"C={first}")} == {"C"}


def test_volumes_and_images_come_together(tmp_path: Path) -> None:
    touch(tmp_path / "volumes/A_t1.nii.gz")
    found = gather_cases(tmp_path / "volumes", make_images(tmp_path / "k"), modalities=["t1"])
    assert [(case["kind"], case["source"]) for case in found] == [("volume", "brats"), ("image", "k"), ("image", "k")]


def test_two_sources_of_the_same_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "volumes/A_flair.nii.gz")
    first, second = make_images(tmp_path / "a/k"), make_images(tmp_path / "b/k")
    with pytest.raises(ValueError, match="two sources are called 'k'"):
        gather_cases(None, [str(first), str(second)])
    with pytest.raises(ValueError, match="two sources are called 'brats'"):
        gather_cases(tmp_path / "volumes", f"brats={first}")


def test_a_linked_folder_has_the_name_of_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "mine"
    link.symlink_to(make_images(tmp_path / "k"))
    assert {case["source"] for case in gather_cases(None, str(link))} == {"mine"}
    monkeypatch.chdir(link)
    assert {case["source"] for case in gather_cases(None, "yes/..")} == {"k"}


def test_folder_with_an_equals_sign_in_its_path_is_one_folder(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "date=2024" / "k")
    assert {case["source"] for case in gather_cases(None, str(folder))} == {"k"}


def test_a_name_that_is_not_utf8_is_refused_first(tmp_path: Path) -> None:
    images = make_images(tmp_path / "k")
    one = next(path for path in images.rglob("*") if path.is_file())
    one.rename(one.with_name(os.fsdecode(b"Y\xff.jpg")))
    with pytest.raises(ValueError, match=r"Y\\udcff\.jpg': its name is not UTF-8, rename it"):
        gather_cases(None, str(images))


def test_missing_data_are_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "half/yes/Y1.jpg")
    for volumes, images, message in (
        (None, None, "name a folder of volumes, of images, or both"),
        (tmp_path / "absent", None, "absent: no such folder"),
        (tmp_path / "empty", None, "empty: no case found"),
        (None, tmp_path / "absent", "absent: no such folder"),
        (None, tmp_path / "half", "half: no folder 'no'"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            gather_cases(volumes, images)
        assert "\n" not in str(caught.value)


def test_scans_are_one_file_or_all_files_below_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "deep/b.nii.gz", tmp_path / ".hidden")
    first, second = {"image": str(tmp_path / "a.png"), "name": "a"}, {"image": str(tmp_path / "deep/b.nii.gz")}
    assert scans(tmp_path / "a.png", tmp_path) == [first]
    assert scans(tmp_path) == [first, {**second, "name": "deep/b"}]
    assert scans([tmp_path], tmp_path / "deep") == [first]
    with pytest.raises(ValueError, match="no scan here"):
        scans(tmp_path / "absent")


def test_no_prediction_overwrites_the_index(tmp_path: Path) -> None:
    for name in ("Index.jpg", "a.png", "index/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {scan["name"] for scan in scans(tmp_path)} == {"Index.jpg", "a", "index/b"}
    (tmp_path / "Index.jpg").rename(tmp_path / "index_")
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index_").rename(tmp_path / "index")
    with pytest.raises(ValueError, match="index: its prediction would take the place"):
        scans(tmp_path)


def test_predictions_are_not_scans_for_any_spelling_of_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "S/a.png", tmp_path / "S/out/a_mask.png", tmp_path / "elsewhere/c.png")
    (tmp_path / "link").symlink_to(tmp_path / "S")
    monkeypatch.chdir(tmp_path)
    for root in ("S", str(tmp_path / "S"), "link", "S/../S"):
        for output in ("S/out", str(tmp_path / "S/out"), "link/out", "S/../S/out"):
            assert [scan["name"] for scan in scans(root, output)] == ["a"], (root, output)


def test_links_to_scans_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/c.png", tmp_path / "S/out/a_mask.png")
    (tmp_path / "S/b.png").symlink_to(tmp_path / "elsewhere/c.png")
    (tmp_path / "S/out/old.png").symlink_to(tmp_path / "elsewhere/c.png")
    (tmp_path / "S/again.png").symlink_to(tmp_path / "S/out/a_mask.png")
    assert [scan["name"] for scan in scans(tmp_path / "S", tmp_path / "S/out")] == ["again", "b"]
