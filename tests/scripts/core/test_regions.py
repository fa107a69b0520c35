from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.core.label_codes import regions_of
from scripts.core.regions import REGIONS, as_labels, codes_of, require_regions


@given(st.lists(st.booleans(), min_size=12, max_size=12), st.sampled_from([["wt"], ["wt", "tc"], ["wt", "tc", "et"]]))
def test_predicted_codes_hold_nested_regions(bits: list[bool], regions: list[str]) -> None:
    masks = np.array(bits).reshape(3, 4)[: len(regions)]
    labels = as_labels(masks, regions)
    found = [np.isin(labels, held) for held in codes_of(regions).values()]
    assert np.array_equal(found[0], masks[0])
    for outer, inner, mask in zip(found, found[1:], masks[1:], strict=False):
        assert np.array_equal(inner, mask & outer), "what lies outside is left out"
    if len(regions) == 3:
        assert regions_of(labels, {"id": "a/BraTS20_Training_1"}, regions).sum() in (found[0].sum(), np.sum(found))


def test_the_whole_tumor_alone_keeps_its_codes() -> None:
    mask = np.array([[True, False]])
    assert as_labels(mask, ["wt"]).tolist() == [1, 0], "of a network of one region"
    assert as_labels(mask, list(REGIONS)).tolist() == [2, 0], "of one of three: no core"


@pytest.mark.parametrize("wrong", [["tc"], ["tc", "wt"], ["wt", "et"], ["wt", "core"], ["wt", "wt"], []])
def test_wrong_regions_are_refused(wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="choose wt, or wt, tc, or wt, tc, et"):
        require_regions(wrong, ["flair", "t1ce"])


def test_flair_alone_does_not_show_the_core() -> None:
    with pytest.raises(ValueError, match=r"tc \(tumor core\) needs t1ce"):
        require_regions(["wt", "tc"], ["flair"])
    require_regions(["wt", "tc", "et"], ["flair", "t1ce"])
