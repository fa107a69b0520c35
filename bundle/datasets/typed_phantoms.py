"""Synthetic images with a known type of tumor, in the layout of Kaggle's four classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.tumor_types import NO_TUMOR, TUMOR_TYPES
from .image_files import as_file, crop_and_label, generator, write_file
from .phantoms import RING, DrawTumor, render_image

__all__ = ["write_typed_images"]

HEIGHTS = {"pituitary": (-0.75, -0.4)}  # of the slices of a class, from -1, the lowest, to 1
OTHER_HEIGHTS = (-0.65, 0.35)
TESTED = 5  # each fifth image of a class is in Testing


def write_typed_images(root: Path, images: int, *, seed: int = 0) -> list[Path]:
    """Write images of heads with a glioma, a meningioma, a pituitary tumor, and without a tumor, in turn.

    A glioma lies in the brain, with core, enhancing ring and edema. A meningioma lies at the brain's surface, a
    pituitary tumor near the middle of a low slice; both are homogeneous, so that their place tells them apart. Sizes,
    modes, formats, frames and text vary as in `phantoms.write_images`, independent of the class.

    Args:
        root: folder to write to, made if needed; gets `Training` and `Testing` with a folder for each class.
        images: number of images, a fourth of them in each class.
        seed: the same seed gives the same bytes.

    Returns:
        The images, the classes in turn.
    """
    classes = (*TUMOR_TYPES, NO_TUMOR)
    draw: dict[str, DrawTumor] = {"meningioma": _draw_meningioma, "pituitary": _draw_pituitary_tumor}
    paths = []
    for index in range(images):
        name, number = classes[index % len(classes)], index // len(classes) + 1
        rng = generator(seed, index, "typed picture")
        skull, tumor, heights = rng.random() > 0.15, name != NO_TUMOR, HEIGHTS.get(name, OTHER_HEIGHTS)
        head = render_image(rng, tumor=tumor, skull=skull, heights=heights, draw_tumor=draw.get(name))
        data, suffix = as_file(seed, index, crop_and_label(rng, head))
        subset = "Testing" if number % TESTED == 0 else "Training"
        paths.append(root / subset / name / f"PHANTOM_{name}_{number}{suffix}")  # no name of the real data set
        write_file(paths[-1], data)
    return paths


def _draw_meningioma(rng: np.random.Generator, tissue: np.ndarray, depth: np.ndarray, count: int) -> None:
    """Draw a round mass that grows inward from the brain's surface; see `phantoms.DrawTumor`."""
    row, column, _ = rng.choice(np.argwhere((depth > 0.04) & (depth < 0.1)))
    _draw_mass(rng, tissue, depth, (row, column), (0.06, 0.11))


def _draw_pituitary_tumor(rng: np.random.Generator, tissue: np.ndarray, depth: np.ndarray, count: int) -> None:
    """Draw a round mass near the middle, a little in front; see `phantoms.DrawTumor`."""
    side = len(depth)
    row, column = side * (0.5 + rng.uniform(-0.08, 0.0)), side * (0.5 + rng.uniform(-0.02, 0.02))
    _draw_mass(rng, tissue, depth, (row, column), (0.045, 0.08))


def _draw_mass(
    rng: np.random.Generator,
    tissue: np.ndarray,
    depth: np.ndarray,
    place: tuple[float, float],
    radii: tuple[float, float],
) -> None:
    """Draw a smooth, homogeneous, enhancing mass around a place (row, column), its radius a share of the side."""
    side = len(depth)
    stretch = rng.uniform(0.85, 1.18)
    rows, columns = np.ogrid[:side, :side]
    distance = np.hypot((rows - place[0]) * stretch, (columns - place[1]) / stretch)[..., None]
    inside = (distance < side * rng.uniform(*radii)) & (depth > 0)
    tissue[inside] = RING
