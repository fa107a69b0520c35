"""Smooth slice logits and mask logits along z."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

__all__ = ["smoothed", "smoothed_planes"]


def smoothed(logits: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth slice logits (D,) with a Gaussian over the slices that have one; NaN stays NaN.

    >>> smoothed(np.array([np.nan, 1.0, 1.0]), 2.0)
    array([nan,  1.,  1.])
    """
    known = np.isfinite(logits)
    if sigma <= 0 or not known.any():
        return logits
    return np.where(known, _weights(known, sigma) @ np.where(known, logits, 0.0), np.nan)


def smoothed_planes(logits: torch.Tensor, known: np.ndarray, sigma: float) -> torch.Tensor:
    """Smooth the mask's logits (H, W, D) along z with a Gaussian over the slices that have some.

    Columns without any logit above 0 stay as they are, for smoothing cannot bring one above it.

    Args:
        logits: of the mask.
        known: boolean (D,), slices that the network saw.
        sigma: standard deviation, slices.
    """
    slices = logits.numpy().transpose(2, 0, 1)  # (D, H, W), the order of the memory
    columns = slices.reshape(len(slices), -1)
    positive = np.flatnonzero(columns.max(axis=0) > 0)
    if sigma <= 0 or known.sum() < 2 or positive.size == 0:
        return logits
    smooth = columns.copy()
    smooth[:, positive] = _weights(known, sigma).astype(columns.dtype) @ columns.take(positive, axis=1)
    return torch.from_numpy(smooth.reshape(slices.shape).transpose(1, 2, 0))


def _weights(known: np.ndarray, sigma: float) -> np.ndarray:
    """Share (D, D) of each slice in each smoothed one; a slice that is not known stays as it is."""
    weights = ndimage.gaussian_filter1d(np.diag(known.astype(np.float64)), sigma, axis=0, mode="constant")
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    weights[~known] = np.eye(len(known))[~known]
    shares: np.ndarray = weights
    return shares
