"""Ask a classifier again about edited pictures: without what shows the finding, or in another style."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from .cases import BadInputError, Cases, Classifier, checked, opened
from .shared.transforms.image_edits import erase_lesion
from .shared.transforms.intensities import BACKGROUND, BRIGHTEST

__all__ = ["HIDING", "STYLES", "asked_again", "callable_of"]

FRAME, MIDDLE = 0.08, 0.42  # shares of a side: how wide the frame is, and the half axes of the hidden middle
SMALL, QUALITY = 128, 15


def frame_only(gray: np.ndarray) -> np.ndarray:
    """Keep the outermost pixels; black elsewhere."""
    rows, columns = (max(1, round(side * FRAME)) for side in gray.shape)
    found = gray.copy()
    found[rows:-rows, columns:-columns] = 0
    return found


def middle_hidden(gray: np.ndarray) -> np.ndarray:
    """Replace the middle of the picture by its mean."""
    rows, columns = np.ogrid[: gray.shape[0], : gray.shape[1]]
    place = [(np.arange(side) + 0.5) / side - 0.5 for side in gray.shape]
    inside = np.hypot(place[0][rows] / MIDDLE, place[1][columns] / MIDDLE) < 1
    return np.where(inside, np.uint8(gray[inside].mean()), gray)


def compressed(gray: np.ndarray) -> np.ndarray:
    """Compress as JPEG of low quality."""
    buffer = io.BytesIO()
    Image.fromarray(gray).save(buffer, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(buffer))


def resampled(gray: np.ndarray) -> np.ndarray:
    """Make it small and large again."""
    image = Image.fromarray(gray)
    return np.asarray(image.resize((SMALL, SMALL)).resize(image.size))


def square(gray: np.ndarray) -> np.ndarray:
    """Pad to a square, so that the aspect ratio tells nothing."""
    side = max(gray.shape)
    before = [(side - length) // 2 for length in gray.shape]
    return np.pad(gray, [(b, side - length - b) for b, length in zip(before, gray.shape, strict=True)])


HIDING = {"frame": frame_only, "hidden": middle_hidden}
STYLES = {"jpeg": compressed, "resampled": resampled, "square": square}


def erased(gray: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replace the finding by plausible tissue."""
    scaled = gray.astype(np.float32) / 255 * (BRIGHTEST - BACKGROUND) + BACKGROUND
    healthy = erase_lesion(scaled[None], mask[None])[0]
    return ((healthy - BACKGROUND) / (BRIGHTEST - BACKGROUND) * 255).round().clip(0, 255).astype(np.uint8)


def asked_again(predict: Classifier, cases: Cases, masks: Path | None = None) -> dict[str, np.ndarray]:
    """Probabilities for every edit, (N,); "erased" is NaN without a mask.

    Args:
        predict: from paths of pictures to probabilities.
        cases: what is edited.
        masks: folder with a mask (above 0: the finding) of some pictures, by their names.

    Raises:
        BadInputError: see `cases.checked`.
    """
    found = {}
    grays = [np.asarray(opened(path)) for path in cases.path]
    found["served"] = _asked(predict, grays)
    for name, edit in {**HIDING, **STYLES}.items():
        found[name] = _asked(predict, [edit(gray) for gray in grays])
    files = [None if masks is None else masks / Path(path).name for path in cases.path]
    rows = [row for row, file in enumerate(files) if file is not None and file.is_file()]
    found["erased"] = np.full(len(grays), np.nan)
    if rows:
        drawn = [np.asarray(opened(files[row])) > 0 for row in rows]  # type: ignore[arg-type]
        found["erased"][rows] = _asked(
            predict, [erased(grays[row], mask) for row, mask in zip(rows, drawn, strict=True)]
        )
    return found


def _asked(predict: Classifier, grays: Sequence[np.ndarray]) -> np.ndarray:
    with TemporaryDirectory() as place:
        paths = []
        for number, gray in enumerate(grays):
            paths.append(str(Path(place) / f"{number:06d}.png"))
            Image.fromarray(gray).save(paths[-1])
        return checked(predict, paths)


def callable_of(name: str) -> Classifier:
    """Import a function by "package.module:function".

    Raises:
        BadInputError: when there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found: Classifier = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInputError(f"{name}: no such function ({error}); write it as package.module:function") from None
    return found
