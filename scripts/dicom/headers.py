"""Headers of DICOM files: attributes of a frame, the sequence, and why a file is not a scan of a head.

Reference: DICOM PS3.3, C.7.3.1.1.1 (modality), C.8.3.1 (MR image), C.8.13.5 (its times in an enhanced object), C.7.6.16
(functional groups).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.filenames import sequence_in_text

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["DicomError", "attribute_of", "echo_of", "image_type_of", "numbers_of", "sequence_of_headers", "why_no_scan"]

READ = ("MR", "OT", "SC", "")  # magnetic resonance; other and secondary capture may hold anything
TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName")  # the first that tells counts
LOCALIZER = re.compile(
    r"locali[sz]er|scout|survey|topogram|(?:^|[\W_])(?:loc|3[ _-]?pl(?:ane)?)(?:$|[\W_])", re.IGNORECASE
)
SIEMENS, IN_MOSAIC = (0x0019, 0x0010), (0x0019, 0x100A)  # who made a private block, and how many slices it tiles
LONG_INVERSION, LONG_ECHO, SHORT_ECHO = 1500.0, 70.0, 30.0  # ms, between the sequences of any field strength
LONG_REPETITION, SHORT_REPETITION = 2000.0, 1200.0
TIMES = {  # the macro and keyword of an enhanced object, by the keyword of a classic one
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
}


class DicomError(ValueError):
    """A DICOM file that cannot be used; the message is the reason alone, `code` its kind in one word."""

    def __init__(self, reason: str, code: str = "header") -> None:
        super().__init__(reason)
        self.code = code


def why_no_scan(dataset: Dataset) -> str | None:
    """Why a file is not a slice of a head's MRI by its header, in words; None if it is or may be."""
    modality = str(dataset.get("Modality", "") or "").strip().upper()
    if modality not in READ:
        return f"is no MR: its Modality is {modality[:16]}"
    if dataset.get("SamplesPerPixel", 1) != 1 or "MONOCHROME" not in str(dataset.get("PhotometricInterpretation")):
        return "colors are not supported"
    if "MOSAIC" in image_type_of(dataset) or _is_tiled(dataset):
        return "is a mosaic: its slices are tiled in one picture; export them as single slices or as enhanced MR"
    described = next((text for name in TEXTS[:2] if (text := str(dataset.get(name, "") or "").strip())), "")
    if "LOCALIZER" in image_type_of(dataset) or LOCALIZER.search(described):
        return "is a localizer"
    return None


def _is_tiled(dataset: Dataset) -> bool:
    if not str(dataset.get_item(SIEMENS).value if SIEMENS in dataset else "").strip(" b'").startswith("SIEMENS"):
        return False
    return IN_MOSAIC in dataset and _number(dataset[IN_MOSAIC].value) > 1


def image_type_of(dataset: Dataset) -> tuple[str, ...]:
    """Values of ImageType in capitals: ORIGINAL or DERIVED, PRIMARY or SECONDARY, and what the scanner adds."""
    value = dataset.get("ImageType") or dataset.get("FrameType") or ()
    return tuple(str(part).upper() for part in ([value] if isinstance(value, str) else value))


def sequence_of_headers(dataset: Dataset) -> str | None:
    """Sequence of one file of a series: by its description, or else by its times.

    Args:
        dataset: headers, of a classic or an enhanced object.

    Returns:
        flair, t1, t1ce, t2, other (a map, diffusion, a localizer), or None if unknown.
    """
    told = next((kind for text in TEXTS if (kind := sequence_in_text(str(dataset.get(text, "") or "")))), None)
    told = told or _by_times(*(_number(_time(dataset, keyword)) for keyword in TIMES))
    return "t1ce" if told == "t1" and _is_enhanced_by_contrast(dataset) else told


def _is_enhanced_by_contrast(dataset: Dataset) -> bool:
    agent = str(dataset.get("ContrastBolusAgent", "") or "").strip().lower()
    return bool(dataset.get("ContrastBolusAgentSequence")) or agent not in ("", "none", "no", "no contrast", "n")


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


def _time(dataset: Dataset, keyword: str, frame: int = 0) -> Any:
    value = attribute_of(dataset, frame, *TIMES[keyword])
    value = dataset.get(keyword) if value is None else value
    return value if isinstance(value, (str, int, float)) or value is None else next(iter(value), None)


def echo_of(dataset: Dataset, frame: int = 0) -> float:
    """Echo time of a frame in ms; 0 if it is unknown."""
    return _number(_time(dataset, "EchoTime", frame))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def numbers_of(dataset: Dataset, frame: int, macro: str, keyword: str, count: int) -> tuple[float, ...] | None:
    """A frame's value of an attribute as finite numbers; None if it is absent.

    Raises:
        DicomError: when the numbers are not finite, or not as many as expected.
    """
    value = attribute_of(dataset, frame, macro, keyword)
    if value is None or value == "":
        return None
    try:
        numbers = tuple(float(number) for number in (value if count > 1 else [value]))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise DicomError(f"its {keyword} is not {count} finite number{'s' if count > 1 else ''}")
    return numbers


def attribute_of(dataset: Dataset, frame: int, macro: str, keyword: str) -> Any:
    """An attribute of a frame from its own functional group, the shared one, or the file itself."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in [*own[frame : frame + 1], *shared[:1]]:
        items = group.get(macro)
        if items and keyword in items[0]:
            return items[0].get(keyword)
    return dataset.get(keyword)
