"""Corruptions change a scan as much as their severity says, and nothing at severity 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from bundle.workflows import robustness
from scripts.transforms.corruptions import CORRUPTIONS, OF_TORCHIO, WORST, applies, corrupt, visible_part


def scan(depth: int = 6, axis: int = 2) -> MetaTensor:
    """A head with a bright lesion: (1, 40, 48, depth), slices along an axis of the file."""
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    plane = np.where(x**2 + y**2 < 0.7, 60.0 + 20.0 * x, 0.0) + np.where((x - 0.3) ** 2 + y**2 < 0.03, 80.0, 0.0)
    slices = np.stack([plane * (1.0 + 0.05 * (number % 3)) for number in range(depth)], axis=-1)
    moved = np.moveaxis(slices, -1, axis)
    directions = np.diag([1.0, 1.0, 3.0])[:, [0, 1, 2] if axis == 2 else [2, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = directions
    return MetaTensor(torch.as_tensor(moved.astype(np.float32))[None], affine=torch.as_tensor(affine))


@pytest.fixture(params=CORRUPTIONS)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in OF_TORCHIO:
        pytest.importorskip("torchio")
    return str(request.param)


def test_severity_0_changes_nothing(name: str) -> None:
    image = scan()
    same = corrupt(image, name, 0, [0])
    assert torch.equal(same, image) and same is not image


def test_a_higher_severity_changes_more_and_the_input_stays(name: str) -> None:
    image = scan()
    before = image.clone()
    away = []
    for severity in (1, 3, WORST):
        made, part = corrupt(image, name, severity, [3]), visible_part(name, severity, image)
        assert made.dtype == image.dtype and bool(torch.isfinite(made.as_tensor()).all())
        full = torch.zeros_like(image.as_tensor())
        full[(slice(None), *part)] = made.as_tensor()
        away.append(float((full - image.as_tensor()).abs().mean()))
    assert 0 <= away[0] < away[1] < away[2]
    assert torch.equal(image, before)


def test_the_same_seed_gives_the_same_scan(name: str) -> None:
    first, again, other = (corrupt(scan(), name, 3, seed) for seed in ([1, 2], [1, 2], [1, 3]))
    assert torch.equal(first, again)
    if name in ("motion", "spikes", "bias_field", "noise"):
        assert not torch.equal(first, other)


def test_slices_are_found_along_any_axis(name: str) -> None:
    image, turned = scan(), scan(axis=0)
    made, other = corrupt(image, name, 2, [0]), corrupt(turned, name, 2, [0])
    assert np.allclose(np.moveaxis(other.numpy(), 1, -1), made.numpy(), atol=1e-2)


def test_a_single_slice_has_no_other_thickness(name: str) -> None:
    image = scan(depth=1)
    assert applies(name, image) is (name != "thickness")
    if applies(name, image):
        made = corrupt(image, name, WORST, [0])
        assert made.ndim == 4 and bool(torch.isfinite(made.as_tensor()).all())


def test_a_cropped_scan_stays_at_its_place() -> None:
    image = scan()
    made, part = corrupt(image, "cropping", WORST, [0]), visible_part("cropping", WORST, image)
    assert made.shape == (1, 20, 24, 6) and torch.equal(made.as_tensor(), image.as_tensor()[(slice(None), *part)])
    first = np.asarray(image.affine) @ [part[0].start, part[1].start, 0, 1]
    assert np.allclose(np.asarray(made.affine)[:3, 3], first[:3])


def test_the_turned_contrasts_change_a_bright_lesion_and_not_the_air() -> None:
    image = scan()
    lesion, brain, air = image[0, 20, 31], image[0, 20, 10], image[0, 0, 0]
    as_t1, as_t2 = (corrupt(image, name, WORST, [0]) for name in ("looks_like_t1", "looks_like_t2"))
    assert bool((lesion > brain).all()) and bool((as_t1[0, 20, 31] < as_t1[0, 20, 10]).all())
    assert torch.equal(as_t1[0, 0, 0], air) and torch.equal(as_t2[0, 0, 0], air)


def test_unknown_ones_are_refused() -> None:
    for name, severity in (("blur", 1), ("noise", 6), ("noise", -1)):
        with pytest.raises(ValueError, match="no corruption"):
            corrupt(scan(), name, severity, [0])


def test_the_command_names_the_same_ones(root: Path) -> None:
    assert robustness.CORRUPTIONS == CORRUPTIONS and robustness.OF_TORCHIO == OF_TORCHIO
    page = (root / "docs" / "how-to" / "evaluation.md").read_text()
    assert all(f"`{name}`" in page for name in CORRUPTIONS)
