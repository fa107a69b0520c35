"""One record per stored slice, with its class; made when it is asked for, so that many volumes need little memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np

from ..core.tumor_types import UNKNOWN, require_types, type_of
from ..io.datalists import Case
from .case_counts import is_tumor_free, untold_types

__all__ = ["SliceRecords"]

Record = dict[str, Any]

logger = logging.getLogger(__name__)


class SliceRecords(Sequence[Record]):
    """The slices of cases, in order.

    A slice of a volume has class 1 from `min_tumor_pixels` on, class 0 at 0 pixels; in between, and without a mask, it
    has no class (NaN) and is not used for classification.

    A record has case, group, source, kind, position (in the store), index (in the volume), cls (1.0, 0.0 or NaN),
    has_mask, statistics (own mean and standard deviation), sha256 (of the case's image), phash (of a picture),
    tumor_free (a volume whose mask is empty), of_volume (a picture that is a slice of one), sequence (its, or None),
    skull (or stripped) and brain_statistics (mean and standard deviation of a volume's brain, or None). With types also
    tumor_type: the number of its tumor's type, -1 where it shows no tumor, or the data do not tell the type.

    Args:
        cases: of the store.
        min_tumor_pixels: pixels of 1 mm2.
        shuffled_labels: seed by which the images' labels are shuffled: a control.
        tumor_types: that the network tells apart, from `tumor_types.TUMOR_TYPES`; a warning names one that no case has.

    Raises:
        ValueError: for an unknown type.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        min_tumor_pixels: int,
        shuffled_labels: int | None = None,
        tumor_types: Sequence[str] = (),
    ) -> None:
        self.cases = list(cases) if shuffled_labels is None else _with_shuffled_labels(cases, shuffled_labels)
        self.min_tumor_pixels, self.tumor_types = min_tumor_pixels, tuple(tumor_types)
        require_types(tumor_types)
        if untold := untold_types(self.cases, tumor_types):
            logger.warning("no training case tells the tumor type %s, so it is not learned", untold[0])
        self.tumor_free = [is_tumor_free(case) for case in self.cases]
        self.ends = np.fromiter(accumulate(len(case["slices"]) for case in self.cases), dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"no slice {index} among {len(self)}")
        number = int(np.searchsorted(self.ends, place, side="right"))
        return self._record(number, place - int(self.ends[number - 1] if number else 0))

    def _record(self, number: int, position: int) -> Record:
        case = self.cases[number]
        tumor = int(case["tumor_pixels"][position]) if "tumor_pixels" in case else None
        record = {key: case[key] for key in ("source", "group", "kind")}
        record |= {"case": case["id"], "position": position, "index": int(case["slices"][position])}
        record |= {"has_mask": tumor is not None, "cls": self._class(case, tumor)}
        record |= {"sha256": case["sha256"]["image"], "phash": case.get("phash")}
        record |= {"tumor_free": self.tumor_free[number], "of_volume": "volume" in case}
        record |= {"sequence": case.get("sequence"), "skull": case.get("skull", True)}
        record |= {"statistics": case["own_statistics"][position], "brain_statistics": case.get("brain_statistics")}
        if self.tumor_types:
            record["tumor_type"] = type_of(case, self.tumor_types) if record["cls"] == 1.0 else UNKNOWN
        return record

    def _class(self, case: Case, tumor_pixels: int | None) -> float:
        if "cls" in case:
            return float(case["cls"])
        if tumor_pixels is None or 0 < tumor_pixels < self.min_tumor_pixels:
            return float("nan")
        return float(tumor_pixels > 0)


def _with_shuffled_labels(cases: Sequence[Case], seed: int) -> list[Case]:
    labels = [case["cls"] for case in cases if "cls" in case]
    shuffled = iter(np.random.default_rng(seed).permutation(labels).tolist())
    return [{**case, "cls": next(shuffled)} if "cls" in case else case for case in cases]
