"""Is a scan like those that the network was trained on? Distance of its features from the training slices'."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.files import resolve_in_bundle, sha256_of
from .decision import Kind

__all__ = ["OODDetector", "fit", "load_ood_detector"]

COMPONENTS = 32  # directions in which the training slices vary most
DIGITS, TINY = 6, 1e-6


@dataclass(frozen=True)
class OODDetector:
    """A Gaussian over the bottleneck's average, in few directions of its own and one width for all others.

    Args:
        mean: (F,).
        axes: (K, F), orthonormal.
        widths: (K,), standard deviations along them.
        rest: standard deviation along any other direction.
        limits: by kind of scan, "image" and "volume": distance from which on a scan is unfamiliar.
        fitted_on: where both come from, in words.

    Reference:
        Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 61(3), 1999; Lee et al., A Simple Unified
        Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018 (Mahalanobis distance of features).
    """

    mean: Sequence[float]
    axes: Sequence[Sequence[float]]
    widths: Sequence[float]
    rest: float
    limits: Mapping[str, float] = field(default_factory=dict)
    fitted_on: str = "nothing"

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Root mean square of the standardised deviation: (N, F) -> (N,), about 1 for training slices."""
        away = np.asarray(features, dtype=np.float64) - np.asarray(self.mean)
        along = away @ np.asarray(self.axes).T  # (N, K)
        other = np.clip((away**2).sum(axis=1) - (along**2).sum(axis=1), 0.0, None)
        squares = ((along / np.asarray(self.widths)) ** 2).sum(axis=1) + other / self.rest**2
        return np.asarray(np.sqrt(squares / away.shape[1]))

    def is_out_of_distribution(self, distances: np.ndarray, kind: Kind) -> bool:
        """Whether most slices of a scan, by their distances (D,) with NaN for those not looked at, are too far away."""
        known = distances[np.isfinite(distances)]
        return bool(known.size and kind in self.limits and np.median(known) > self.limits[kind])


def fit(features: np.ndarray, components: int = COMPONENTS) -> OODDetector:
    """Fit a Gaussian to features (N, F)."""
    features = np.asarray(features, dtype=np.float64)
    mean = features.mean(axis=0)
    _, values, axes = np.linalg.svd(features - mean, full_matrices=False)
    deviations = values / np.sqrt(max(1, len(features) - 1))
    kept = min(components, len(deviations) - 1)
    others = max(1, features.shape[1] - kept)
    rest = float(np.sqrt((deviations[kept:] ** 2).sum() / others))
    return OODDetector(
        mean=np.round(mean, DIGITS).tolist(),
        axes=np.round(axes[:kept], DIGITS).tolist(),
        widths=np.maximum(deviations[:kept], TINY).tolist(),
        rest=max(rest, TINY),
    )


def load_ood_detector(model_path: str | Path) -> OODDetector | None:
    """What was learned beside these very weights; None where there is nothing."""
    model_path = resolve_in_bundle(model_path)
    try:
        content = json.loads(model_path.with_name("ood_detector.json").read_text())
        if content.pop("weights_sha256") != sha256_of(model_path):
            return None
        return OODDetector(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
