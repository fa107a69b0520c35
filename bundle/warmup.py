"""Test loaded weights: they must predict, and reproducibly."""

from __future__ import annotations

from .predictor import Predictor

__all__ = ["warm_up"]

SIDE, RADIUS = 128, 50


def warm_up(predictor: Predictor) -> bool:
    """Predict a gray disc with a bright spot twice, through the whole intake.

    Raises:
        RuntimeError: when the predictions differ.
    """
    import numpy as np

    from .arrays import as_file

    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = np.hypot(rows, columns)
    disc = np.where(distance < RADIUS, 90 + 20 * np.cos(distance / 4), 0)
    disc[np.hypot(rows - 15, columns + 20) < 9] = 220
    files = [as_file(disc)] * len(predictor.parts["modalities"])
    first, second = (predictor.predict(files)["result"] for _ in range(2))
    if first != second:
        raise RuntimeError("the weights give two predictions for the same image")
    return True
