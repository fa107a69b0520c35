from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.inference.flags import thickness_is_plausible


@pytest.mark.parametrize(("thickness", "plausible"), [(5.0, True), (60.0, False)])
@pytest.mark.parametrize("normal", [0, 1, 2])
def test_the_thickness_of_a_single_slice_is_across_its_own_plane(
    thickness: float, plausible: bool, normal: int
) -> None:
    columns = np.eye(3)[:, [*(axis for axis in range(3) if axis != normal), normal]] * (1.0, 1.0, thickness)
    affine = np.eye(4)
    affine[:3, :3] = columns
    mask = MetaTensor(torch.zeros(1, 40, 30, 1), meta={"original_affine": affine})
    assert thickness_is_plausible(mask) is plausible
