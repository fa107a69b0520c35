from __future__ import annotations

from pathlib import Path

import pytest

from scripts.io.folders import broken_links, name_of, visible_files


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def relative(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in visible_files(root)]


def test_linked_folders_and_files_are_read_at_the_links_path(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "C4/x.nii", "C5/deep/y.nii", "z.nii")
    root = touch(tmp_path / "root", "C1/a.nii")
    for name, target in {"C4": "C4", "C5": "C5", "C1/z.nii": "z.nii"}.items():
        (root / name).symlink_to(tmp_path / "disk" / target)
    assert relative(root) == ["C1/a.nii", "C1/z.nii", "C4/x.nii", "C5/deep/y.nii"]


def test_circular_links_end(tmp_path: Path) -> None:
    root = touch(tmp_path / "root", "a/1.nii", "b/2.nii")
    for link, target in {"a/up": "..", "a/self": ".", "a/b": "../b", "b/a": "../a", "here": "."}.items():
        (root / link).symlink_to(target, target_is_directory=True)
    assert relative(root) == ["a/1.nii", "b/2.nii"]


def test_folders_that_link_to_each_other_are_visited_once(tmp_path: Path) -> None:
    names = [f"d{k:02d}" for k in range(30)]
    root = touch(tmp_path / "root", *(f"{name}/x.nii" for name in names))
    for name in names:
        for other in names:
            (root / name / f"to_{other}").symlink_to(root / other)
    assert len(visible_files(root)) == 30


def test_a_linked_folder_inside_the_root_is_listed_once(tmp_path: Path) -> None:
    root = touch(tmp_path, "z/real/x.nii")
    (root / "a").symlink_to(root / "z" / "real")
    assert relative(root) == ["z/real/x.nii"]


def test_hidden_files_and_lists_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ".git/x.nii", "a/._x.nii", "a/Thumbs.db", "a/x.nii", "DICOMDIR")
    assert relative(tmp_path) == ["a/x.nii"]


def test_broken_links_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.nii")
    (tmp_path / "a/lost.nii").symlink_to(tmp_path / "gone.nii")
    assert [path.name for path in broken_links(tmp_path)] == ["lost.nii"]
    assert relative(tmp_path) == ["a/x.nii"]


@pytest.mark.parametrize(
    ("path", "name"),
    [("A-t2f.nii/57.nii", "A-t2f.nii"), ("A-t2f.nii.gz/57.nii.gz", "A-t2f.nii.gz"), ("A/x_flair.nii", "x_flair.nii")],
)
def test_a_folder_named_like_a_file_gives_its_name(path: str, name: str) -> None:
    assert name_of(Path(path)) == name
