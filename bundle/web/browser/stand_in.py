"""Modules `torch` and `monai` for the browser, which has neither: as much as `scripts/` imports to predict."""

from __future__ import annotations

import re
import sys
from abc import ABC
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np

from .tensors import FUNCTIONS, Tensor, interpolate

__all__ = ["TRANSFORMS", "MetaTensor", "install"]


class MetaTensor(Tensor):
    """A tensor with metadata and the transforms that were applied to it."""

    meta: dict[str, Any]
    applied_operations: list[dict[str, Any]]

    def __new__(cls, values: Any, meta: Mapping[str, Any] | None = None) -> MetaTensor:
        """Metadata of the values, or these."""
        made: MetaTensor = np.asarray(values).view(cls)
        made.meta = dict(getattr(values, "meta", {}) if meta is None else meta)
        made.applied_operations = list(getattr(values, "applied_operations", []))
        return made

    def __array_finalize__(self, other: Any) -> None:
        self.meta = dict(getattr(other, "meta", {}))
        self.applied_operations = list(getattr(other, "applied_operations", []))

    @property
    def affine(self) -> Tensor:
        """From indices to RAS+ millimeters, (4, 4)."""
        return np.asarray(self.meta["affine"], dtype=np.float64).view(Tensor)

    @affine.setter
    def affine(self, value: Any) -> None:
        self.meta["affine"] = np.asarray(value, dtype=np.float64)

    @property
    def pixdim(self) -> np.ndarray:
        """Size of a voxel along each axis, (3,), mm."""
        return np.linalg.norm(np.asarray(self.affine)[:3, :3], axis=0)

    def copy_meta_from(self, other: MetaTensor) -> MetaTensor:
        """Take the metadata and transforms of another."""
        self.meta, self.applied_operations = dict(other.meta), list(other.applied_operations)
        return self


class MapTransform:
    """A transform of some entries of an item."""

    def __init__(self, keys: str | Sequence[str], allow_missing_keys: bool = False) -> None:
        self.keys = (keys,) if isinstance(keys, str) else tuple(keys)
        self.allow_missing_keys = allow_missing_keys

    def key_iterator(self, data: Mapping[str, Any]) -> Iterator[str]:
        """The keys that an item has."""
        for key in self.keys:
            if key in data:
                yield key
            elif not self.allow_missing_keys:
                raise KeyError(key)


class InvertibleTransform:
    """A transform that notes what it did, to take it back."""

    def push_transform(self, image: MetaTensor, affine: np.ndarray, **noted: Any) -> MetaTensor:
        """Note a transform whose indices are related to those before by an affine."""
        image.affine = np.asarray(image.affine) @ affine
        image.applied_operations = [*image.applied_operations, noted]
        return image

    def pop_transform(self, image: MetaTensor) -> dict[str, Any]:
        """What was noted last."""
        return image.applied_operations.pop()


class LoadImaged(MapTransform):
    """Read a file."""

    def __init__(self, keys: str, reader: Any) -> None:
        super().__init__(keys)
        self.reader = reader

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Replace paths by images."""
        d = dict(data)
        for key in self.key_iterator(d):
            values, meta = self.reader.get_data(self.reader.read(d[key]))
            named = {"filename_or_obj": str(d[key]), **meta}
            d[key] = MetaTensor(np.asarray(values, dtype=np.float32), named)
        return d


class EnsureChannelFirstd(MapTransform):
    """Nothing: the reader gives channels first."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The same."""
        return dict(data)


class Orientationd(MapTransform, InvertibleTransform):
    """Turn axes to an orientation."""

    def __init__(self, keys: str, axcodes: str, labels: Any = None) -> None:
        super().__init__(keys)
        self.wanted = nib.orientations.axcodes2ornt(tuple(axcodes))

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Turn."""
        d = dict(data)
        for key in self.key_iterator(d):
            image: MetaTensor = d[key]
            turn = nib.orientations.ornt_transform(_orientation(image), self.wanted)
            turned = MetaTensor(_turned(image, turn)).copy_meta_from(image)
            affine = nib.orientations.inv_ornt_aff(turn, image.shape[1:])
            d[key] = self.push_transform(turned, affine, turn=turn, affine_before=np.asarray(image.affine))
        return d

    def inverse(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Turn back."""
        d = dict(data)
        for key in self.key_iterator(d):
            noted = self.pop_transform(d[key])
            straight = np.stack([np.arange(3), np.ones(3)], axis=1)
            back = nib.orientations.ornt_transform(noted["turn"], straight)
            turned = MetaTensor(_turned(d[key], back)).copy_meta_from(d[key])
            turned.affine = noted["affine_before"]
            d[key] = turned
        return d


