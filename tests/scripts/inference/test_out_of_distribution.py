"""What is like the training slices, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.core.files import sha256_of
from scripts.inference.out_of_distribution import FILE, OODDetector, fit, load_ood_detector, save_ood_detector


def cloud(count: int = 400, seed: int = 0) -> np.ndarray:
    """Features that vary in 5 of 24 directions, and hardly in the others."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)) @ rng.normal(size=(5, 24)) + 0.05 * rng.normal(size=(count, 24)) + 3.0


def test_training_slices_have_distance_one_and_others_more() -> None:
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


def test_a_scan_is_out_of_distribution_by_its_median_slice() -> None:
    learned = OODDetector(np.zeros(1), np.ones((1, 1)), np.ones(1), 1.0, limits={"volume": 2.0})
    assert learned.is_out_of_distribution(np.array([np.nan, 3.0, 3.0, 1.0]), "volume")
    assert not learned.is_out_of_distribution(np.array([3.0, 1.0, 1.0]), "volume")
    assert not learned.is_out_of_distribution(np.array([np.nan]), "volume") and not learned.is_out_of_distribution(
        np.array([9.0]), "image"
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Weights with a detector beside them."""
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    limits = {"image": 1.5, "volume": 1.25}
    learned = replace(fit(cloud(60), components=3), limits=limits, fitted_on="60 slices")
    save_ood_detector(tmp_path / FILE, learned, sha256_of(path))
    return path


def test_a_detector_is_loaded_as_it_was_saved(model: Path) -> None:
    learned, loaded = fit(cloud(60), components=3), load_ood_detector(model)
    assert loaded is not None and loaded.limits == {"image": 1.5, "volume": 1.25} and loaded.fitted_on == "60 slices"
    assert np.array_equal(loaded.distance(cloud(9, 1)), learned.distance(cloud(9, 1)))


def test_without_a_file_or_with_one_of_other_weights_there_is_no_detector(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model.write_bytes(b"other weights")
    assert load_ood_detector(model) is None
    assert "ood_detector.npz: not used" in caplog.text and "belongs to other weights" in caplog.text
    model.with_name(FILE).unlink()
    caplog.clear()
    assert load_ood_detector(model) is None and not caplog.text


def with_changes(file: Path, **changes: object) -> None:
    """Write a detector's file anew with other entries; None leaves one out."""
    with np.load(file, allow_pickle=False) as content:
        kept = {name: value for name, value in {**content, **changes}.items() if value is not None}
    np.savez_compressed(file, **kept)


@pytest.mark.parametrize(
    "changes",
    [
        {"axes": None},
        {"axes": np.ones((3, 23))},
        {"widths": np.zeros(3)},
        {"mean": np.full(24, np.nan)},
        {"rest": np.array(["one"])},
        {"limit_image": np.float64("inf")},
        {"limit_image": np.float64(1e9)},
        {"widths": np.full(3, 1e9)},
        {"axes": np.full((3, 24), 1e-9)},
    ],
    ids=["absent", "shape", "zero", "nan", "text", "infinite", "far limit", "wide", "short axes"],
)
def test_an_invalid_file_is_named_and_not_used(
    changes: dict[str, object], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_changes(model.with_name(FILE), **changes)
    assert load_ood_detector(model) is None and "ood_detector.npz: not used" in caplog.text


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_named_and_not_used(share: float, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = model.with_name(FILE)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert load_ood_detector(model) is None and "ood_detector.npz: not used" in caplog.text


def test_features_of_another_size_have_no_distance() -> None:
    assert np.isnan(fit(cloud(60), components=3).distance(np.ones((2, 23)))).all()
