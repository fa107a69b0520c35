"""Classifiers that are no networks."""

import numpy as np


def brightest(images: np.ndarray) -> np.ndarray:
    """Probabilities (N,) of images (N, C, H, W) by their brightest pixels."""
    return 1 / (1 + np.exp(2 - np.percentile(images, 99.5, axis=(1, 2, 3))))
