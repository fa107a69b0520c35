"""The released weights predict what they predicted before, to 1e-5, and the same masks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden_predictions import GOLDEN, measure

REFRESH = "not what was released: if that is meant, run `python -m tests.golden_predictions`"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return measure()


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(GOLDEN.read_text())
    return content


def test_the_golden_predictions_are_of_the_released_weights(found: Any, golden: Any) -> None:
    assert found["weights_sha256"] == golden["weights_sha256"], REFRESH
    assert found["predictions"].keys() == golden["predictions"].keys()


@pytest.mark.parametrize("scan", sorted(json.loads(GOLDEN.read_text())["predictions"]))
def test_the_prediction_is_the_golden_one(scan: str, found: Any, golden: Any) -> None:
    prediction, expected = found["predictions"][scan], golden["predictions"][scan]
    assert prediction["tumor_probability"] == pytest.approx(expected["tumor_probability"], abs=1e-5), REFRESH
    if expected["slice_probabilities"] is not None:
        before = [-1.0 if p is None else p for p in expected["slice_probabilities"]]
        assert [-1.0 if p is None else p for p in prediction["slice_probabilities"]] == pytest.approx(before, abs=1e-5)
    assert (prediction["mask_pixels"], prediction["mask_sha256"]) == (expected["mask_pixels"], expected["mask_sha256"])


def test_the_golden_masks_are_not_all_empty(golden: Any) -> None:
    drawn = [prediction["mask_pixels"] for prediction in golden["predictions"].values()]
    assert sum(pixels > 0 for pixels in drawn) >= 3 and 0 in drawn
