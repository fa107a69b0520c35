"""The prediction as a one-page PDF."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from .. import NOTICE
from ..core import messages, weights_report
from ..pictures.views import sizes_of, types_of

__all__ = ["sheet"]

FIXED = {
    "CreationDate": None,
    "ModDate": None,
    "Producer": None,
    "Creator": None,
}  # the same prediction gives the same bytes


def sheet(result: Mapping[str, Any], image: Image.Image, limits: Sequence[str], index: int | None, date: str) -> bytes:
    """Make a one-page PDF, A4.

    Args:
        result: of the scan, with "input" and "input_sha256", name and hash of its file.
        image: the displayed slice with its overlays.
        limits: sentences, see `limitations`.
        index: of the slice of a volume.
        date: when the page is made.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.27, 11.69), facecolor="white")
    title, sentence = messages.STATES[result["state"]]
    figure.text(0.08, 0.95, title, fontsize=22, weight="bold", va="top")
    figure.text(0.08, 0.915, sentence, fontsize=10, va="top")
    figure.text(0.08, 0.89, NOTICE, fontsize=10, weight="bold", color="#a40000", va="top")
    axes = figure.add_axes((0.08, 0.45, 0.84, 0.42))
    axes.imshow(image)
    axes.set_axis_off()
    probability, masked = result["tumor_probability"], "segmentation" in weights_report.learned_of(result["model"])
    facts = {
        "file": textwrap.shorten(result["input"], 90, placeholder=" ..."),
        "its SHA-256": result["input_sha256"],
        "slice": "the only one"
        if result["kind"] == "image"
        else f"{index} of 0 to {len(result['slice_probabilities']) - 1}",
        "probability": "none" if probability is None else f"{probability:.2f}",
        "operating point": f"{result['threshold']:.2f}",
        "mask": sizes_of(result) or ("size unknown: no pixel spacing in the file" if masked else "none"),
        **({"type among tumors": f"{', '.join(types)}; not a diagnosis"} if (types := types_of(result)) else {}),
        "weights": f"bundle {result['model']['version']}, {result['model']['report']['text']}",
        "their SHA-256": result["model"]["sha256"],
        "date": date,
    }
    for row, (name, value) in enumerate(facts.items()):
        figure.text(0.08, 0.425 - 0.018 * row, name, fontsize=9, color="#555555")
        figure.text(0.26, 0.425 - 0.018 * row, str(value), fontsize=9)
    lines = [line for limit in limits for line in textwrap.wrap(f"- {limit}", 105, subsequent_indent="  ")]
    figure.text(0.08, 0.255, "Limitations", fontsize=12, weight="bold", va="top")
    figure.text(0.08, 0.233, "\n".join(lines[:14]), fontsize=8.5, va="top", linespacing=1.4)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata=FIXED)
    return buffer.getvalue()
