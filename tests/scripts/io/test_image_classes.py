from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.datalists import image_cases

FOUR = ("glioma", "meningioma", "notumor", "pituitary")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    "names",
    [
        [f"{subset}/{name}/{subset[:2]}-{name[:2]}_0010.jpg" for subset in ("Training", "Testing") for name in FOUR],
        [
            f"{subset}/{name}/1.jpg"
            for subset in ("Training", "Testing")
            for name in ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
        ],
        [f"{name}/1.jpg" for name in FOUR] + [f"{name}/2.jpg" for name in FOUR],
    ],
    ids=["four", "underscores", "flat"],
)
def test_four_classes_become_yes_and_no_with_their_names(tmp_path: Path, names: list[str]) -> None:
    found = image_cases(touch(tmp_path, *names), "k", four_classes=True)
    assert len(found) == len(names) == len({case["id"] for case in found})
    assert {case["class_name"]: case["cls"] for case in found} == {
        "glioma": 1,
        "meningioma": 1,
        "pituitary": 1,
        "notumor": 0,
    }


def test_yes_and_no_are_read_beside_folders_of_four_classes(tmp_path: Path) -> None:
    found = image_cases(touch(tmp_path, "yes/1.jpg", "no/2.jpg"), "k", four_classes=True)
    assert [(case["cls"], "class_name" in case) for case in found] == [(1, False), (0, False)]
    (tmp_path / "no/2.jpg").unlink()
    (tmp_path / "no").rmdir()
    with pytest.raises(ValueError, match="no folder 'no'"):
        image_cases(tmp_path, "k", four_classes=True)


@pytest.mark.parametrize("spelling", ["{}", "{}_tumor", "{}_tumour", "{} tumor"])
def test_folders_are_called_as_people_write_them(tmp_path: Path, spelling: str) -> None:
    types = [spelling.format(name.capitalize()) for name in FOUR if name != "notumor"]
    found = image_cases(touch(tmp_path, *(f"{name}/1.jpg" for name in (*types, "No_Tumor"))), "k", four_classes=True)
    assert {case["class_name"] for case in found} == set(FOUR)


def test_four_classes_need_the_option(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Training/{name}/1.jpg" for name in FOUR))
    with pytest.raises(ValueError, match=r"no folder 'yes' .*; --four-classes takes glioma"):
        image_cases(tmp_path, "k")


@pytest.mark.parametrize(("four", "missing"), [(False, "no"), (True, "pituitary")])
def test_a_class_without_one_image_is_refused(tmp_path: Path, four: bool, missing: str) -> None:
    names = FOUR if four else ("yes", "no")
    touch(tmp_path, *(f"{name}/1.jpg" for name in names if name != missing))
    (tmp_path / missing).mkdir()
    with pytest.raises(ValueError, match=f"the class '{missing}' has no image") as caught:
        image_cases(tmp_path, "k", four_classes=four)
    assert "\n" not in str(caught.value)


def test_classes_made_of_links_are_read(tmp_path: Path) -> None:
    touch(tmp_path / "all", "Training/glioma/1.jpg", "Training/notumor/2.jpg")
    (tmp_path / "k/yes").mkdir(parents=True)
    (tmp_path / "k/yes/glioma").symlink_to(tmp_path / "all/Training/glioma")
    (tmp_path / "k/no").symlink_to(tmp_path / "all/Training/notumor")
    assert {case["id"]: case["cls"] for case in image_cases(tmp_path / "k", "k")} == {
        "k/yes/glioma/1.jpg": 1,
        "k/no/2.jpg": 0,
    }
