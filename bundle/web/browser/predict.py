"""Predict one scan in two halves, between which the page runs the network: `begin`, then `finish`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from . import stand_in
from .tensors import Tensor

__all__ = ["Prediction"]


class Prediction:
    """Predictions with the settings that `bundle/web/settings.py` wrote.

    Args:
        folder: with settings.json, ood_detector.npz and sequences.json.
    """

    def __init__(self, folder: str) -> None:
        stand_in.install()
        self.settings = json.loads((Path(folder) / "settings.json").read_text())
        self.folder = Path(folder)
        self.known = {"decision": self._decision(), "model": self.settings["model"], "ood_detector": self._detector()}
        self.preprocessing = [self._made(spec) for spec in self.settings["preprocessing"]]
        self.known["preprocessing"] = self.preprocessing
        self.inferer = self._made(self.settings["inferer"])
        self.postprocessing = [self._made(spec) for spec in self.settings["postprocessing"]]
        self.data: dict[str, Any] = {}

    def begin(self, path: str) -> np.ndarray:
        """Read and preprocess a scan.

        Args:
            path: file, or folder with one DICOM series.

        Returns:
            The slices that the network has to see, float32 (N, C, H, W).

        Raises:
            UnreadableImageError: when it cannot be read; the message is one line with the remedy.
        """
        data: dict[str, Any] = {"image": Path(path)}
        for number, transform in enumerate(self.preprocessing):
            data = transform(data)
            if number == 0:
                self.scan = data["image"]
        asked: list[np.ndarray] = []

        def network(slices: Tensor) -> Any:
            asked.append(np.asarray(slices))
            return slices.new_zeros((len(slices), 3, *slices.shape[2:]))

        self.inferer(data["image"].as_tensor()[None], network)
        self.data = data
        shape = (0, *(data["image"].shape[axis] for axis in (0, 1, 2)))
        return np.ascontiguousarray(np.concatenate(asked) if asked else np.zeros(shape, np.float32))

    def finish(self, packed: Any, features: Any, count: int, height: int, width: int) -> dict[str, Any]:
        """Postprocess the network's outputs.

        Args:
            packed: logits of mask and tumor, float32 buffer of (N, 2, H, W), for the slices of `begin`.
            features: pooled features, float32 buffer of (N, F).
            count: N.
            height: H.
            width: W.

        Returns:
            "result" (JSON text), "mask" and "mask_name" (file), "view" and "view_mask" (NIfTI files for the viewer),
            "low" and "high" (gray levels of the view).
        """
        logits = np.asarray(_buffer(packed), dtype=np.float32).reshape(count, 2, height, width)
        pooled = np.asarray(_buffer(features), dtype=np.float32).reshape(count, -1) if count else np.zeros((0, 1))
        distances = self.known["ood_detector"].distance(pooled)[:, None, None, None] * np.ones_like(logits[:, :1])
        outputs = np.concatenate([logits, distances.astype(np.float32)], axis=1).view(Tensor)
        given = 0

        def network(slices: Tensor) -> Any:
            nonlocal given
            given += len(slices)
            return outputs[given - len(slices) : given]

        network.planes = ["mask", "tumor", "distance"]  # type: ignore[attr-defined]
        data = {**self.data, "planes": network.planes}  # type: ignore[attr-defined]
        data["pred"] = self.inferer(data["image"].as_tensor()[None], network)[0]
        for transform in self.postprocessing:
            data = transform(data)
        encode = import_module("scripts.io.writers").PredictionWriter.encode
        suffix, mask = encode(data["pred"])
        scan, affine = self.scan, np.asarray(self.scan.meta["original_affine"], dtype=np.float64)
        values = np.asarray(scan[0])
        low, high = (float(level) for level in np.percentile(values, (1, 99.5)))
        return {
            "result": json.dumps(data["result"]),
            "mask": mask,
            "mask_name": f"mask.{suffix}",
            "view": nib.Nifti1Image(values, affine).to_bytes(),
            "view_mask": nib.Nifti1Image(np.asarray(data["pred"][0]).astype(np.uint8), affine).to_bytes(),
            "low": low,
            "high": max(high, low + 1e-6),
        }

    def _made(self, spec: Mapping[str, Any]) -> Any:
        """The component of a config's entry; "@name" is a component that is known here."""
        arguments = {name: self._value(value) for name, value in spec.items() if name != "_target_"}
        target = spec["_target_"]
        if target in stand_in.TRANSFORMS:
            return stand_in.TRANSFORMS[target](**arguments)
        module, _, name = target.rpartition(".")
        return getattr(import_module(module), name)(**arguments)

    def _value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return self._made(value)
        if isinstance(value, str) and value.startswith("@"):
            return self.known[value[1:]]
        if isinstance(value, str) and value.startswith("models/"):
            return str(self.folder / Path(value).name)
        return value

    def _decision(self) -> Any:
        decision = import_module("scripts.inference.decision")
        fields = dict(self.settings["decision"])
        for name in ("image", "volume", "patient"):
            if fields.get(name):
                fields[name] = decision.Calibration(**fields[name])
        return decision.Decision(**fields)

    def _detector(self) -> Any:
        module = import_module("scripts.inference.out_of_distribution")
        return module.read_ood_detector(self.folder / module.FILE, self.settings["model"]["sha256"])


def _buffer(values: Any) -> Any:
    """An array of the page, as bytes that numpy can read; an array of Python stays as it is."""
    return values.to_py() if hasattr(values, "to_py") else values
