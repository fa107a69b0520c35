"""Find copies of the same scan by perceptual hash and thumbnail."""

from __future__ import annotations

from collections.abc import Sequence

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse.csgraph import connected_components

__all__ = ["near_duplicates", "same_picture"]

SAME_HASH = 2  # alike by perceptual hash alone (bits of 64)
HASH_DISTANCE, HASH_CORRELATION = 8, 0.90  # alike by perceptual hash and by thumbnail
CORRELATION = 0.95  # alike by thumbnail alone


def near_duplicates(pictures: Sequence[Image.Image]) -> list[str]:
    """Cluster pictures that show the same scan at another size, quality or crop.

    Two are alike when their 64-bit perceptual hashes differ by at most 2 bits, when these differ by at most 8 and the
    thumbnails correlate to 0.90, or when the thumbnails correlate to 0.95; chains of such pairs are one cluster.

    Returns:
        A name for each picture's cluster, the perceptual hash of one of its members.
    """
    if not pictures:
        return []
    hashes = [imagehash.phash(picture) for picture in pictures]
    bits = np.stack([h.hash.ravel() for h in hashes])
    thumbnails = np.stack([np.asarray(p.resize((64, 64)), dtype=np.float64).ravel() for p in pictures])
    with np.errstate(invalid="ignore"):  # a constant picture correlates with none
        correlation = np.nan_to_num(np.atleast_2d(np.corrcoef(thumbnails)))
    distance = np.array([(bits != row).sum(axis=1) for row in bits])
    near = (distance <= HASH_DISTANCE) & (correlation >= HASH_CORRELATION)
    _, labels = connected_components((distance <= SAME_HASH) | near | (correlation >= CORRELATION), directed=False)
    names: dict[int, str] = {}
    for label, value in zip(labels, hashes, strict=True):
        names[label] = min(str(value), names.get(label, str(value)))
    return [names[label] for label in labels]


def same_picture(one: str, other: str) -> bool:
    """Whether two 64-bit perceptual hashes, in hexadecimal, are so close that the scan is the same."""
    return (int(one, 16) ^ int(other, 16)).bit_count() <= SAME_HASH
