"""What may be said about a folder of scans without a detected tumor: a bound on the share of tumors that are missed.

The bounds are fitted on predictions of scans that the weights were not trained on, see `evaluation/miss_rate.py`, and
are in the report beside the weights. A bound holds for scans of the population that it was fitted on, which a user has
to name, and which a two-sample test of the folder's probabilities must not contradict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.messages import NoTumorBound, bound_absent
from .decision import report_of

__all__ = ["LEAST_SCANS", "LEVEL", "NoTumorBounds", "Population", "bounds_of"]

LEAST_SCANS = 10  # of a folder: with fewer the test finds hardly any difference
LEVEL = 0.05  # of the test: so often it finds a difference where there is none

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Population:
    """Scans of one source and kind that bounds were fitted on.

    Args:
        kind: "image" or "volume".
        tumors: patients or clusters with a tumor, n of the bound.
        threshold: below this probability "no tumor" has the bound; None: there is none.
        needed: tumors from which on a bound is possible, if there are fewer; else None.
        probabilities: of all its scans, with a tumor and without, for the two-sample test.
    """

    kind: str
    tumors: int
    threshold: float | None
    needed: int | None
    probabilities: Sequence[float]

    def __post_init__(self) -> None:
        values = [*self.probabilities, *([] if self.threshold is None else [self.threshold])]
        if self.tumors < 0 or not all(0 <= value <= 1 for value in values):
            raise ValueError("a number of tumors or a probability is out of range")


@dataclass(frozen=True)
class NoTumorBounds:
    """The bounds of all populations.

    Args:
        miss_rate: largest share of tumors that get "no tumor" with the bound.
        confidence: with which this holds, over draws of the scans that it was fitted on.
        populations: by name of their source.
    """

    miss_rate: float
    confidence: float
    populations: Mapping[str, Population]

    def of_folder(self, population: str | None, results: Mapping[str, Result]) -> dict[str, NoTumorBound]:
        """What to say about each scan of a folder whose state is "no_tumor".

        Args:
            population: that the user names, if any.
            results: the predictions by scan.

        Returns:
            By scan with the state "no_tumor": the bound, or the reason why there is none.
        """
        known = self.populations.get(population or "")
        why = _absent("population_unknown") if known is None else self._against(known, results)
        found: dict[str, Any] = {}
        for scan, result in results.items():
            if result["state"] == "no_tumor":
                said = why or (self._of_scan(known, result) if known else {})
                found[scan] = {"population": population, **said}
        return found

    def _of_scan(self, known: Population, result: Result) -> dict[str, Any]:
        """The bound of a scan whose folder gets one, or why it has none; each reason makes misses rarer."""
        if result["kind"] != known.kind:
            return _absent("other_kind")
        if "out_of_distribution" in {flag["code"] for flag in result["flags"]}:
            return _absent("out_of_distribution")
        if known.threshold is None or result["tumor_probability"] >= known.threshold:
            return _absent("above_threshold")
        bound = {"miss_rate": self.miss_rate, "confidence": self.confidence}
        return {**bound, "n": known.tumors, "threshold": known.threshold}

    def _against(self, known: Population, results: Mapping[str, Result]) -> dict[str, Any]:
        """Why no scan of the folder gets a bound; empty if nothing is against it."""
        if known.threshold is None:
            return _absent("too_few_tumors", needed=known.needed) if known.needed else _absent("no_threshold")
        scans = [result for result in results.values() if result["kind"] == known.kind]
        probabilities = [scan["tumor_probability"] for scan in scans if scan["tumor_probability"] is not None]
        if len(probabilities) < LEAST_SCANS:
            return _absent("too_few_scans", needed=LEAST_SCANS)
        from scipy.stats import ks_2samp  # takes longer than the rest of a repeated `predict`

        p_value = float(ks_2samp(probabilities, known.probabilities).pvalue)
        return _absent("folder_differs", p_value=round(p_value, 6)) if p_value < LEVEL else {}


def _absent(code: str, **told: float) -> dict[str, Any]:
    return {"absent": bound_absent(code), **told}


def bounds_of(model_path: str | Path) -> NoTumorBounds | None:
    """The bounds in the report beside these weights; None if it has none.

    Raises:
        ValueError: when they are damaged.
    """
    stored = (report_of(model_path) or {}).get("no_tumor_bounds")
    if not stored:
        return None
    try:
        populations = {
            name: Population(**{key: value for key, value in fields.items() if key in Population.__annotations__})
            for name, fields in stored["populations"].items()
        }
        limits = np.array([stored["miss_rate"], stored["confidence"]], dtype=np.float64)
        if not ((limits > 0) & (limits < 1)).all():
            raise ValueError("a miss rate or a confidence is not between 0 and 1")
        return NoTumorBounds(float(limits[0]), float(limits[1]), populations)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{model_path}: the bounds on missed tumors in its report are damaged ({error}); fit them again"
        ) from None
