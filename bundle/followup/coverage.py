"""How often the band of `compare` covers a known change: pairs of phantoms, moved, with other noise, and grown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from ..datasets.phantoms import write_volumes
from .compare import ALIKE, compare
from .phantom_pairs import write_date

if TYPE_CHECKING:
    from ..predictor import Predictor

__all__ = ["END", "GROWTHS", "START", "measure", "table", "write_table"]

GROWTHS = (1.0, 0.5, 2.0)  # factors of the tumor's volume
SLICES, SIDE, SPACING_MM, THICK, REPEATS = 64, 160, 2.0, 4, 6  # phantoms of thin slices, scans of 8 mm
START, END = "<!-- coverage: written by `python -m bundle.followup` -->", "<!-- end of coverage -->"
HEAD = [
    "| tumor | pairs | true change | said | no wrong direction | band covers the true change | band | scans fit |",
    "|---|---|---|---|---|---|---|---|",
]


def measure(predictor: Predictor, pairs: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Compare pairs of phantoms with a known change.

    Args:
        predictor: the loaded network.
        pairs: for each of `GROWTHS`.
        seed: of the phantoms, movements and noise.

    Yields:
        One row for each pair: "growth", "true_ml" (change of the true tumor), "first_ml" (true volume of the first),
        "change_ml", "band_ml", "shown", "correlation" (after the registration).
    """
    with TemporaryDirectory() as place:
        options: dict[str, Any] = {"slices": SLICES, "side": SIDE, "spacing_mm": SPACING_MM, "seed": seed}
        for index, folder in enumerate(write_volumes(Path(place), pairs * len(GROWTHS), **options)):
            growth = GROWTHS[index % len(GROWTHS)]
            scan, mask = next(folder.glob("*_flair.nii.gz")), next(folder.glob("*_seg.nii.gz"))
            first, later = folder / "first_flair.nii.gz", folder / "later_flair.nii.gz"
            write_date(scan, mask, first, seed=2 * index, moved=False, thick=THICK)
            true_ml, _ = write_date(scan, mask, later, growth, seed=2 * index + 1, thick=THICK)
            found = compare(predictor, first, later, folder / "compared", REPEATS, seed=index)
            yield {
                "growth": growth,
                "first_ml": round(_voxels(mask) * SPACING_MM / 1000, 4),
                "true_ml": round(true_ml, 4),
                **{name: found[name] for name in ("change_ml", "band_ml", "shown")},
                "correlation": found["registration"]["correlation"],
            }


def _voxels(mask: Path) -> float:
    """Voxels of the tumor in a mask, of 1 mm in the plane."""
    return float((np.asarray(nib.Nifti1Image.from_filename(mask).dataobj) > 0).sum())


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `measure` in Markdown, a line for each growth.

    >>> row = {"growth": 1.0, "true_ml": 0.1, "change_ml": 0.5, "band_ml": 2.0, "shown": "no change shown"}
    >>> table([row | {"correlation": 0.9}]).splitlines()[2]
    '| x 1.0 | 1 | +0.1 ml | 1 no change shown | 1 of 1 | 1 of 1 | 2.0 ml | 1 of 1 |'
    """
    lines = list(HEAD)
    for growth in sorted({row["growth"] for row in rows}):
        chosen = [row for row in rows if row["growth"] == growth]
        wrong = [text for text, holds in (("growth shown", growth <= 1), ("shrinkage shown", growth >= 1)) if holds]
        said = [row["shown"] for row in chosen]
        words = ", ".join(f"{said.count(text)} {text}" for text in sorted(set(said)))
        right = sum(text not in wrong for text in said)
        covered = sum(abs(row["change_ml"] - row["true_ml"]) <= row["band_ml"] for row in chosen)
        true_ml, band_ml = (float(np.median([row[name] for row in chosen])) for name in ("true_ml", "band_ml"))
        n, fit = len(chosen), sum(row["correlation"] >= ALIKE for row in chosen)
        cells = (f"x {growth}", n, f"{true_ml:+.1f} ml", words, f"{right} of {n}", f"{covered} of {n}")
        lines.append(f"| {' | '.join(map(str, cells))} | {band_ml:.1f} ml | {fit} of {n} |")
    return "\n".join(lines) + "\n"


def write_table(page: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the table between the markers of a page.

    Raises:
        ValueError: when a marker is missing.
    """
    before, start, rest = page.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{page}: add the lines {START} and {END}")
    page.write_text(f"{before}{START}\n{table(rows)}{END}{after}")