def _orientation(image: MetaTensor) -> np.ndarray:
    """Which way the axes run, as nibabel writes it."""
    return np.asarray(nib.orientations.axcodes2ornt(nib.aff2axcodes(np.asarray(image.affine))))


def _turned(image: Tensor, turn: np.ndarray) -> np.ndarray:
    channels = [nib.orientations.apply_orientation(np.asarray(channel), turn) for channel in image]
    return np.ascontiguousarray(np.stack(channels))


class Invertd(MapTransform):
    """Take back all transforms of a list that can be taken back, on what has the image's grid."""

    def __init__(self, keys: Sequence[str], transform: Sequence[Any], **others: Any) -> None:
        super().__init__(keys, others.get("allow_missing_keys", False))
        self.transforms = transform

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Take back."""
        d = dict(data)
        for key in self.key_iterator(d):
            for transform in reversed(self.transforms):
                if isinstance(transform, InvertibleTransform):
                    transform.keys, kept = (key,), transform.keys  # type: ignore[attr-defined]
                    d = transform.inverse(d)  # type: ignore[attr-defined]
                    transform.keys = kept  # type: ignore[attr-defined]
        return d


class Lambdad(MapTransform):
    """Keep an entry under another name, or compare it with a threshold: the two functions that the config has.

    Raises:
        ValueError: for another function.
    """

    def __init__(self, keys: str, func: str, overwrite: str | None = None) -> None:
        super().__init__(keys)
        known = re.fullmatch(r"\$lambda (\w+): (?:\1|\(\1 >= ([\d.]+)\)\.float\(\))", func)
        if known is None:
            raise ValueError(f"{func}: this function is not known in the browser")
        self.name, self.threshold = overwrite or self.keys[0], None if known[2] is None else float(known[2])

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Keep or compare."""
        value = data[self.keys[0]]
        return {**data, self.name: value if self.threshold is None else (value >= self.threshold).float()}


class AsDiscreted(MapTransform):
    """1 from a threshold on, else 0."""

    def __init__(self, keys: str, threshold: float) -> None:
        super().__init__(keys)
        self.threshold = threshold

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Compare."""
        return {**data, **{key: (data[key] >= self.threshold).astype(np.float32) for key in self.key_iterator(data)}}


class ImageReader(ABC):  # noqa: B024 - readers register with it
    """MONAI's readers."""


class Inferer:
    """MONAI's inferers."""


TRANSFORMS = {
    made.__name__: made for made in (LoadImaged, EnsureChannelFirstd, Orientationd, Invertd, Lambdad, AsDiscreted)
}


def install() -> None:
    """Put the modules where `scripts/` import them from.

    Raises:
        RuntimeError: where torch itself is loaded.
    """
    if hasattr(sys.modules.get("torch"), "__version__"):
        raise RuntimeError("torch is loaded; the stand-in is for a process without it")
    contents: dict[str, dict[str, Any]] = {
        "torch": {**FUNCTIONS, "Tensor": Tensor},
        "torch.nn": {},
        "torch.nn.functional": {"interpolate": interpolate},
        "monai": {},
        "monai.config": {"KeysCollection": Any},
        "monai.data": {"MetaTensor": MetaTensor, "ImageReader": ImageReader},
        "monai.inferers": {"Inferer": Inferer, "SimpleInferer": Inferer},
        "monai.transforms": {"InvertibleTransform": InvertibleTransform, "MapTransform": MapTransform},
        "monai.utils": {"TraceKeys": type("TraceKeys", (), {"EXTRA_INFO": "extra_info", "ORIG_SIZE": "orig_size"})},
    }
    for name, content in contents.items():
        module = ModuleType(name)
        module.__path__ = []
        vars(module).update(content)
        sys.modules[name] = module
