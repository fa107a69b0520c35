"""A head that lies otherwise is found again, on any grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bundle.datasets.phantoms import write_volumes
from bundle.followup.phantom_pairs import write_date
from bundle.followup.registration import align, moved_mask


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("head"), 1, slices=16, side=96, spacing_mm=5.0, seed=3)[0]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def turned(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """An image with its axes in another order."""
    wanted = nib.orientations.axcodes2ornt(tuple(axes))
    return image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted))


@pytest.mark.parametrize("axes", ["LPS", "SRA"])
def test_a_moved_head_is_found_and_its_tumor_lies_where_it_was(axes: str, phantom: Path, tmp_path: Path) -> None:
    scan, mask = next(phantom.glob("*_flair.nii.gz")), next(phantom.glob("*_seg.nii.gz"))
    _, there = write_date(scan, mask, tmp_path / "later.nii.gz", seed=2)
    first, tumor = nib.load(scan), np.asarray(nib.load(mask).dataobj) > 0
    later = turned(nib.load(tmp_path / "later.nii.gz"), axes)
    labels = turned(nib.Nifti1Image(there.astype(np.uint8), first.affine), axes)
    aligned = align(first.get_fdata(), first.affine, later.get_fdata(), later.affine)
    back = moved_mask(labels.get_fdata() > 0, labels.affine, first.shape, first.affine, aligned)
    assert dice(back, tumor) > 0.85 > dice(there, tumor)
    assert aligned.correlation > 0.8 and aligned.degrees > 2


def test_a_scan_is_in_its_own_place(phantom: Path) -> None:
    image = nib.load(next(phantom.glob("*_flair.nii.gz")))
    aligned = align(image.get_fdata(), image.affine, image.get_fdata(), image.affine)
    assert aligned.degrees < 0.5 and aligned.millimeters < 0.5 and aligned.correlation > 0.99
