"""Two dates of one patient: change of the tumor's volume, a band of what may be noise, and lesions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from .. import NOTICE
from ..core import files, statistics
from ..errors import UserError
from .registration import align, moved_mask
from .repeats import disturbed

if TYPE_CHECKING:
    from ..predictor import Predictor

__all__ = ["compare", "matched", "verdict"]

DATES = ("first", "second")
ALIKE = 0.5  # correlation of both scans from which the registration counts as right
CHANGES = {"growth": "growth shown", "shrinkage": "shrinkage shown", "none": "no change shown"}


def compare(
    predictor: Predictor, first: Path, second: Path, output: Path, repeats: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Predict both dates, align them, and compare; write comparison.json and both masks on the grid of the first.

    Args:
        predictor: the loaded network.
        first: volume of the first date.
        second: of the second date, the same sequence.
        output: folder for the files.
        repeats: predictions of each date, moved and with noise, for the band.
        seed: of these.

    Returns:
        The content of comparison.json.

    Raises:
        UserError: when a scan is no volume, has no prediction or no volume in ml.
    """
    from tqdm import tqdm

    images = [predictor.read(path) for path in (first, second)]
    found = [predictor.infer(image) for image in images]
    for path, prediction in zip((first, second), found, strict=True):
        _require_volume(path, prediction["result"])
    volumes: list[list[float]] = []
    with tqdm(total=2 * repeats, desc="repeating", unit="prediction", disable=None) as bar:
        for image in images:
            rng = np.random.default_rng(seed)  # both dates are moved alike
            volumes.append([])
            for _ in range(repeats):
                volumes[-1].append(predictor.infer(disturbed(image, rng))["result"].get("volume_ml", 0.0))
                bar.update()
    results = [prediction["result"] for prediction in found]
    masks = [prediction["pred"].as_tensor()[0].cpu().numpy() > 0 for prediction in found]
    affines = [np.asarray(image.affine, dtype=np.float64) for image in images]
    scans = [image[0].as_tensor().numpy() for image in images]
    aligned = align(scans[0], affines[0], scans[1], affines[1], masks[0])
    right = aligned.correlation >= ALIKE
    there = moved_mask(masks[1], affines[1], masks[0].shape, affines[0], aligned)
    content = {
        "notice": NOTICE,
        **{date: _date(path, result) for date, path, result in zip(DATES, (first, second), results, strict=True)},
        **verdict(volumes),
        "registration": {
            "degrees": round(aligned.degrees, 2),
            "millimeters": round(aligned.millimeters, 2),
            "correlation": round(aligned.correlation, 3),
            "right": right,
        },
        **({"lesions": matched(masks[0], there)} if right else {}),
        "flags": {date: result["flags"] for date, result in zip(DATES, results, strict=True)},
    }
    output.mkdir(parents=True, exist_ok=True)
    encode = predictor.parts["writer"].encode
    for date, mask in zip(DATES, (masks[0], there), strict=True):
        on_first = found[0]["pred"].clone()
        on_first[0] = on_first.as_tensor().new_tensor(mask.astype(np.float32))
        suffix, encoded = encode(on_first)
        files.write_bytes(output / f"{date}_mask.{suffix}", encoded)
    files.write_json(output / "comparison.json", content)
    return content


def verdict(repeated: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Change between two dates, and whether it is larger than single measurements vary.

    The change is that of the means over the repeats. The band is of two single measurements, since each date was
    scanned once, however often it is predicted.

    Args:
        repeated: volumes in ml, of each date repeated measurements; at least two.

    Returns:
        "change_ml", "change_percent" (None from nothing), "band_ml" (a change by noise is not larger, in 95 % of
        comparisons), "repeats_ml", and "shown".

    >>> verdict([[9.9, 10.1, 10.0], [11.9, 12.1, 12.0]])["shown"]
    'growth shown'
    >>> verdict([[9.0, 11.0, 10.0], [9.2, 11.2, 10.2]])["shown"]
    'no change shown'
    """
    before, after = (float(np.mean(values)) for values in repeated)
    noise = math.hypot(*(float(np.std(values, ddof=1)) for values in repeated))
    band = statistics.quantile_of_t(sum(len(values) - 1 for values in repeated)) * noise
    change = after - before
    kind = "none" if abs(change) <= band else "growth" if change > 0 else "shrinkage"
    return {
        "change_ml": round(change, 4),
        "change_percent": round(100 * change / before, 1) if before else None,
        "band_ml": round(band, 4),
        "repeats_ml": {date: list(values) for date, values in zip(DATES, repeated, strict=True)},
        "shown": CHANGES[kind],
    }


def matched(first: np.ndarray, second: np.ndarray) -> list[dict[str, Any]]:
    """Lesions of two masks on one grid, (H, W, D): which of them touch.

    Returns:
        One entry for each group of touching lesions, "first" and "second": their numbers, from 1, the largest; empty
        for one that is new or gone.

    >>> matched(np.array([[[1, 0, 0]]]) > 0, np.array([[[1, 0, 1]]]) > 0)
    [{'first': [1], 'second': [1]}, {'first': [], 'second': [2]}]
    """
    groups, count = ndimage.label(first | second, np.ones((3, 3, 3)))
    numbered = [_by_size(mask) for mask in (first, second)]
    found = [
        {
            date: sorted({int(number) for number in np.unique(labels[groups == group]) if number})
            for date, labels in zip(DATES, numbered, strict=True)
        }
        for group in range(1, count + 1)
    ]
    return sorted(found, key=lambda entry: (entry["first"] or [count + 1], entry["second"]))


def _by_size(mask: np.ndarray) -> np.ndarray:
    """Numbers of a mask's connected parts, from 1, the largest; as in the table of lesions."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    order = np.argsort(-np.bincount(labels.ravel(), minlength=count + 1)[1:], kind="stable")
    number = np.zeros(count + 1, dtype=int)
    number[order + 1] = np.arange(1, count + 1)
    return np.asarray(number[labels])


def _require_volume(path: Path, result: Mapping[str, Any]) -> None:
    if result["kind"] != "volume":
        raise UserError(f"{path}: a single slice; compare needs volumes of both dates")
    if result["state"] == "no_prediction":
        reasons = "; ".join(flag["text"] for flag in result["flags"])
        raise UserError(f"{path}: no prediction ({reasons}); give a volume of the sequence that the weights read")
    if "volume_ml" not in result:
        raise UserError(f"{path}: no volume in ml: spacing or slice distance is unknown; export it with both")


def _date(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("state", "tumor_probability", "volume_ml", "lesions")
    return {"input": path.name, **{name: result[name] for name in names if name in result}}
