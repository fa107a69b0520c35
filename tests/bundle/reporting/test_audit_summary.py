"""What the audits of all folds say together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from bundle.reporting.audit_summary import volumes_by_fold
from bundle.reporting.estimates import mean_of_folds
from scripts.core.statistics import ratio_of_folds


def audit(excess: float | None, fall: float | None) -> dict[str, Any]:
    """Of one patient of "brats" and some images; a patient without lesions has no fall."""
    aucs = {name: {"value": excess} for name in ("model", "area", "filled", "filled_excess", "rim", "rim_excess")}
    falls = {name: {"value": fall} for name in ("before", "after", "mean_fall", "share_that_falls")}
    erased = {"brats": {**falls, "mean_without_tumor": None}} if fall is not None else {}
    sources = {"brats": aucs, "kaggle": {name: {"value": 0.9} for name in aucs}}
    found = {"blanked": sources, "lesion_erased": erased, "cam": {"brats": {"energy_ratio": 3.0}}}
    return {part: {"values": {"sources": values}} for part, values in found.items()}


def test_every_fold_has_a_row_and_the_mean_is_of_audited_folds() -> None:
    found = volumes_by_fold({0: audit(-0.2, 0.5), 1: audit(None, 0.7), 2: audit(0.1, None)}, ["brats"])
    assert [(row["fold"], row["source"]) for row in found["folds"]] == [(0, "brats"), (1, "brats"), (2, "brats")]
    assert [row["energy_ratio"] for row in found["folds"]] == [3.0, 3.0, 3.0]
    excess, fall = found["mean"]["filled_excess"], found["mean"]["mean_fall"]
    assert (excess["value"], excess["n"]) == (pytest.approx(-0.05), 2)
    assert excess["ci95"] == [-0.5, 0.5], "two folds tell nearly nothing, and the distance of an AUC is at most 0.5"
    assert (fall["value"], fall["n"]) == (pytest.approx(0.6), 2)
    assert found["mean"]["without"] == {"value": None, "ci95": None, "n": 0}


@given(st.lists(st.none() | st.floats(-1, 1), max_size=8))
def test_a_mean_of_folds_has_students_t_interval(values: list[float | None]) -> None:
    found, known = mean_of_folds(values), [value for value in values if value is not None]
    assert found["n"] == len(known) and (found["ci95"] is not None) == (len(known) > 1)
    if found["ci95"] is not None:
        margin = t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / np.sqrt(len(known))
        assert found["ci95"] == pytest.approx([found["value"] - margin, found["value"] + margin], abs=1e-9)


def test_a_ratio_of_folds_is_weighted_and_has_a_jackknife_interval() -> None:
    ratio, interval = ratio_of_folds([2.0, 6.0, 1.0], [1.0, 2.0, 1.0])
    assert ratio == pytest.approx(9 / 4)
    without = np.array([7 / 3, 3 / 2, 8 / 3])
    error = np.sqrt(2 / 3 * ((without - without.mean()) ** 2).sum())
    assert interval == pytest.approx([9 / 4 - t.ppf(0.975, 2) * error, 9 / 4 + t.ppf(0.975, 2) * error])
    assert ratio_of_folds([2.0], [4.0]) == (0.5, None) and ratio_of_folds([], []) == (None, None)
