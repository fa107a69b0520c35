"""Tensors on numpy: as much of torch as predictions by an exported network need.

A method that is missing here raises an AttributeError in the browser; the comparison in `nox -s web` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "Tensor", "interpolate"]


class Tensor(np.ndarray[Any, Any]):
    """An array with the methods of a tensor; indexing and arithmetic are numpy's."""

    device = "cpu"

    def numpy(self) -> np.ndarray:
        """The same values as an array."""
        return np.asarray(self)

    def as_tensor(self) -> Any:
        """The same values without metadata."""
        return np.asarray(self).view(Tensor)

    def cpu(self) -> Any:
        """The same."""
        return self

    def contiguous(self, memory_format: Any = None) -> Any:
        """The same values in the order of the axes."""
        return self if self.flags["C_CONTIGUOUS"] else self.copy(order="C")

    def clone(self) -> Any:
        """A copy."""
        return self.copy()

    def to(self, kind: Any, **others: Any) -> Any:
        """As another type, or as that of another tensor."""
        return self.astype(getattr(kind, "dtype", kind))

    def float(self) -> Any:
        """As float32."""
        return self.astype(np.float32)

    def double(self) -> Any:
        """As float64."""
        return self.astype(np.float64)

    def half(self) -> Any:
        """As float16."""
        return self.astype(np.float16)

    def numel(self) -> int:
        """Number of values."""
        return int(self.size)

    def view(self, *shape: Any) -> Any:  # type: ignore[override]
        """In another shape, or numpy's view as another type."""
        return self.reshape(shape) if shape and isinstance(shape[0], int) else super().view(*shape)

    def permute(self, *axes: int) -> Any:
        """With the axes in another order."""
        return self.transpose(axes)

    def movedim(self, source: int, target: int) -> Any:
        """With one axis at another place."""
        return np.moveaxis(self, source, target).view(Tensor)

    def flatten(self, first: int = 0, last: int = -1) -> Any:  # type: ignore[override]
        """With axes `first` to `last` as one."""
        last %= self.ndim
        return self.reshape((*self.shape[:first], -1, *self.shape[last + 1 :]))

    def unflatten(self, axis: int, sides: Sequence[int]) -> Any:
        """With one axis as several."""
        return self.reshape((*self.shape[:axis], *sides, *self.shape[axis + 1 :]))

    def split(self, count: int) -> Any:
        """Parts of `count` along the first axis."""
        return [self[start : start + count] for start in range(0, len(self), count)]

    def clamp(self, low: Any, high: Any) -> Any:
        """Clipped."""
        return self.clip(low, high)

    def clamp_min(self, low: Any) -> Any:
        """Not below."""
        return np.maximum(self, low)

    def amax(self, dim: Any) -> Any:
        """Largest values along axes."""
        return np.asarray(self).max(axis=dim).view(Tensor)

    def any(self, axis: Any = None, dim: Any = None, **others: Any) -> Any:  # type: ignore[override]
        """Whether any value along axes is true."""
        return super().any(axis=axis if dim is None else dim, **others)

    def all(self, axis: Any = None, dim: Any = None, **others: Any) -> Any:  # type: ignore[override]
        """Whether all values along axes are true."""
        return super().all(axis=axis if dim is None else dim, **others)

    def flip(self, *axes: int) -> Any:
        """With the values along axes in reverse order."""
        return np.flip(self, axes).view(Tensor)

    def select(self, axis: int, index: int) -> Any:
        """One place along an axis, without the axis."""
        return self.take(index, axis=axis)

    def sum(self, axis: Any = None, dim: Any = None, **others: Any) -> Any:  # type: ignore[override]
        """Sum along axes."""
        return super().sum(axis=axis if dim is None else dim, **others)

    def std(self, **others: Any) -> Any:  # type: ignore[override]
        """Standard deviation, of n - 1."""
        return np.asarray(self).std(**{"ddof": 1, **others})

    def abs(self) -> Any:
        """Absolute values."""
        return np.absolute(self)

    def count_nonzero(self) -> Any:
        """Number of values that are not zero."""
        return np.asarray(np.count_nonzero(self)).view(Tensor)

    def nan_to_num(self, value: Any) -> Any:
        """With another value for NaN."""
        return np.nan_to_num(self, nan=value)

    def sigmoid(self) -> Any:
        """1 / (1 + exp(-x))."""
        from scipy.special import expit

        return np.asarray(expit(np.asarray(self))).view(Tensor)

    def new_zeros(self, shape: Sequence[int]) -> Any:
        """Zeros of the same type."""
        return np.zeros(tuple(shape), self.dtype).view(Tensor)

    new_empty = new_zeros


