"""Which codes of a mask are tumor: by data set and year, by the user's word, and never by "above zero" alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "LABEL_SETS",
    "LabelError",
    "LabelSet",
    "codes_in",
    "label_set_of",
    "tumor_codes_of",
    "tumor_of",
    "whole_tumor",
]

EXACT = 1e-3  # a code that a scaled file holds is off by less
SHARE_AT_THE_PEAK = 0.2  # of a grey mask's pixels above zero so many at least are near its white
MOST_CODES = 16  # more are grey levels of a picture, or no mask
CAVITY = "resection cavity"


class LabelError(ValueError):
    """A mask whose values cannot be told into tumor and not; the message is the reason."""


@dataclass(frozen=True)
class LabelSet:
    """The codes of one data set.

    Args:
        name: as people call it.
        cases: matches the names of its cases.
        tumor: codes of the whole tumor.
        other: codes of what is drawn and is no tumor, with their meaning.
    """

    name: str
    cases: str
    tumor: tuple[int, ...]
    other: Mapping[int, str] = field(default_factory=dict)


# Of two that match the first counts.
LABEL_SETS = (
    LabelSet("BraTS 2023 to 2025, glioma", r"BraTS-GLI-.*", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2023 to 2025, metastases", r"BraTS-METS?-.*", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2023 to 2025, pediatric", r"BraTS-PED-.*", (1, 2, 3, 4)),
    LabelSet("BraTS 2023 to 2025, meningioma, Africa and GoAT", r"BraTS-(?:MEN|SSA|GoAT)-.*", (1, 2, 3)),
    LabelSet("MU-Glioma-Post", r"PatientID_\d+_Timepoint_\d+", (1, 2, 3), {4: CAVITY}),
    LabelSet("UCSF-ALPTDG", r"\d{6}_time\d", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2012 to 2015", r"brats.*2013.*|VSD\..*", (1, 2, 3, 4)),
    LabelSet("BraTS 2017 to 2021", r"BraTS(?:17|18|19|20|2021)_.*", (1, 2, 4)),
    LabelSet("UCSF-PDGM and UPENN-GBM", r"(?:UCSF-PDGM|UPENN-GBM)-.*", (1, 2, 4)),
)


def label_set_of(case: str) -> LabelSet | None:
    """The label set of a case by its name; None where no data set is known by it.

    >>> label_set_of("BraTS-GLI-00005-100").other, label_set_of("CASE_001")
    ({4: 'resection cavity'}, None)
    """
    return next((known for known in LABEL_SETS if re.fullmatch(known.cases, case, re.IGNORECASE)), None)


def tumor_codes_of(labels: Mapping[str, Any]) -> list[int]:
    """Codes of the whole tumor by the `labels` of nnU-Net's or the Decathlon's dataset.json, either way around.

    >>> tumor_codes_of({"background": 0, "edema": 1, "resection cavity": 2, "whole tumor": [1, 3]})
    [1, 3]
    """
    pairs = [(str(code), name) if str(name).isdigit() else (str(name), code) for name, code in labels.items()]
    no_tumor = re.compile(r"background|cavity|resection|brain|ventric|ignore|unlabel", re.IGNORECASE)
    codes = [code for name, code in pairs if not no_tumor.search(name)]
    flat = [
        int(c) for code in codes for c in (code if isinstance(code, Sequence) and not isinstance(code, str) else [code])
    ]
    return sorted({code for code in flat if code > 0})


def codes_in(values: np.ndarray) -> dict[int, int]:
    """Voxels of each whole number above zero in a mask."""
    rounded = np.rint(values)
    found, counts = np.unique(rounded[(np.abs(values - rounded) < EXACT) & (rounded != 0)], return_counts=True)
    return {int(code): int(count) for code, count in zip(found, counts, strict=True)}


def whole_tumor(values: np.ndarray, case: str = "", codes: Sequence[int] | None = None) -> np.ndarray:
    """Tell a mask's values into tumor and not.

    Args:
        values: of a mask, any shape; 0 is background.
        case: name of the case, which tells the data set and so the codes.
        codes: of the whole tumor, where the user or a data set's description names them.

    Returns:
        Boolean, of the same shape. An interpolated mask of one code is cut at one half of it.

    Raises:
        LabelError: when values lie between several codes, a code is not known, or an unknown data set holds both 3 and
            4, of which either may be no tumor.
    """
    odd = np.abs(values - np.rint(values)) >= EXACT
    found = codes_in(values)
    grey = len(found) > MOST_CODES or (codes is None and len(found) > 1 and max(found) == 255)
    if odd.any() or grey or values.min(initial=0) < 0:
        return _interpolated(values, odd if odd.any() else ~np.isin(values, (0, 255)))
    if codes is None and set(found) == {255}:  # a picture's white
        return np.asarray(values > 0)
    known = label_set_of(case)
    if codes is not None:
        return np.asarray(np.isin(np.rint(values), list(codes)))
    if known is None:
        if {3, 4} <= found.keys():
            raise LabelError(
                "holds the codes 3 and 4, of which 4 is a resection cavity since BraTS 2024 and enhancing tumor before;"
                " say which are tumor: --labels 1,2,3 or --labels 1,2,3,4"
            )
        return np.asarray(values > 0)
    if strange := sorted(found.keys() - {*known.tumor, *known.other}):
        raise LabelError(
            f"holds the code {strange[0]}, which {known.name} does not have; say which are tumor: --labels"
        )
    return np.asarray(np.isin(np.rint(values), known.tumor))


def tumor_of(values: np.ndarray, case: Mapping[Any, Any]) -> np.ndarray:
    """Whole tumor (boolean) of the mask of a case, whose `id`, `tumor_codes` and `label` tell what they can.

    Raises:
        LabelError: naming the file; see `whole_tumor`.
    """
    try:
        return whole_tumor(values, str(case.get("id", "")).partition("/")[2], case.get("tumor_codes"))
    except LabelError as error:
        label = case.get("label")
        told = label if isinstance(label, str) else getattr(label, "meta", {}).get("filename_or_obj")
        raise LabelError(f"{told or case.get('id', 'the mask')}: {error}") from None


def _interpolated(values: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Cut a mask of one code, which was resampled with interpolation, at one half of the code.

    The code is 1 or a picture's 255; splines may pass it and 0 by a quarter. Between several codes nothing can be told.
    """
    highest, above = float(values.max(initial=0)), values > EXACT
    full = 1.0 if highest <= 1.3 else 255.0
    peak = float((np.abs(values - full) <= full / 4).sum() / max(1, int(above.sum())))
    if full == 255.0 and (peak < SHARE_AT_THE_PEAK or highest > 330):
        raise LabelError(
            f"{(odd & above).sum() / max(1, int(above.sum())):.0%} of the voxels that it marks hold values between its "
            "codes: it was resampled with interpolation; resample the original mask by nearest neighbor"
        )
    return np.asarray(values >= full / 2)
