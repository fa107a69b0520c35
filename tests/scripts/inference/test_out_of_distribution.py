"""What is like the training slices, and what is not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.core.files import sha256_of
from scripts.inference.out_of_distribution import OODDetector, fit, load_ood_detector


def cloud(count: int = 400, seed: int = 0) -> np.ndarray:
    """Features that vary in 5 of 24 directions, and hardly in the others."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)) @ rng.normal(size=(5, 24)) + 0.05 * rng.normal(size=(count, 24)) + 3.0


def test_training_slices_are_about_one_away_and_others_further() -> None:
    learned = fit(cloud(), components=5)
    near, far = learned.distance(cloud()), learned.distance(cloud() + np.eye(24)[0])
    assert np.sqrt((near**2).mean()) == pytest.approx(1.0, abs=0.05)
    assert far.min() > near.max()


@settings(deadline=None, max_examples=25)
@given(components=st.integers(1, 60), seed=st.integers(0, 5))
def test_distance_is_finite_and_grows_along_any_direction(components: int, seed: int) -> None:
    learned = fit(cloud(50, seed), components)
    start, step = np.asarray(learned.mean), np.random.default_rng(seed).normal(size=24)
    distances = learned.distance(np.stack([start + length * step for length in (0.0, 1.0, 2.0, 8.0)]))
    assert np.isfinite(distances).all() and (np.diff(distances) > 0).all()


def test_a_scan_is_unfamiliar_when_most_of_its_slices_are() -> None:
    learned = OODDetector([0.0], [[1.0]], [1.0], 1.0, limits={"volume": 2.0})
    assert learned.is_out_of_distribution(np.array([np.nan, 3.0, 3.0, 1.0]), "volume")
    assert not learned.is_out_of_distribution(np.array([3.0, 1.0, 1.0]), "volume")
    assert not learned.is_out_of_distribution(np.array([np.nan]), "volume") and not learned.is_out_of_distribution(
        np.array([9.0]), "image"
    )


def test_only_what_belongs_to_the_weights_is_used(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    assert load_ood_detector(tmp_path / "model.pt") is None
    learned = fit(cloud(60), components=3)
    for sha256, expected in ((sha256_of(tmp_path / "model.pt"), learned), ("0" * 64, None)):
        content = {**asdict(learned), "weights_sha256": sha256}
        (tmp_path / "ood_detector.json").write_text(json.dumps(content))
        assert load_ood_detector(tmp_path / "model.pt") == expected