def interpolate(
    planes: Tensor, size: Sequence[int], mode: str = "bilinear", align_corners: bool = False, antialias: bool = True
) -> Tensor:
    """Resize planes (D, C, H, W), bilinear, smoothed where they shrink, as torch does.

    Raises:
        ValueError: for another way than bilinear with antialias.
    """
    if mode != "bilinear" or align_corners or not antialias:
        raise ValueError("only bilinear interpolation with antialias is known here")
    values = np.asarray(planes)
    for axis, side in ((3, size[1]), (2, size[0])):
        values = _resized(values, axis, side)
    return values.view(Tensor)


def _resized(values: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Resize one axis: each result is the mean over a few neighbors, by a triangle as wide as the step."""
    length = values.shape[axis]
    if length == side:
        return values
    step = length / side
    support, slope = max(step, 1.0), 1.0 / max(step, 1.0)
    center = step * (np.arange(side) + 0.5)
    first = np.maximum((center - support + 0.5).astype(int), 0)
    count = np.minimum((center + support + 0.5).astype(int), length) - first
    found = np.zeros((*values.shape[:axis], side, *values.shape[axis + 1 :]), values.dtype)
    taps = np.arange(int(count.max()))
    weights = np.maximum(1 - np.abs((taps[:, None] + first - center + 0.5) * slope), 0) * (taps[:, None] < count)
    weights /= weights.sum(axis=0)
    shape = [1] * values.ndim
    shape[axis] = side
    for tap, weight in zip(taps, weights, strict=True):
        there = np.take(values, np.minimum(first + tap, length - 1), axis=axis)
        found += there * weight.astype(values.dtype).reshape(shape)
    return found


def _tensor(values: Any, dtype: Any = None, device: Any = None) -> Tensor:
    array = np.asarray(values, dtype=dtype)
    is_list_of_floats = dtype is None and not isinstance(values, np.ndarray) and array.dtype == np.float64
    return (array.astype(np.float32) if is_list_of_floats else array).view(Tensor)


def _as_tensor(values: Any, dtype: Any = None, device: Any = None) -> Tensor:
    return values if isinstance(values, Tensor) and dtype is None else _tensor(values, dtype)


FUNCTIONS = {  # of the module `torch`
    "stack": lambda values, dim=0: np.stack([np.asarray(value) for value in values], axis=dim).view(Tensor),
    "from_numpy": lambda values: values.view(Tensor),
    "tensor": _tensor,
    "as_tensor": _as_tensor,
    "zeros": lambda *shape: np.zeros(shape, np.float32).view(Tensor),
    "ones": lambda *shape: np.ones(shape, np.float32).view(Tensor),
    "full": lambda shape, value: np.full(shape, value, np.float32).view(Tensor),
    "full_like": lambda values, value: np.full_like(values, value).view(Tensor),
    "zeros_like": lambda values: np.zeros_like(values).view(Tensor),
    "cat": lambda values, dim=0: np.concatenate([np.asarray(value) for value in values], axis=dim).view(Tensor),
    "isnan": lambda values: np.isnan(values).view(Tensor),
    "isfinite": lambda values: np.isfinite(values).view(Tensor),
    "nan": np.nan,
    "where": lambda holds, one, other: np.where(holds, one, np.asarray(other, dtype=one.dtype)).view(Tensor),
    "nonzero": lambda values: np.argwhere(values).view(Tensor),
    "float32": np.float32,
    "float64": np.float64,
    "uint8": np.uint8,
}
