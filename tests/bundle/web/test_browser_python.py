"""The Python of the browser app, in a process without torch: the same result and mask as the predictor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.predictor import Predictor
from bundle.web.browser import stand_in
from bundle.web.browser.tensors import Tensor, interpolate
from tests.browser_app import predictions_without_browser


def test_results_and_masks_are_those_of_the_predictor(tmp_path: Path) -> None:
    volume = next(write_volumes(tmp_path, 1, slices=10, side=100, seed=21, spacing_mm=7.0)[0].glob("*_flair.nii.gz"))
    scans, predictor = [volume, *write_images(tmp_path, 2, seed=1)], Predictor(device="cpu")
    found = predictions_without_browser(predictor, scans, tmp_path)
    for scan, (result, name, mask) in zip(scans, found, strict=True):
        prediction = predictor.predict(scan)
        assert without_noise(result) == without_noise(prediction["result"])
        assert mask == predictor.files(prediction)[name]


def without_noise(value: Any) -> Any:
    """Numbers to three digits after the point."""
    if isinstance(value, dict):
        return {name: without_noise(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_noise(part) for part in value]
    return pytest.approx(value, abs=1e-3) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("shape", "sides"), [((11, 7), (5, 19)), ((40, 31), (13, 30)), ((8, 9), (16, 27)), ((6, 6), (6, 6))]
)
def test_planes_are_resized_as_torch_does(shape: tuple[int, int], sides: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).normal(size=(2, 1, *shape)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes), size=sides, mode="bilinear", align_corners=False, antialias=True
    )
    found = interpolate(planes.view(Tensor), size=sides)
    assert found.shape == tuple(expected.shape) and np.allclose(found, expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="only bilinear"):
        interpolate(planes.view(Tensor), size=sides, mode="nearest")


def test_torch_itself_is_never_replaced() -> None:
    with pytest.raises(RuntimeError, match="torch is loaded"):
        stand_in.install()
    assert sys.modules["torch"] is torch


def test_functions_of_the_config_are_known_or_refused() -> None:
    value = np.array([0.4, 0.5], np.float32).view(Tensor)
    compared = stand_in.Lambdad("pred", "$lambda p: (p >= 0.5).float()")({"pred": value})
    assert compared["pred"].tolist() == [0.0, 1.0] and compared["pred"].dtype == np.float32
    assert stand_in.Lambdad("pred", "$lambda p: p", "kept")({"pred": value})["kept"] is value
    for func in ("$lambda p: q", "$lambda p: p * 2", "$print"):
        with pytest.raises(ValueError, match="not known in the browser"):
            stand_in.Lambdad("pred", func)
