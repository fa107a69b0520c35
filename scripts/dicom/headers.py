"""Sequence and modality of a DICOM series, from its headers.

Reference: DICOM PS3.3, C.7.3.1.1.1 (modality), C.8.3.1 (MR image).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.filenames import sequence_in_text

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["not_mr", "sequence_of_headers"]

READ = ("MR", "OT", "SC", "")  # magnetic resonance; other and secondary capture may hold anything
TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName")  # the first that tells counts
LONG_INVERSION, LONG_ECHO, SHORT_ECHO = 1500.0, 70.0, 30.0  # ms, between the sequences of any field strength
LONG_REPETITION, SHORT_REPETITION = 2000.0, 1200.0


def not_mr(dataset: Dataset) -> str | None:
    """Why a series is not MR by its header, in words; None if it is or may be."""
    modality = str(dataset.get("Modality", "") or "").strip().upper()
    return None if modality in READ else f"is no MR: its Modality is {modality[:16]}"


def sequence_of_headers(dataset: Dataset) -> str | None:
    """Sequence of one file of a series: by its description, or else by its times.

    Args:
        dataset: headers.

    Returns:
        flair, t1, t1ce, t2, other (a map, diffusion, a localizer), or None if unknown.
    """
    told = next((kind for text in TEXTS if (kind := sequence_in_text(str(dataset.get(text, "") or "")))), None)
    told = told or _by_times(*(_number(dataset, name) for name in ("RepetitionTime", "EchoTime", "InversionTime")))
    return "t1ce" if told == "t1" and str(dataset.get("ContrastBolusAgent", "") or "").strip() else told


def _by_times(repetition: float, echo: float, inversion: float) -> str | None:
    """Sequence by its times in ms; 0 for an unknown time.

    >>> _by_times(9000, 120, 2500), _by_times(550, 14, 0), _by_times(4000, 100, 0), _by_times(2000, 40, 0)
    ('flair', 't1', 't2', None)
    """
    if inversion >= LONG_INVERSION and echo >= LONG_ECHO:
        return "flair"
    if 0 < echo <= SHORT_ECHO and (0 < repetition <= SHORT_REPETITION or 0 < inversion < LONG_INVERSION):
        return "t1"
    return "t2" if not inversion and echo >= LONG_ECHO and repetition >= LONG_REPETITION else None


def _number(dataset: Dataset, keyword: str) -> float:
    value: Any = dataset.get(keyword)
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
