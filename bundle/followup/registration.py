"""Align two scans of one head rigidly, by ITK: mutual information, coarse to fine.

Reference: Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22(1), 2003.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

__all__ = ["Aligned", "align", "moved_mask"]

SHRINK, SMOOTH_MM = (4, 2, 1), (4.0, 2.0, 1.0)
MARGIN_MM = 5.0  # around what may change
STEPS, BINS, SHARE, SEED = 60, 32, 0.05, 1


class Aligned(NamedTuple):
    """A rigid transform from places in the first scan to places in the second."""

    transform: Any  # itk.VersorRigid3DTransform
    degrees: float  # angle of the rotation
    millimeters: float  # how far the middle of the head moves
    correlation: float  # of both scans in the head, after it


def align(
    first: np.ndarray,
    first_affine: np.ndarray,
    second: np.ndarray,
    second_affine: np.ndarray,
    changing: np.ndarray | None = None,
) -> Aligned:
    """Find where the head of one scan is in another.

    Args:
        first: (H, W, D).
        first_affine: (4, 4), from indices to RAS+ millimeters.
        second: (H, W, D), of the same sequence.
        second_affine: (4, 4).
        changing: boolean (H, W, D), what may change between the dates; it is left out of the correlation.

    Raises:
        RuntimeError: when ITK finds no overlap.
    """
    import itk

    fixed, moving = _image(first, first_affine), _image(second, second_affine)
    kind = type(fixed)
    transform = itk.VersorRigid3DTransform[itk.D].New()
    start = itk.CenteredTransformInitializer[itk.VersorRigid3DTransform[itk.D], kind, kind].New(
        Transform=transform, FixedImage=fixed, MovingImage=moving
    )
    start.MomentsOn()
    start.InitializeTransform()
    metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New(NumberOfHistogramBins=BINS)
    metric.SetUseFixedImageGradientFilter(False)  # gradients at the sampled places alone
    metric.SetUseMovingImageGradientFilter(False)
    optimizer = itk.RegularStepGradientDescentOptimizerv4[itk.D].New(
        LearningRate=1.0, MinimumStepLength=1e-3, NumberOfIterations=STEPS, RelaxationFactor=0.6
    )
    scales = itk.RegistrationParameterScalesFromPhysicalShift[type(metric)].New(Metric=metric)
    optimizer.SetScalesEstimator(scales)
    method = itk.ImageRegistrationMethodv4[kind, kind].New(
        FixedImage=fixed, MovingImage=moving, Metric=metric, Optimizer=optimizer, InitialTransform=transform
    )
    method.SetNumberOfLevels(len(SHRINK))
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTH_MM)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetMetricSamplingStrategy(2)  # random places of the fixed image
    method.SetMetricSamplingPercentage(SHARE)
    method.MetricSamplingReinitializeSeed(SEED)
    method.InPlaceOn()
    method.Update()
    matrix = itk.array_from_matrix(transform.GetMatrix())
    degrees = float(np.degrees(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1))))
    middle = np.array(transform.GetCenter())
    moved = float(np.linalg.norm(np.array(transform.TransformPoint(middle.tolist())) - middle))
    there = _resampled(moving, fixed, transform, nearest=False)
    head = first > np.percentile(first, 50)
    if changing is not None:
        steps_mm = np.linalg.norm(np.asarray(first_affine, dtype=np.float64)[:3, :3], axis=0)
        head &= ~maximum_filter(changing, size=[1 + 2 * round(MARGIN_MM / step) for step in steps_mm])
    correlation = float(np.corrcoef(first[head].astype(float), there[head].astype(float))[0, 1])
    return Aligned(transform, degrees, moved, correlation)


def moved_mask(
    mask: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], target: np.ndarray, aligned: Aligned
) -> np.ndarray:
    """A mask of the second scan on the grid of the first, boolean.

    Args:
        mask: (H, W, D), of the second scan.
        affine: (4, 4), of the second scan.
        shape: of the first scan.
        target: (4, 4), affine of the first scan.
        aligned: see `align`.
    """
    grid = _image(np.zeros(shape, dtype=np.float32), target)
    return _resampled(_image(mask.astype(np.float32), affine), grid, aligned.transform, nearest=True) > 0.5


def _image(values: np.ndarray, affine: np.ndarray) -> Any:
    """An ITK image (LPS millimeters) of an array in the order of its file."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(values.astype(np.float32).T))
    steps = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(affine, dtype=np.float64))[:3]
    sizes = np.linalg.norm(steps[:, :3], axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(steps[:, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(steps[:, :3] / sizes)))
    return image


def _resampled(moving: Any, grid: Any, transform: Any, nearest: bool) -> np.ndarray:
    import itk

    kind = type(moving)
    lookup = itk.NearestNeighborInterpolateImageFunction if nearest else itk.LinearInterpolateImageFunction
    named = {"transform": transform, "reference_image": grid, "interpolator": lookup[kind, itk.D].New()}
    found = itk.resample_image_filter(moving, use_reference_image=True, **named)
    return np.asarray(itk.array_from_image(found)).T
