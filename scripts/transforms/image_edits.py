"""Change one thing in an image and ask again: what a slice looks like without its brain, its skull or its lesion.

Pure functions on images as the network gets them: float32 (C, H, W), background at -4, tissue from -3.9 to 5. Each
returns a new array of that kind. A foreground is (1, H, W), above 0 where there is tissue; a mask is (1, H, W), above 0
in the lesion. Lengths along a head are shares of its radius, that of a disc of the foreground's area.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.sparse import coo_matrix, diags_array
from scipy.sparse.linalg import splu

from .intensities import BACKGROUND, BRIGHTEST, DARKEST, TISSUE

__all__ = [
    "add_fake_skull",
    "corners_only",
    "erase_lesion",
    "fill_brain",
    "frame_only",
    "jpeg",
    "rim_only",
    "standardize",
    "strip_skull",
]

BORDER_SHARE = 0.125  # of the canvas' sides: most heads are fitted within the rest
SKULL_SHARE = 0.18  # of the radius: scalp, bone and fluid of an adult are 12 to 16 mm of some 85
SCALP = 2.0  # standard deviations above the brain's mean, as fat is in most contrasts
RIM_SHARE = 0.06  # of the radius: scalp alone (5 mm), where there is one, and hardly any brain
MARGIN = 2  # pixels around a mask that are replaced too: a lesion's edge is blurred
RING = 5  # pixels around the erased region that give its texture


def fill_brain(image: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Fill the foreground with its own mean, channel by channel; only its shape remains.

    Args:
        image: (C, H, W).
        foreground: (1, H, W); an empty one changes nothing.
    """
    inside, filled = _plane(foreground, image), image.copy()
    if inside.any():
        filled[:, inside] = image[:, inside].mean(axis=1, keepdims=True, dtype=np.float64)
    return filled


def corners_only(image: np.ndarray, share: float = BORDER_SHARE) -> np.ndarray:
    """Keep the four corners of the canvas, where burnt-in text and marks are; all else becomes background.

    Args:
        image: (C, H, W).
        share: side of a corner, of the canvas' side, 0 to 0.5.
    """
    rows, columns = (_near_border(side, share) for side in image.shape[1:])
    return _kept(image, rows[:, None] & columns)


def frame_only(image: np.ndarray, share: float = BORDER_SHARE) -> np.ndarray:
    """Keep a frame along the canvas' border, where pages and rulers are; all else becomes background.

    Args:
        image: (C, H, W).
        share: width of the frame, of the canvas' side, 0 to 0.5.
    """
    rows, columns = (_near_border(side, share) for side in image.shape[1:])
    return _kept(image, rows[:, None] | columns)


def rim_only(image: np.ndarray, foreground: np.ndarray, share: float = RIM_SHARE) -> np.ndarray:
    """Keep the outermost rim of the head, where a skull shows; all else becomes background.

    Args:
        image: (C, H, W).
        foreground: (1, H, W).
        share: width of the rim, of the head's radius.
    """
    inside = _plane(foreground, image)
    return _kept(image, inside & (_depth(inside) <= share * _radius(inside)))


def strip_skull(image: np.ndarray, foreground: np.ndarray, share: float = SKULL_SHARE) -> np.ndarray:
    """Remove the outer ring of a head.

    An approximation without segmentation. Where the skull is thin some cortex is removed too, where it is thick some
    bone is left, and a head without a skull loses cortex. A head thinner than two such rings becomes empty.

    Args:
        image: (C, H, W).
        foreground: (1, H, W), the head with its skull.
        share: thickness of the ring, of the head's radius.
    """
    inside, stripped = _plane(foreground, image), image.copy()
    stripped[:, inside & (_depth(inside) <= share * _radius(inside))] = BACKGROUND
    return stripped


def add_fake_skull(
    image: np.ndarray, foreground: np.ndarray, share: float = SKULL_SHARE, scalp: float = SCALP
) -> np.ndarray:
    """Draw a dark ring (bone) and a bright one (scalp) around a brain, each half of the skull; no pixel of it changes.

    Parts beyond the canvas are cut off.

    Args:
        image: (C, H, W).
        foreground: (1, H, W), a brain without a skull; an empty one changes nothing.
        share: thickness of the skull, of the brain's radius.
        scalp: how much brighter than the brain's mean the scalp is, in the brain's standard deviations.
    """
    inside, skulled = _plane(foreground, image), image.copy()
    if not inside.any():
        return skulled
    distance, thickness = np.asarray(ndimage.distance_transform_edt(~inside)), share * _radius(inside)
    skulled[:, ~inside & (distance <= thickness)] = DARKEST
    tissue = image[:, inside].astype(np.float64)
    brightness = np.clip(tissue.mean(axis=1) + scalp * tissue.std(axis=1), DARKEST, BRIGHTEST)
    skulled[:, (distance > thickness / 2) & (distance <= thickness)] = brightness[:, None]
    return skulled


