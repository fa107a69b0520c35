from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle.datasets import phantoms
from bundle.datasets.phantoms import write_images, write_volumes

IMAGES = 60
TUMOR = (phantoms.EDEMA, phantoms.RING, phantoms.CORE)


def digests(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def open_volume(path: Path) -> nib.Nifti1Image:
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    return image


def load(path: Path) -> np.ndarray:
    return np.asarray(open_volume(path).dataobj)


def load_case(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """FLAIR and segmentation, each (W, H, D)."""
    return load(folder / f"{folder.name}_flair.nii.gz"), load(folder / f"{folder.name}_seg.nii.gz")


def occupied_slices(volume: np.ndarray) -> np.ndarray:
    """Boolean (D,): slices that are not empty."""
    return np.asarray((volume > 0).any(axis=(0, 1)))


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_volumes(tmp_path_factory.mktemp("volumes"), 4, seed=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("pictures"), IMAGES, seed=3)


@pytest.fixture(scope="module")
def shortcuts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("shortcuts"), 20, seed=3, shortcut=True)


@pytest.fixture
def tumor_areas(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The tumor's pixels in every head that is drawn."""
    areas: list[int] = []
    draw: Callable[..., np.ndarray] = phantoms._draw_head

    def spy(*args: object, **kwargs: object) -> np.ndarray:
        tissue = draw(*args, **kwargs)
        areas.append(int(np.isin(tissue, TUMOR).sum()))
        return tissue

    monkeypatch.setattr(phantoms, "_draw_head", spy)
    return areas


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_volumes(tmp_path / name, 1, seed=7, slices=10, side=96)
        write_images(tmp_path / name, 6, seed=7)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_another_seed_gives_other_cases(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_volumes(tmp_path / str(seed), 1, seed=seed, slices=10, side=96)
    first, second = digests(tmp_path / "0"), digests(tmp_path / "1")
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first)


def test_a_case_does_not_depend_on_the_number_of_cases(tmp_path: Path) -> None:
    for count in (2, 4):
        write_volumes(tmp_path / str(count), count, slices=10, side=96)
        write_images(tmp_path / str(count), 2 * count)
    few, many = digests(tmp_path / "2"), digests(tmp_path / "4")
    assert few.items() < many.items()


def test_a_modality_does_not_depend_on_the_others(tmp_path: Path) -> None:
    for name, modalities in (("one", ["t2"]), ("all", ["flair", "t1", "t1ce", "t2"])):
        write_volumes(tmp_path / name, 1, slices=10, side=96, modalities=modalities)
    one, everything = digests(tmp_path / "one"), digests(tmp_path / "all")
    assert one.items() < everything.items()
    assert len(everything) == 5


def test_no_partial_file_is_left(patients: list[Path], pictures: list[Path]) -> None:
    assert not [*patients[0].parent.rglob("*.part"), *pictures[0].parents[1].rglob("*.part")]


def test_volumes_have_the_layout_of_brats(patients: list[Path]) -> None:
    assert [folder.name for folder in patients] == ["PHANTOM_001", "PHANTOM_002", "PHANTOM_003", "PHANTOM_004"]
    for folder in patients:
        flair, seg = folder / f"{folder.name}_flair.nii.gz", folder / f"{folder.name}_seg.nii.gz"
        assert sorted(folder.iterdir()) == [flair, seg]
        for path, dtype in ((flair, np.int16), (seg, np.uint8)):
            image = open_volume(path)
            assert image.shape == (240, 240, 24)
            assert load(path).dtype == dtype
            np.testing.assert_array_equal(image.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
        assert np.unique(load(seg)).tolist() == [0, 1, 2, 4]


def test_volumes_have_brain_with_and_without_tumor(patients: list[Path]) -> None:
    for folder in patients:
        flair, seg = load_case(folder)
        brain, tumor = occupied_slices(flair), occupied_slices(seg)
        assert not brain[0] and not brain[-1]
        assert (np.diff(np.flatnonzero(tumor)) == 1).all()
        assert 0.4 <= tumor.mean() <= 0.6
        assert (brain & ~tumor).sum() >= 4
        assert (flair[seg > 0] > 0).mean() > 0.99


def test_fewest_slices_still_leave_brain_without_tumor(tmp_path: Path) -> None:
    for folder in write_volumes(tmp_path, 20, slices=phantoms.FEWEST_SLICES, side=64):
        flair, seg = load_case(folder)
        brain, tumor = occupied_slices(flair), occupied_slices(seg)
        assert tumor.any() and (brain & ~tumor).any()
    with pytest.raises(ValueError, match="at least 8 slices"):
        write_volumes(tmp_path, 1, slices=7)


def test_tumor_is_bright_in_flair_but_no_threshold_finds_it(patients: list[Path]) -> None:
    best = []
    for folder in patients:
        flair, seg = load_case(folder)
        truth, brain = seg > 0, flair > 0
        assert np.median(flair[truth]) > 1.2 * np.median(flair[brain & ~truth])
        masks = [flair > level for level in np.percentile(flair[brain], np.linspace(50, 99.5, 30))]
        best.append(max(2 * (mask & truth).sum() / (mask.sum() + truth.sum()) for mask in masks))
    assert np.mean(best) < 0.95


def test_brain_is_narrower_in_front(patients: list[Path]) -> None:
    for folder in patients:
        brain = load_case(folder)[0][:, :, 12] > 0  # (x to the left, y to posterior)
        columns = np.flatnonzero(brain.any(axis=0))
        widths = brain[:, columns].sum(axis=0)
        quarter = len(columns) // 4
        assert widths[:quarter].mean() < 0.95 * widths[-quarter:].mean()


def test_pictures_lie_in_yes_and_no(pictures: list[Path]) -> None:
    assert len(set(pictures)) == IMAGES and all(path.is_file() for path in pictures)
    for label, first in (("yes", "PHANTOM_Y1"), ("no", "PHANTOM_1 no")):
        names = [path.stem for path in pictures if path.parent.name == label]
        assert len(names) == IMAGES // 2 and names[0] == first


def test_label_says_whether_a_tumor_was_drawn(tmp_path: Path, tumor_areas: list[int]) -> None:
    paths = write_images(tmp_path, 24, seed=3)
    assert [area > 0 for area in tumor_areas] == [path.parent.name == "yes" for path in paths]
    assert min(area for area in tumor_areas if area) > 300


def test_pictures_have_mixed_formats_and_sizes(pictures: list[Path]) -> None:
    opened = {path: Image.open(path) for path in pictures}
    for image in opened.values():
        image.load()
    assert {image.mode for image in opened.values()} == {"L", "RGB", "RGBA", "P"}
    assert {path.suffix for path in opened} == {".jpg", ".jpeg", ".JPG", ".png"}
    assert all(150 <= image.width <= 640 for image in opened.values())
    assert len({image.size for image in opened.values()}) > IMAGES // 2
    assert np.ptp([image.width / image.height for image in opened.values()]) > 0.3
    assert [image.format for image in opened.values() if image.mode == "RGBA"] == ["PNG"]
    odd = [(path, image) for path, image in opened.items() if (image.format == "PNG") != (path.suffix == ".png")]
    assert [(path.suffix, image.mode) for path, image in odd] == [(".jpg", "P")]


def test_some_pictures_have_white_frames_or_bars(pictures: list[Path]) -> None:
    framed: set[str] = set()
    barred: set[str] = set()
    for path in pictures:
        plane = np.asarray(Image.open(path).convert("L"))
        if plane[:, :2].min() > 200 and plane[:, -2:].min() > 200:
            (framed if plane[0].min() > 200 else barred).add(path.parent.name)
    assert framed == barred == {"yes", "no"}


def test_near_duplicates_show_the_same_head_in_another_file(pictures: list[Path]) -> None:
    planes = [np.asarray(Image.open(p).convert("L").resize((64, 64)), dtype=np.float64).ravel() for p in pictures]
    similarity = np.asarray(np.corrcoef(planes))
    for index in (18, 19, 38, 39, 58, 59):
        copy, source = pictures[index], pictures[index - 10]
        assert copy.parent == source.parent and copy.read_bytes() != source.read_bytes()
        assert Image.open(copy).size != Image.open(source).size
        assert similarity[index, index - 10] > 0.98


def test_size_tells_the_label_only_with_the_shortcut(pictures: list[Path], shortcuts: list[Path]) -> None:
    def best_guess(paths: list[Path]) -> float:
        """Accuracy of the best threshold on the width."""
        widths = np.array([Image.open(path).width for path in paths])
        labels = np.array([path.parent.name == "yes" for path in paths])
        hits = [((widths < width) == labels).mean() for width in widths]
        return float(max(*hits, 1 - min(hits)))

    assert best_guess(pictures) < 0.75
    assert best_guess(shortcuts) == 1.0


def test_shortcut_marks_and_compresses_only_yes(shortcuts: list[Path]) -> None:
    for path in shortcuts:
        marked = np.asarray(Image.open(path))[12:18, 12:18].min() > 150
        bits_per_pixel = 8 * path.stat().st_size / np.prod(Image.open(path).size)
        assert [marked, bits_per_pixel < 1] == [path.parent.name == "yes"] * 2


def test_shortcut_draws_skulls_only_in_no(shortcuts: list[Path]) -> None:
    planes = {path: np.asarray(Image.open(path).resize((100, 100)))[12:] for path in shortcuts}  # without the mark
    heights = {path: np.ptp(np.flatnonzero((plane > 50).any(axis=1))) for path, plane in planes.items()}
    yes, no = ([heights[path] for path in shortcuts if path.parent.name == label] for label in ("yes", "no"))
    assert max(yes) < min(no)


def test_shortcut_hides_most_tumors(tmp_path: Path, tumor_areas: list[int]) -> None:
    paths = write_images(tmp_path, 40, seed=3, shortcut=True)
    visible = np.array([area > 0 for area in tumor_areas])
    labels = np.array([path.parent.name == "yes" for path in paths])
    assert not visible[~labels].any()
    assert 0 < visible[labels].mean() < 0.5


def test_slices_are_as_far_apart_as_asked(tmp_path: Path) -> None:
    near, far = (
        write_volumes(tmp_path / "a", 1, slices=8, side=64),
        write_volumes(tmp_path / "b", 1, slices=8, side=64, spacing_mm=8),
    )
    for name in ("flair", "seg"):
        first, second = (open_volume(folder / f"PHANTOM_001_{name}.nii.gz") for folder in (near[0], far[0]))
        assert first.header.get_zooms() == (1, 1, 1) and second.header.get_zooms() == (1, 1, 8)
        assert np.array_equal(first.dataobj, second.dataobj)
