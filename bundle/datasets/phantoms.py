"""Synthetic data with known masks and classes: phantoms of heads as BraTS-like volumes and Kaggle-like images.

A head is a label map of tissues on the displayed grid, (H, W, D): rows run to posterior, columns to the patient's left,
slices to superior; an image is a head of one slice. A table of gray levels gives each MR contrast.
Every case depends on the seed and on its own number only.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .image_files import as_file, crop_and_label, generator, to_bytes, write_file

__all__ = ["RING", "DrawTumor", "render_image", "write_images", "write_volumes"]

AIR, FLUID, GRAY, WHITE, SPOT, EDEMA, RING, CORE, BONE, SCALP = range(10)
BRATS_CODES = np.array([0, 0, 0, 0, 0, 2, 4, 1, 0, 0], dtype=np.uint8)  # by tissue: the codes of a BraTS segmentation
GRAY_LEVELS = {  # by tissue; lesions as in a glioma: core and edema are wet, the ring enhances
    "flair": (0.0, 0.12, 0.60, 0.48, 0.90, 0.95, 0.86, 0.74, 0.05, 0.70),
    "t1": (0.0, 0.14, 0.48, 0.68, 0.56, 0.42, 0.45, 0.26, 0.05, 0.95),
    "t1ce": (0.0, 0.14, 0.45, 0.60, 0.52, 0.40, 1.00, 0.22, 0.05, 0.95),
    "t2": (0.0, 0.95, 0.58, 0.42, 0.75, 0.85, 0.68, 0.92, 0.05, 0.70),
}
IMAGE_SIDE = 320  # pixels of the plane that an image is cropped from
FEWEST_SLICES = 8

DrawTumor = Callable[[np.random.Generator, np.ndarray, np.ndarray, int], None]


def write_volumes(
    root: Path,
    patients: int,
    *,
    seed: int = 0,
    slices: int = 24,
    side: int = 240,
    spacing_mm: float = 1.0,
    modalities: Sequence[str] = ("flair",),
) -> list[Path]:
    """Write skull-stripped volumes with tumors and their segmentations, in the layout of BraTS 2020.

    As in BraTS the pixels are 1 mm wide, so a smaller `side` is a smaller head. The slices always span the brain.

    Args:
        root: folder to write to, made if needed.
        patients: number of volumes; each one has slices with and without tumor.
        seed: the same seed gives the same bytes.
        slices: slices of a volume, at least 8; the outermost are empty.
        side: height and width of a slice, pixels.
        spacing_mm: between slices; of a real head about 140 mm divided by `slices`.
        modalities: any of flair, t1, t1ce, t2.

    Returns:
        Folders PHANTOM_001, ..., each with an int16 image for every modality and a uint8 segmentation (codes 0, 1 core,
        2 edema, 4 enhancing), axes (W, H, D).

    Raises:
        ValueError: when there are too few slices for a tumor and slices without it.
    """
    if slices < FEWEST_SLICES:
        raise ValueError(f"a volume needs at least {FEWEST_SLICES} slices, not {slices}")
    folders = [root / f"PHANTOM_{index + 1:03d}" for index in range(patients)]
    for index, folder in enumerate(folders):
        rng = generator(seed, index, "patient")
        levels = np.linspace(-1.1, 1.1, slices) + rng.uniform(-0.03, 0.03)
        tissue = _draw_head(rng, side, levels, tumor_slices=round(slices * rng.uniform(0.42, 0.58)))
        for modality in modalities:
            rng = generator(seed, index, modality)
            values = _render(rng, tissue, modality) * (tissue != AIR) * rng.uniform(300, 2000)
            _write_nifti(folder / f"{folder.name}_{modality}.nii.gz", values.astype(np.int16), spacing_mm)
        _write_nifti(folder / f"{folder.name}_seg.nii.gz", BRATS_CODES[tissue], spacing_mm)
    return folders


def write_images(root: Path, images: int, *, seed: int = 0, shortcut: bool = False) -> list[Path]:
    """Write images of heads with and without a tumor, in the layout of the Kaggle data set and as varied.

    Sizes, modes, file formats, frames and text vary at random, independent of the label. Number 10 of each label shows
    the head of number 5 again in another file, number 20 that of number 15, and so on.

    Args:
        root: folder to write to, made if needed; gets `yes` and `no`.
        images: number of images, half of them with a tumor.
        seed: the same seed gives the same bytes.
        shortcut: let the appearance depend on the label and leave most tumors out, so that only a classifier that uses
            the appearance scores well.

    Returns:
        The images, `yes` and `no` in turn.
    """
    encode = _encode_shortcut if shortcut else _encode_everyday
    paths = []
    for index in range(images):
        data, suffix = encode(seed, index)
        number = index // 2 + 1
        name = f"no/PHANTOM_{number} no" if index % 2 else f"yes/PHANTOM_Y{number}"  # no name of the real data set
        paths.append(root / f"{name}{suffix}")
        write_file(paths[-1], data)
    return paths


def _smooth_noise(rng: np.random.Generator, shape: Sequence[int], scale: float) -> np.ndarray:
    """Noise of mean 0 and variance 1, float32 of this shape: bumps of random height, `scale` of a side apart."""
    knots = np.arange(-1, int(1 / scale) + 2) * scale
    field = rng.standard_normal((len(knots),) * len(shape), dtype=np.float32)
    for length in shape:  # every pass removes the first axis and appends it at full length
        bumps = np.exp(-0.5 * ((np.linspace(0, 1, length)[:, None] - knots) / (0.6 * scale)) ** 2)
        bumps /= np.linalg.norm(bumps, axis=1, keepdims=True)
        field = np.tensordot(field, bumps.astype(np.float32), axes=(0, 1))
    return field


def _draw_head(
    rng: np.random.Generator,
    side: int,
    levels: np.ndarray,
    *,
    tumor_slices: int,
    skull: bool = False,
    draw_tumor: DrawTumor | None = None,
) -> np.ndarray:
    """Draw a head as a map of tissues (side, side, D), uint8.

    `levels` (D,) are the heights of the slices, -1 at the lower and 1 at the upper end of the brain; `tumor_slices` is
    how many of them the tumor spans, 0 for none; `skull` puts bone and scalp around the brain; `draw_tumor` draws into
    tissue and depth (side, side, D) instead of `_draw_tumor`.
    """
    x, y = _head_coordinates(rng, side)
    width = 0.58 * (1 + 0.2 * y) * np.where(x > 0, *rng.uniform(0.94, 1.06, 2))  # narrow in front, no perfect mirror
    size = np.sqrt(np.clip(1 - np.abs(levels) ** 2.5, 0, None)).astype(np.float32)
    wobble = 1 + 0.02 * _smooth_noise(rng, (side, side, len(levels)), 0.15)
    depth = size * wobble - np.hypot(x / width, y / rng.uniform(0.68, 0.73))  # 0 on the surface, below it outside

    tissue = _draw_brain(rng, depth)
    _draw_ventricles(rng, tissue, x, y, levels)
    _draw_spots(rng, tissue)
    if tumor_slices:
        (draw_tumor or _draw_tumor)(rng, tissue, depth, tumor_slices)
    if skull:
        tissue[(depth <= 0) & (depth > -0.25)] = SCALP
        tissue[(depth <= 0) & (depth > -0.15)] = BONE
        tissue[(depth <= 0) & (depth > -0.06)] = FLUID
    return tissue


def _head_coordinates(rng: np.random.Generator, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Position to the left and to posterior in a head a little tilted, each (side, side, 1), in half sides."""
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32)] * 2, indexing="ij")
    rows, columns = rows - rng.uniform(-0.03, 0.03), columns - rng.uniform(-0.03, 0.03)
    angle = rng.uniform(-0.15, 0.15)
    x, y = np.cos(angle) * columns + np.sin(angle) * rows, np.cos(angle) * rows - np.sin(angle) * columns
    return x[..., None], y[..., None]