def jpeg(image: np.ndarray, quality: int = 30) -> np.ndarray:
    """Store each channel as a JPEG of 256 gray levels and read it again; background stays background.

    Args:
        image: (C, H, W).
        quality: 1 (worst) to 95.
    """
    scale = 255.0 / (BRIGHTEST - BACKGROUND)
    stored = image.copy()
    for channel, plane in enumerate(image):
        gray = np.rint((np.clip(plane, BACKGROUND, BRIGHTEST) - BACKGROUND) * scale).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(gray).save(buffer, "JPEG", quality=quality)
        with Image.open(buffer) as decoded:
            values = np.asarray(decoded, dtype=np.float32) / scale + BACKGROUND
        stored[channel] = np.where(plane > TISSUE, np.clip(values, DARKEST, BRIGHTEST), BACKGROUND)
    return stored


def standardize(image: np.ndarray) -> np.ndarray:
    """Give the tissue mean 0 and standard deviation 1 again, channel by channel, nearly as a single picture.

    Dark places within the head are included here, in preprocessing they are not.

    Args:
        image: (C, H, W); a channel without contrast is only shifted.
    """
    standard = image.copy()
    inside = (image > TISSUE).any(axis=0)
    if inside.any():
        tissue = image[:, inside].astype(np.float64)
        mean, std = tissue.mean(axis=1, keepdims=True), tissue.std(axis=1, keepdims=True)
        standard[:, inside] = np.clip((tissue - mean) / np.where(std > 1e-6, std, 1.0), DARKEST, BRIGHTEST)
    return standard


def erase_lesion(image: np.ndarray, mask: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """Replace a lesion by plausible tissue: a membrane spanned over its edge, with the texture of its surroundings.

    The membrane solves Laplace's equation with the surrounding tissue as its boundary (air is excluded). Its texture is
    drawn from what surrounds the lesion, less a smoothed copy of it and without its outliers (edges), by a fixed seed.
    Displaced tissue and edema beyond the mask stay, so this removes most of a lesion's signs, not all.

    Args:
        image: (C, H, W).
        mask: (1, H, W); an empty one, or one in the air, changes nothing.
        margin: pixels of tissue around the mask that are replaced as well.

    Reference:
        Perez et al., Poisson Image Editing, SIGGRAPH 2003, equation 1.
    """
    tissue = (image > TISSUE).any(axis=0)
    lesion = _plane(mask, image) & tissue
    hole = (ndimage.binary_dilation(lesion, iterations=margin) if margin > 0 else lesion) & tissue
    known = tissue & ~hole
    if not hole.any() or not known.any():  # nothing to erase, or no other tissue in the head
        return fill_brain(image, hole[None])
    ring = ndimage.binary_dilation(hole, iterations=RING) & known
    values = _membrane(image, hole, known)
    if ring.any():
        texture = _texture(image, known)[:, ring]
        low, high = np.percentile(texture, [10, 90], axis=1, keepdims=True)
        chosen = np.random.default_rng(0).integers(texture.shape[1], size=values.shape[1])
        values += np.clip(texture, low, high)[:, chosen]
    erased = image.copy()
    erased[:, hole] = np.clip(values, DARKEST, BRIGHTEST)
    return erased


def _membrane(image: np.ndarray, hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values (C, pixels of the hole): each is the mean of its neighbors among hole and known tissue."""
    count = int(hole.sum())
    number = np.full(np.add(hole.shape, 2), -1)
    number[1:-1, 1:-1][hole] = np.arange(count)
    outside, padded = np.pad(known, 1), np.pad(image.astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    at = np.argwhere(hole) + 1
    pull = 1e-6  # weak pull to the mean: parts without a known neighbor are defined too
    degree = np.full(count, pull)
    right_side = np.tile(pull * image[:, known].mean(axis=1, dtype=np.float64), (count, 1))  # (pixels, C)
    links = []  # pixel, neighbor
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside = tuple((at + step).T)
        linked = number[beside] >= 0
        links.append(np.stack([np.flatnonzero(linked), number[beside][linked]]))
        degree += linked | outside[beside]
        right_side += (padded[:, *beside] * outside[beside]).T
    row, column = np.concatenate(links, axis=1)
    linked = coo_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    return np.asarray(splu((diags_array(degree) - linked).tocsc()).solve(right_side)).T


def _texture(image: np.ndarray, known: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Known tissue (C, H, W) minus a smoothed copy; undefined elsewhere."""
    weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
    smooth = ndimage.gaussian_filter(image.astype(np.float64) * known, (0, sigma, sigma))
    return np.asarray(image - smooth / np.maximum(weight, 1e-6))


def _plane(region: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A foreground or mask (1, H, W) as a boolean plane (H, W).

    Raises:
        ValueError: when it does not fit the image.
    """
    if image.ndim != 3 or region.shape != (1, *image.shape[1:]):
        raise ValueError(f"a region of shape {region.shape} does not fit an image of shape {image.shape}")
    return np.asarray(region[0] > 0)


def _kept(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    return np.where(region, image, np.float32(BACKGROUND))


def _near_border(side: int, share: float) -> np.ndarray:
    return np.asarray(np.minimum(np.arange(side), np.arange(side)[::-1]) < round(side * share))


def _depth(inside: np.ndarray) -> np.ndarray:
    """Distance of each pixel (H, W) to the nearest one outside, which is also beyond the canvas."""
    return np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]


def _radius(inside: np.ndarray) -> float:
    """Radius of a disc of this area, pixels."""
    return float(np.sqrt(inside.sum() / np.pi))
