"""Out-of-distribution (OOD) score: distance of a scan's features from those of the training slices."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ..core.documents import Kind
from ..core.files import resolve_in_bundle, sha256_of, write_atomic

__all__ = ["FILE", "OODDetector", "fit", "load_ood_detector", "read_ood_detector", "save_ood_detector"]

FILE = "ood_detector.npz"  # beside the weights
COMPONENTS = 32  # directions in which the training slices vary most
DIGITS, TINY = 6, 1e-6
LARGEST = 1e3  # width or limit; with a larger one no scan would be far
ORTHONORMAL = 1e-3

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class OODDetector:
    """A Gaussian distribution of the pooled bottleneck features (probabilistic PCA).

    Args:
        mean: (F,).
        axes: (K, F), orthonormal principal axes.
        widths: (K,), standard deviations along them.
        rest: standard deviation along all other directions.
        limits: by kind of scan, "image" and "volume": largest distance of an in-distribution scan.
        fitted_on: data of the fit, in words.

    Reference:
        Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 61(3), 1999; Lee et al., A Simple Unified
        Framework for Detecting Out-of-Distribution Samples, NeurIPS 2018 (Mahalanobis distance of features).
    """

    mean: np.ndarray
    axes: np.ndarray
    widths: np.ndarray
    rest: float
    limits: Mapping[str, float] = field(default_factory=dict)
    fitted_on: str = "nothing"

    def __post_init__(self) -> None:
        axes, features = self.axes.shape
        if self.mean.shape != (features,) or self.widths.shape != (axes,):
            raise ValueError(f"mean {self.mean.shape}, axes {self.axes.shape}, widths {self.widths.shape} do not fit")
        sizes = [*self.widths, self.rest, *self.limits.values()]
        if not (np.isfinite(self.mean).all() and np.isfinite(self.axes).all() and np.isfinite(sizes).all()):
            raise ValueError("contains numbers that are not finite")
        if min(sizes) <= 0:
            raise ValueError("contains a width or a limit that is not above 0")
        if max(sizes) > LARGEST:
            raise ValueError(f"contains a width or a limit above {LARGEST:g}")
        if np.abs(self.axes @ self.axes.T - np.eye(axes)).max(initial=0.0) > ORTHONORMAL:
            raise ValueError("its axes are not perpendicular unit vectors")

    def distance(self, features: np.ndarray) -> np.ndarray:
        """OOD score: root mean square of the standardized deviations, (N, F) -> (N,), about 1 for training slices.

        NaN for features of another network, of another number.
        """
        if features.shape[1] != len(self.mean):
            return np.full(len(features), np.nan)
        away = np.asarray(features, dtype=np.float64) - self.mean
        along = away @ self.axes.T  # (N, K)
        other = np.clip((away**2).sum(axis=1) - (along**2).sum(axis=1), 0.0, None)
        squares = ((along / self.widths) ** 2).sum(axis=1) + other / self.rest**2
        return np.asarray(np.sqrt(squares / away.shape[1]))

    def is_out_of_distribution(self, distances: np.ndarray, kind: Kind) -> bool:
        """Whether the median distance of a scan's slices (D,), NaN for skipped ones, exceeds the limit."""
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
        mean=np.round(mean, DIGITS),
        axes=np.round(axes[:kept], DIGITS),
        widths=np.maximum(deviations[:kept], TINY),
        rest=max(rest, TINY),
    )


def save_ood_detector(path: str | Path, detector: OODDetector, weights_sha256: str) -> None:
    """Write a detector as float64 arrays, since rounding could move a scan across a limit.

    Args:
        path: the file, NAME.npz.
        detector: of some weights.
        weights_sha256: hash of these.
    """
    content: dict[str, Any] = {
        name: getattr(detector, name) for name in ("mean", "axes", "widths", "rest", "fitted_on")
    }
    content |= {f"limit_{kind}": limit for kind, limit in detector.limits.items()}
    content["weights_sha256"] = weights_sha256
    write_atomic(path, lambda file: np.savez_compressed(file, **content))


def load_ood_detector(model_path: str | Path) -> OODDetector | None:
    """The OOD detector beside these weights; None if there is none for them, or it is damaged."""
    model_path = resolve_in_bundle(model_path)
    path = model_path.with_name(FILE)
    if not path.is_file():
        return None
    try:
        return read_ood_detector(path, sha256_of(model_path))
    except Exception as error:  # numpy and zipfile raise a dozen types for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logger.warning("%s: not used, scans get no out-of-distribution score: %s", path, reason)
        return None


def read_ood_detector(path: Path, weights_sha256: str) -> OODDetector:
    """Read a file of `save_ood_detector`.

    Raises:
        ValueError: when it belongs to other weights or its numbers are invalid; a damaged file raises other types.
    """
    with np.load(path, allow_pickle=False) as file:
        if str(file["weights_sha256"]) != weights_sha256:
            raise ValueError("it belongs to other weights")
        limits = {kind: float(file[f"limit_{kind}"]) for kind in get_args(Kind) if f"limit_{kind}" in file}
        arrays = {name: np.asarray(file[name], dtype=np.float64) for name in ("mean", "axes", "widths")}
        return OODDetector(**arrays, rest=float(file["rest"]), limits=limits, fitted_on=str(file["fitted_on"]))
