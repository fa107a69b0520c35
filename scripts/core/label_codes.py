"""The codes of a mask that mean tumor and its regions: by data set and year, or given by the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .regions import WHOLE_TUMOR

__all__ = [
    "LABEL_SETS",
    "LabelError",
    "LabelSet",
    "codes_in",
    "label_set_of",
    "region_codes_of",
    "regions_of",
    "tumor_codes_of",
    "tumor_of",
    "whole_tumor",
]

EXACT = 1e-3  # largest rounding error of a code in a scaled file
SHARE_AT_THE_PEAK = 0.2  # of a gray mask's pixels above zero, at least this share is near white
MOST_CODES = 16  # a file with more values is a gray image, not a mask
CAVITY = "resection cavity"


class LabelError(ValueError):
    """A mask whose values cannot be mapped to tumor and background; the message is the reason."""


@dataclass(frozen=True)
class LabelSet:
    """The codes of one data set.

    Args:
        name: of the data set.
        cases: pattern of the names of its cases.
        tumor: codes of the whole tumor.
        other: codes of other structures, with their meaning.
        core: codes of the tumor core.
        enhancing: codes of the enhancing tumor.
    """

    name: str
    cases: str
    tumor: tuple[int, ...]
    other: Mapping[int, str] = field(default_factory=dict)
    core: tuple[int, ...] = (1, 3)
    enhancing: tuple[int, ...] = (3,)


# The first match counts.
LABEL_SETS = (
    LabelSet("BraTS 2023 to 2025, glioma", r"BraTS-GLI-.*", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2023 to 2025, metastases", r"BraTS-METS?-.*", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2023 to 2025, pediatric", r"BraTS-PED-.*", (1, 2, 3, 4), core=(1, 2, 3), enhancing=(1,)),
    LabelSet("BraTS 2023 to 2025, meningioma, Africa and GoAT", r"BraTS-(?:MEN|SSA|GoAT)-.*", (1, 2, 3)),
    LabelSet("MU-Glioma-Post", r"PatientID_\d+_Timepoint_\d+", (1, 2, 3), {4: CAVITY}),
    LabelSet("UCSF-ALPTDG", r"\d{6}_time\d", (1, 2, 3), {4: CAVITY}),
    LabelSet("BraTS 2012 to 2015", r"brats.*2013.*|VSD\..*", (1, 2, 3, 4), core=(1, 3, 4), enhancing=(4,)),
    LabelSet("BraTS 2017 to 2021", r"BraTS(?:17|18|19|20|2021)_.*", (1, 2, 4), core=(1, 4), enhancing=(4,)),
    LabelSet("UCSF-PDGM and UPENN-GBM", r"(?:UCSF-PDGM|UPENN-GBM)-.*", (1, 2, 4), core=(1, 4), enhancing=(4,)),
)
UNKNOWN_SET = LabelSet("as BraTS 2017 to 2021", "", (1, 2, 4), core=(1, 4), enhancing=(4,))  # if it has a code 4


def label_set_of(case: str) -> LabelSet | None:
    """The label set of a case by its name; None for an unknown data set.

    >>> label_set_of("BraTS-GLI-00005-100").other, label_set_of("CASE_001")
    ({4: 'resection cavity'}, None)
    """
    return next((known for known in LABEL_SETS if re.fullmatch(known.cases, case, re.IGNORECASE)), None)


def tumor_codes_of(labels: Mapping[str, Any]) -> list[int]:
    """Codes of the whole tumor from the `labels` of an nnU-Net or Decathlon dataset.json (code: name, or name: code).

    >>> tumor_codes_of({"background": 0, "edema": 1, "resection cavity": 2, "whole tumor": [1, 3]})
    [1, 3]
    """
    no_tumor = re.compile(r"background|cavity|resection|brain|ventric|ignore|unlabel", re.IGNORECASE)
    return sorted({code for name, codes in _described(labels) if not no_tumor.search(name) for code in codes})


def region_codes_of(labels: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """Codes of tumor core and enhancing tumor from the same `labels`; None where they name no enhancing tumor.

    >>> region_codes_of({"background": 0, "edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3})
    {'tc': [2, 3], 'et': [3]}
    """
    named = list(_described(labels))
    enhancing = {
        code for name, codes in named if re.search(r"^(?!.*non).*enhanc", name, re.IGNORECASE) for code in codes
    }
    core = {code for name, codes in named if re.search("core|necro|enhanc|cyst", name, re.IGNORECASE) for code in codes}
    return {"tc": sorted(core), "et": sorted(enhancing)} if enhancing else None


def _described(labels: Mapping[str, Any]) -> Iterator[tuple[str, list[int]]]:
    """Names of the `labels` of a dataset.json, and their codes."""
    for one, other in labels.items():
        name, codes = (other, one) if str(one).isdigit() else (one, other)
        several = isinstance(codes, Sequence) and not isinstance(codes, str)
        yield str(name), [int(code) for code in (codes if several else [codes]) if int(code) > 0]


def codes_in(values: np.ndarray) -> dict[int, int]:
    """Voxels of each whole number above zero in a mask."""
    rounded = np.rint(values)
    found, counts = np.unique(rounded[(np.abs(values - rounded) < EXACT) & (rounded != 0)], return_counts=True)
    return {int(code): int(count) for code, count in zip(found, counts, strict=True)}


def whole_tumor(values: np.ndarray, case: str = "", codes: Sequence[int] | None = None) -> np.ndarray:
    """Map a mask's values to whole tumor and background.

    Args:
        values: of a mask, any shape; 0 is background.
        case: name of the case, which identifies the data set and its codes.
        codes: of the whole tumor, if the user or the data set's description names them.

    Returns:
        Boolean, of the same shape. An interpolated mask of one code is thresholded at half of the code.

    Raises:
        LabelError: when values are between several codes, a code is unknown, or an unknown data set has both 3 and 4,
            one of which may not be tumor.
    """
    odd = np.abs(values - np.rint(values)) >= EXACT
    found = codes_in(values)
    gray = len(found) > MOST_CODES or (codes is None and len(found) > 1 and max(found) == 255)
    if odd.any() or gray or values.min(initial=0) < 0:
        return _interpolated(values, odd if odd.any() else ~np.isin(values, (0, 255)))
    if codes is None and set(found) == {255}:  # white of an image
        return np.asarray(values > 0)
    known = label_set_of(case)
    if codes is not None:
        return np.asarray(np.isin(np.rint(values), list(codes)))
    if known is None:
        if {3, 4} <= found.keys():
            raise LabelError(
                "contains the codes 3 and 4; 4 is a resection cavity since BraTS 2024 and enhancing tumor before;"
                " name the codes of the tumor: --labels 1,2,3 or --labels 1,2,3,4"
            )
        return np.asarray(values > 0)
    if strange := sorted(found.keys() - {*known.tumor, *known.other}):
        raise LabelError(
            f"contains the code {strange[0]}, which {known.name} does not have; name the codes of the tumor: --labels"
        )
    return np.asarray(np.isin(np.rint(values), known.tumor))


def tumor_of(values: np.ndarray, case: Mapping[Any, Any]) -> np.ndarray:
    """Whole tumor (boolean) of the mask of a case, by its `id` and `tumor_codes`.

    Raises:
        LabelError: naming the file; see `whole_tumor`.
    """
    try:
        return whole_tumor(values, str(case.get("id", "")).partition("/")[2], case.get("tumor_codes"))
    except LabelError as error:
        label = case.get("label")
        told = label if isinstance(label, str) else getattr(label, "meta", {}).get("filename_or_obj")
        raise LabelError(f"{told or case.get('id', 'the mask')}: {error}") from None


def regions_of(values: np.ndarray, case: Mapping[Any, Any], regions: Sequence[str] = WHOLE_TUMOR) -> np.ndarray:
    """Masks of the regions of a case's mask.

    Args:
        values: of the mask, any shape.
        case: "id", "tumor_codes" and "region_codes", if its data set's description names them.
        regions: names, from `regions.REGIONS`.

    Returns:
        Boolean (R, ...), or (1, ...) of the whole tumor alone where the codes do not tell the others: of a mask with
        one code only, with codes that the user named, or of an unknown data set without a code 4.

    Raises:
        LabelError: see `tumor_of`.
    """
    whole = tumor_of(values, case)
    if len(regions) == 1 or not whole.any():
        return np.repeat(whole[None], len(regions), axis=0)
    inner = _inner_codes(codes_in(values), case)
    within = [whole & np.isin(np.rint(values), inner[name]) for name in regions[1:]] if inner else []
    return np.stack([whole, *within])


def _inner_codes(found: Mapping[int, int], case: Mapping[Any, Any]) -> Mapping[str, Sequence[int]] | None:
    """Codes of the regions within the whole tumor, None where they are not known."""
    if len(found) == 1 or ("tumor_codes" in case and "region_codes" not in case):
        return None
    known = label_set_of(str(case.get("id", "")).partition("/")[2]) or (UNKNOWN_SET if 4 in found else None)
    told = {"tc": known.core, "et": known.enhancing} if known and found.keys() <= {*known.tumor, *known.other} else None
    return case.get("region_codes", told)


def _interpolated(values: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Threshold an interpolated mask of one code at half of the code.

    The code is 1, or 255 in an image; splines may overshoot by a quarter. Several codes cannot be separated.
    """
    highest, above = float(values.max(initial=0)), values > EXACT
    full = 1.0 if highest <= 1.3 else 255.0
    peak = float((np.abs(values - full) <= full / 4).sum() / max(1, int(above.sum())))
    if full == 255.0 and (peak < SHARE_AT_THE_PEAK or highest > 330):
        raise LabelError(
            f"{(odd & above).sum() / max(1, int(above.sum())):.0%} of its marked voxels have values between the codes: "
            "it was resampled with interpolation; resample the original mask by nearest neighbor"
        )
    return np.asarray(values >= full / 2)