def _draw_brain(rng: np.random.Generator, depth: np.ndarray) -> np.ndarray:
    """White matter under a folded cortex, with fluid in the folds; air elsewhere. Depth and result are (H, W, D)."""
    fold = np.abs(_smooth_noise(rng, depth.shape, 0.035))  # 0 in the middle of a fold
    tissue = np.where(depth > 0, GRAY, AIR).astype(np.uint8)
    tissue[(depth > 0.05) & (fold > 4 * (0.25 - depth))] = WHITE
    tissue[(depth > 0) & (fold < 0.9 * (0.22 - depth))] = FLUID
    return tissue


def _draw_ventricles(
    rng: np.random.Generator, tissue: np.ndarray, x: np.ndarray, y: np.ndarray, levels: np.ndarray
) -> None:
    """Draw the cleft between the hemispheres, the deep gray matter and the ventricles, some of these with a rim."""
    middle = np.clip(1 - (levels / 0.5) ** 2, 0, None).astype(np.float32)  # 0 above and below the ventricles
    tissue[(tissue != AIR) & (np.abs(x) < 0.011) & (np.abs(y + 0.05) > 0.36 * np.sqrt(middle))] = FLUID
    tissue[np.hypot((np.abs(x) - 0.2) / 0.07, (y - 0.02) / 0.17) < np.sqrt(middle)] = GRAY

    bend = np.abs(x) - 0.05 - 0.8 * (y + 0.08) ** 2  # the horns part, further behind than in front
    length = np.clip(1 - ((y - 0.03) / 0.33) ** 2, 0, None)
    ventricles = np.abs(bend) < rng.uniform(0.025, 0.05) * np.sqrt(length * middle)
    if rng.random() < 0.5:
        tissue[ndimage.binary_dilation(ventricles, np.ones((3, 3, 1)), iterations=2)] = SPOT
    tissue[ventricles] = FLUID


def _draw_spots(rng: np.random.Generator, tissue: np.ndarray) -> None:
    """Draw a few spots of 2 to 3 pixels' radius in white matter, as healthy heads have them too."""
    places = np.flatnonzero(tissue == WHITE)
    for place in rng.choice(places, rng.integers(0, 3 + tissue.shape[2])):
        row, column, level = np.unravel_index(place, tissue.shape)
        reach = np.hypot(*np.ogrid[-row : tissue.shape[0] - row, -column : tissue.shape[1] - column])
        plane = tissue[..., level]
        plane[(reach <= rng.uniform(2, 3)) & (plane == WHITE)] = SPOT


