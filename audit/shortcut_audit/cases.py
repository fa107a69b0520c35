"""A table of predictions, and the pictures that they are of."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .shared.dataset.near_duplicates import near_duplicates

__all__ = ["BadInputError", "Cases", "Classifier", "checked", "opened", "read_cases"]

NEEDED = ("file", "label", "probability")

Classifier = Callable[[Sequence[str]], Sequence[float]]  # from paths of pictures to probabilities


class BadInputError(Exception):
    """The table or a picture cannot be used; the message is one line with the remedy."""


@dataclass(frozen=True)
class Cases:
    """Predictions, one row per picture.

    Args:
        path: (N,) files.
        positive: boolean (N,), the label.
        probability: (N,) in [0, 1].
        source: (N,) names of data sets.
        group: (N,) patients or near-duplicate clusters.
        training: boolean (N,), whether the classifier was trained on it; such rows are not scored.
    """

    path: np.ndarray
    positive: np.ndarray
    probability: np.ndarray
    source: np.ndarray
    group: np.ndarray
    training: np.ndarray

    def tested(self) -> Cases:
        """The rows that the classifier was not trained on."""
        rows = ~self.training
        return Cases(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def read_cases(table: Path, folder: Path, predict: Classifier | None = None) -> Cases:
    """Read a CSV file of predictions.

    Args:
        table: columns file (relative to the folder), label (0 or 1), probability (of label 1); optional source, group
            (patient) and subset ("train": the classifier was trained on it; its probability may be empty).
        folder: of the pictures.
        predict: asked for the probabilities where the table has no such column.

    Raises:
        BadInputError: naming the row and the column.
    """
    try:
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{table}: cannot be read ({error}); give a CSV file") from None
    if not rows:
        raise BadInputError(f"{table}: no rows; columns are {', '.join(NEEDED)}, and source, group, subset if known")
    asked = predict is not None and "probability" not in rows[0]
    if absent := [name for name in NEEDED if name not in rows[0] and not (asked and name == "probability")]:
        raise BadInputError(f"{table}: no column {absent[0]}; columns are {', '.join(NEEDED)}")
    training = np.array([row.get("subset") == "train" for row in rows])
    paths = [folder / row["file"] for row in rows]
    for number, (row, path) in enumerate(zip(rows, paths, strict=True), start=2):
        if row["label"] not in ("0", "1"):
            raise BadInputError(f"{table}: row {number}: label is {row['label']!r}, must be 0 or 1")
        if not (asked or row.get("subset") == "train" or _is_share(row["probability"])):
            raise BadInputError(f"{table}: row {number}: probability is {row['probability']!r}, must be in [0, 1]")
        if not path.is_file():
            raise BadInputError(f"{table}: row {number}: {path}: no such file; files are relative to {folder}")
    source = np.array([row.get("source") or _first_folder(row["file"]) for row in rows])
    given = [row.get("group") or "" for row in rows]
    group = np.array(given if all(given) else clusters(paths))
    if asked and predict is not None:
        probability = np.full(len(rows), np.nan)
        tested = np.flatnonzero(~training)
        probability[tested] = checked(predict, [str(paths[row]) for row in tested])
    else:
        probability = np.array([float(row["probability"] or "nan") for row in rows])
    positive = np.array([row["label"] == "1" for row in rows])
    return Cases(np.array([str(path) for path in paths]), positive, probability, source, group, training)


def checked(predict: Classifier, paths: Sequence[str]) -> np.ndarray:
    """Probabilities (N,) of a classifier for some files.

    Raises:
        BadInputError: when the function does not return one probability per picture.
    """
    found = np.asarray(predict(paths), dtype=np.float64)
    if found.shape != (len(paths),) or not ((found >= 0) & (found <= 1)).all():
        raise BadInputError(f"the classifier must return {len(paths)} probabilities in [0, 1] for {len(paths)} files")
    return found


def clusters(paths: list[Path]) -> list[str]:
    """Near-duplicate cluster of each picture.

    Raises:
        BadInputError: for a file that is no picture.
    """
    return near_duplicates([opened(path) for path in paths])


def opened(path: str | Path) -> Image.Image:
    """A picture in 256 gray levels.

    Raises:
        BadInputError: for a file that is no picture.
    """
    try:
        with Image.open(path) as image:
            return image.convert("L")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadInputError(f"{path}: not a picture that can be read ({type(error).__name__}); leave it out") from None


def _is_share(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 1.0
    except ValueError:
        return False


def _first_folder(name: str) -> str:
    """The first folder of a file's name, unless it is a class; else one source for all."""
    return "all" if len(Path(name).parts) < 3 else Path(name).parts[0]
