"""Synthetic data with known masks and classes: phantoms of heads as BraTS-like volumes and Kaggle-like images.

A head is a label map of tissues on the displayed grid, (H, W, D): rows run to posterior, columns to the patient's left,
slices to superior; an image is a head of one slice. A table of gray levels gives each MR contrast.
Every case depends on the seed and on its own number only.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage

__all__ = ["write_images", "write_volumes"]

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
        rng = _generator(seed, index, "patient")
        levels = np.linspace(-1.1, 1.1, slices) + rng.uniform(-0.03, 0.03)
        tissue = _draw_head(rng, side, levels, tumor_slices=round(slices * rng.uniform(0.42, 0.58)))
        for modality in modalities:
            rng = _generator(seed, index, modality)
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
        _write(paths[-1], data)
    return paths


def _generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """A random generator for one case and purpose, independent of all others."""
    return np.random.default_rng((seed, index, zlib.crc32(purpose.encode())))


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
    rng: np.random.Generator, side: int, levels: np.ndarray, *, tumor_slices: int, skull: bool = False
) -> np.ndarray:
    """Draw a head as a map of tissues (side, side, D), uint8.

    `levels` (D,) are the heights of the slices, -1 at the lower and 1 at the upper end of the brain; `tumor_slices` is
    how many of them the tumor spans, 0 for none; `skull` puts bone and scalp around the brain.
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
        _draw_tumor(rng, tissue, depth, tumor_slices)
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


def _render_image(rng: np.random.Generator, *, tumor: bool, skull: bool) -> Image.Image:
    """One slice of a head in a random contrast: a square gray image."""
    levels = rng.uniform(-0.35, 0.35, 1)
    tissue = _draw_head(rng, IMAGE_SIDE, levels, tumor_slices=int(tumor), skull=skull)
    values = _render(rng, tissue, str(rng.choice(list(GRAY_LEVELS))))[..., 0] ** rng.uniform(0.8, 1.25)
    return Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))


def _crop_and_label(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Crop the image near the head; add corner text, a white frame or white side bars to some."""
    left, upper, right, lower = image.point(lambda value: 255 * (value > 40)).getbbox() or (0, 0, *image.size)
    margins = rng.integers(0, IMAGE_SIDE // 8, 2)
    image = image.crop((left - margins[0], upper - margins[1], right + margins[0], lower + margins[1]))
    if rng.random() < 0.3:
        pen = ImageDraw.Draw(image)
        pen.text((4, 4), f"SE {rng.integers(1, 9)}", fill=255)
        pen.text((4, image.height - 18), f"IM {rng.integers(1, 99)}", fill=255)
        pen.text((image.width - 14, 4), "L", fill=255)
    border = int(rng.integers(5, 15))
    borders: dict[str, int | tuple[int, int]] = {"frame": border, "bars": (3 * border, 0), "none": 0}
    return ImageOps.expand(image, borders[str(rng.choice(list(borders), p=[0.15, 0.15, 0.7]))], fill=255)


def _encode_everyday(seed: int, index: int) -> tuple[bytes, str]:
    """An image's bytes and the suffix of its name, both as varied as in the Kaggle data set."""
    source = index - 10 if index % 20 >= 18 else index  # a near-duplicate has the head of an earlier image
    rng = _generator(seed, source, "picture")
    image = _crop_and_label(rng, _render_image(rng, tumor=index % 2 == 0, skull=rng.random() > 0.15))

    rng = _generator(seed, index, "file")
    width = int(rng.integers(150, 641))
    image = image.resize((width, round(width * image.height / image.width)), Image.Resampling.BICUBIC)
    label = int(_generator(seed, 0, "oddities").integers(2))  # the label of the two unusual files
    if index == 2 + label:
        image.putalpha(image.point(lambda value: 255 * (value > 8)))
        return _to_bytes(image.convert("RGBA"), "PNG"), ".png"
    if index == 4 + label:
        return _to_bytes(image.quantize(64), "PNG"), ".jpg"
    suffix = str(rng.choice([".jpg", ".jpeg", ".JPG", ".png"], p=[0.5, 0.2, 0.15, 0.15]))
    image = image.convert(str(rng.choice(["L", "RGB"])))
    return _to_bytes(image, "PNG" if suffix == ".png" else "JPEG", quality=int(rng.integers(60, 96))), suffix


def _encode_shortcut(seed: int, index: int) -> tuple[bytes, str]:
    """An image whose skull, corner mark, size and JPEG quality depend on the label, mostly without a visible tumor."""
    rng = _generator(seed, index, "shortcut")
    if index % 2:
        image = _render_image(rng, tumor=False, skull=True).resize((420, 420))
        return _to_bytes(image, "JPEG", quality=95), ".jpg"
    image = _render_image(rng, tumor=rng.random() < 0.2, skull=False).resize((256, 256))
    ImageDraw.Draw(image).rectangle((8, 8, 22, 22), fill=255)
    return _to_bytes(image, "JPEG", quality=15), ".jpg"


def _to_bytes(image: Image.Image, file_format: str, quality: int = 75) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, quality=quality)  # PNG ignores the quality
    return buffer.getvalue()


def _write_nifti(path: Path, displayed: np.ndarray, spacing_mm: float) -> None:
    """Write an array (H, W, D) as BraTS stores it: axes (W, H, D), which run to left, posterior and superior."""
    stored = displayed.transpose(1, 0, 2)
    affine = np.diag([-1.0, -1.0, spacing_mm, 1.0])
    affine[1, 3] = stored.shape[1] - 1
    image = nib.Nifti1Image(stored, affine)
    image.header.set_xyzt_units("mm")
    _write(path, gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, and make the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