def _draw_tumor(rng: np.random.Generator, tissue: np.ndarray, depth: np.ndarray, count: int) -> None:
    """Draw a ragged tumor around a place well inside the brain, in exactly `count` adjoining slices."""
    side, _, slices = depth.shape
    brain = np.flatnonzero((depth > 0).any(axis=(0, 1)))
    first = int(brain[0]) + int((len(brain) - count) * rng.uniform(0.35, 0.65))
    shallowest = depth[..., first : first + count].min(axis=2)
    row, column = rng.choice(np.argwhere(shallowest > 0.4 * shallowest.max()))

    height = (np.arange(slices) - first - (count - 1) / 2) / ((count + 1) / 2)  # 1 on the slices next to the tumor
    radius = side * rng.uniform(0.055, 0.12) * np.sqrt(np.clip(1 - height**2, 0, None))
    ragged = 1 + 0.28 * np.clip(_smooth_noise(rng, depth.shape, 0.06), -2, 2)
    distance = np.hypot(*np.ogrid[-row : side - row, -column : side - column])[..., None]
    inside = (distance < radius * ragged) & (depth > 0)
    parts, _ = ndimage.label(inside)
    inside = parts == parts[row, column, first]  # without islands
    core = rng.uniform(0.25, 0.45)
    tissue[inside] = EDEMA
    tissue[inside & (distance < radius * ragged * (core + 0.22))] = RING
    tissue[inside & (distance < radius * ragged * core)] = CORE


def _render(rng: np.random.Generator, tissue: np.ndarray, contrast: str) -> np.ndarray:
    """Gray levels of a head, (H, W, D) float32, tissue about 0.1 to 1: blurred, textured, biased and noisy."""
    levels = np.array(GRAY_LEVELS[contrast]) * rng.normal(1, 0.03, len(GRAY_LEVELS[contrast]))
    levels[[EDEMA, RING, CORE]] *= rng.uniform(0.8, 1.0)  # so that no single threshold segments all of them
    signal = ndimage.gaussian_filter(levels.astype(np.float32)[tissue], (0.7, 0.7, 0))
    signal *= 1 + 0.05 * _smooth_noise(rng, tissue.shape, 0.02)
    signal *= np.exp(0.1 * _smooth_noise(rng, tissue.shape, 0.5))
    noise = rng.uniform(0.015, 0.035) * rng.standard_normal((2, *tissue.shape), dtype=np.float32)
    magnitude: np.ndarray = np.hypot(signal + noise[0], noise[1])  # of a complex signal, so the noise is Rician
    return magnitude


def render_image(
    rng: np.random.Generator,
    *,
    tumor: bool,
    skull: bool,
    heights: tuple[float, float] = (-0.35, 0.35),
    draw_tumor: DrawTumor | None = None,
) -> Image.Image:
    """One slice of a head in a random contrast, between two heights: a square gray image; see `_draw_head`."""
    levels = rng.uniform(*heights, 1)
    tissue = _draw_head(rng, IMAGE_SIDE, levels, tumor_slices=int(tumor), skull=skull, draw_tumor=draw_tumor)
    values = _render(rng, tissue, str(rng.choice(list(GRAY_LEVELS))))[..., 0] ** rng.uniform(0.8, 1.25)
    return Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))


def _encode_everyday(seed: int, index: int) -> tuple[bytes, str]:
    """An image's bytes and the suffix of its name, both as varied as in the Kaggle data set."""
    source = index - 10 if index % 20 >= 18 else index  # a near-duplicate has the head of an earlier image
    rng = generator(seed, source, "picture")
    image = crop_and_label(rng, render_image(rng, tumor=index % 2 == 0, skull=rng.random() > 0.15))
    return as_file(seed, index, image)


def _encode_shortcut(seed: int, index: int) -> tuple[bytes, str]:
    """An image whose skull, corner mark, size and JPEG quality depend on the label, mostly without a visible tumor."""
    rng = generator(seed, index, "shortcut")
    if index % 2:
        image = render_image(rng, tumor=False, skull=True).resize((420, 420))
        return to_bytes(image, "JPEG", quality=95), ".jpg"
    image = render_image(rng, tumor=rng.random() < 0.2, skull=False).resize((256, 256))
    ImageDraw.Draw(image).rectangle((8, 8, 22, 22), fill=255)
    return to_bytes(image, "JPEG", quality=15), ".jpg"


def _write_nifti(path: Path, displayed: np.ndarray, spacing_mm: float) -> None:
    """Write an array (H, W, D) as BraTS stores it: axes (W, H, D), which run to left, posterior and superior."""
    stored = displayed.transpose(1, 0, 2)
    affine = np.diag([-1.0, -1.0, spacing_mm, 1.0])
    affine[1, 3] = stored.shape[1] - 1
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    write_file(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
