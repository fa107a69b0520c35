"""Types of tumors: their names, and the folders of images that tell them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict

__all__ = [
    "FOLDERS",
    "NO_TUMOR",
    "TUMOR_TYPES",
    "UNKNOWN",
    "ScoresOfTypes",
    "require_types",
    "source_and_type",
    "type_of",
]

TUMOR_TYPES = {"glioma": "glioma", "meningioma": "meningioma", "pituitary": "pituitary tumor"}  # titles by name
NO_TUMOR = "notumor"  # the class of images without a tumor, beside the types
UNKNOWN = -1  # in the place of a type's number

FOLDERS = {  # classes by the names of folders, in small letters, as people write them
    **{folder: name for name in TUMOR_TYPES for folder in (name, f"{name}_tumor", f"{name}_tumour", f"{name} tumor")},
    **dict.fromkeys((NO_TUMOR, "no_tumor", "no_tumour", "no tumor", "normal", "healthy"), NO_TUMOR),
}


class TypeScores(TypedDict):
    """Of images of one type of tumor; None where undefined."""

    n: int
    roc_auc: float | None  # against the images of the other types
    sensitivity: float | None
    ci95: dict[str, list[float] | None]


class ScoresOfTypes(TypedDict):
    """Of one source's images whose type is known."""

    types: list[str]
    n: int
    groups: int
    macro_roc_auc: float | None
    balanced_accuracy: float | None
    ci95: dict[str, list[float] | None]  # of both means
    by_type: dict[str, TypeScores]
    confusion: dict[str, dict[str, int]]  # by true type: images by the type that they are called


def require_types(types: Sequence[str]) -> None:
    """Refuse types that are none of `TUMOR_TYPES`, one that is named twice, and one alone, from which nothing differs.

    Raises:
        ValueError: naming the type.
    """
    for name in types:
        if name not in TUMOR_TYPES:
            raise ValueError(f"'{name}' is no tumor type, choose from {', '.join(TUMOR_TYPES)}")
        if list(types).count(name) > 1:
            raise ValueError(f"{name} is named twice")
    if len(types) == 1:
        raise ValueError(f"{types[0]} is the only tumor type, name at least two")


def source_and_type(told: str) -> tuple[str, str]:
    """A source and the type of its tumors.

    >>> source_and_type("brats=glioma")
    ('brats', 'glioma')

    Raises:
        ValueError: when it is not SOURCE=TYPE, or the type is unknown.
    """
    source, _, name = told.rpartition("=")
    if not source or name not in TUMOR_TYPES:
        raise ValueError(f"'{told}' is not SOURCE=TYPE, with a type of {', '.join(TUMOR_TYPES)}")
    return source, name


def type_of(case: Mapping[str, Any], types: Sequence[str]) -> int:
    """Number of the type that the data tell of a case's tumor, or `UNKNOWN`: types are never guessed.

    >>> type_of({"class_name": "pituitary"}, ["glioma", "pituitary"]), type_of({"cls": 1}, ["glioma", "pituitary"])
    (1, -1)
    """
    name = case.get("class_name")
    return list(types).index(name) if name is not None and name in types else UNKNOWN
