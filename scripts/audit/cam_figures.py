"""Figures of class activation maps over their images, worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from ..core.files import write_atomic
from ..evaluation.overlays import REFERENCE
from .cam_metrics import Look

__all__ = ["draw_cams"]

matplotlib.use("Agg")

COLORS, OPACITY = "inferno", 0.7  # brightness rises with the value: safe for color blindness and in gray
LEGEND = "color: HiResCAM of 'tumor', as a share of its maximum    teal: reference    research use only"
LABELS = {1.0: "tumor", 0.0: "no tumor"}


def draw_cams(looks: Sequence[Look], path: str | Path, headline: str, columns: int = 6) -> None:
    """Draw CAMs over their images into one PNG.

    Args:
        looks: one per tile, in this order; the first channel of an image is shown.
        path: of the figure.
        headline: its title.
        columns: tiles in a row, at least 3, for the legend.
    """
    columns = max(3, min(columns, len(looks)))
    rows = -(-len(looks) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.5, 2.75 * rows + 0.8), facecolor="black", layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, look in zip(axes.flat, looks, strict=False):
        image = look.item["image"][0].numpy()
        tissue = image[look.head] if look.head.any() else image
        low, high = np.percentile(tissue, (0.5, 99.5))
        axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-3), interpolation="nearest")
        axis.imshow(look.cam, cmap=COLORS, vmin=0.0, vmax=1.0, alpha=OPACITY * look.cam)
        if look.mask is not None and look.mask.any():
            axis.contour(look.mask, levels=[0.5], colors=REFERENCE, linewidths=1.4)
        axis.set_title(_title(look), color="white", fontsize=8)
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), ax=axes, shrink=min(1.0, 1.6 / rows), aspect=25, pad=0.01)
    bar.set_ticks([0.0, 1.0], labels=["0", "max"], color="white", fontsize=8)
    figure.suptitle(headline, color="white", fontsize=10)
    figure.supxlabel(LEGEND, color="white", fontsize=8)
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=110, facecolor="black"))


def _title(look: Look) -> str:
    """Case, label, probability, and share of the CAM outside the head."""
    row = look.row()
    place = f"  slice {row['index']}" if look.mask is not None else ""
    outside = "no map" if math.isnan(row["outside_brain"]) else f"{row['outside_brain']:.0%} outside"
    label = LABELS.get(row["cls"], "no label")
    return f"{row['case'].split('/')[-1][-24:]}{place}\n{label}  p={look.probability:.2f}  {outside}"
