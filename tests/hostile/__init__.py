"""The malformed corpus: generated, seedable, named; nothing of it lies in the repository.

    for case in corpus():
        case.bytes(), case.write(folder), case.expected

Files go to the intake, the predictor, the command line and every service; `http_cases` to services only;
`archive_cases` and `weights_cases` to whatever imports bundles and loads weights.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from itertools import zip_longest

from . import dicoms, foreign, grids, pictures, volumes
from .bundles import archive_cases, weights_cases
from .cases import OK, Case, encoded, head, nifti
from .requests import CLOSED, http_cases

__all__ = [
    "CLOSED",
    "OK",
    "Case",
    "archive_cases",
    "corpus",
    "encoded",
    "head",
    "http_cases",
    "nifti",
    "sample",
    "weights_cases",
]


def corpus(seed: int = 0) -> list[Case]:
    """All files of the corpus."""
    made = [*volumes.cases(), *pictures.cases(), *grids.cases(), *dicoms.cases(), *foreign.cases()]
    return [dataclasses.replace(case, seed=seed) for case in made]


def sample(count: int, seed: int = 0) -> list[Case]:
    """So many of them, the families in turn and spread evenly within each."""
    families: dict[str, list[Case]] = defaultdict(list)
    for case in corpus(seed):
        families[case.family].append(case)
    share = -(-count // len(families))
    spread = [cases[:: max(1, len(cases) // share)] for cases in families.values()]
    return [case for turn in zip_longest(*spread) for case in turn if case][:count]
