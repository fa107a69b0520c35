"""From the packed tensor to what a person asked for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from ..core.documents import SCHEMA_VERSION, Prediction
from ..core.geometry import pixel_mm2, slice_axis, voxel_mm3
from ..core.messages import NOTICE
from ..transforms.preprocessing import tissue_of
from .decision import Decision, kind_of
from .flags import flags_of_distance, flags_of_mask, flags_of_report, flags_of_scan
from .out_of_distribution import OODDetector

__all__ = ["DropDepthd", "DropSpecksd", "SplitPackedd", "SummarizePredictiond", "outlined_depth", "smoothed"]

PER_SLICE = {"tumor_deviation": "slice_deviations", "distance": "slice_distances"}


class SplitPackedd(MapTransform):
    """Take the packed logits apart.

    `pred` (1 + classes, H, W, D) becomes the mask's probability (1, H, W, D), a MetaTensor with the image's geometry
    (TorchScript networks return plain tensors, which `Invertd` would silently skip). The tumor logit of each slice
    goes to `slice_logits`, float64 (D,), from the lowest slice to the highest, NaN where there is too little brain,
    averaged with its neighbours', for a tumor shows in more than one millimetre; the share of the tissue that is
    outlined to `outlined_share`, and of a single slice `outlined_depth` beside.

    Where the item names the prediction's channels in "planes" (see `ExtendedNetwork`), those beyond the two become
    items of their names: "cam" and "mask_deviation" (1, H, W, D), zero where nothing was looked at, and
    `slice_deviations` and `slice_distances` (D,); where there are more than the two and a distance, the mask's
    probability is kept as "probability" beside.

    Args:
        keys: the prediction.
        image_key: the image it was made from.
        planes_key: names of the prediction's channels, where they are more than two.
        smoothing_mm: standard deviation of the average over neighbouring slices; 0: none. Where the file's spacing was
            not used (see `FitHeadd`), the slices count as one millimetre apart.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        planes_key: str = "planes",
        smoothing_mm: float = 0.0,
    ) -> None:
        super().__init__(keys)
        self.image_key, self.planes_key, self.smoothing_mm = image_key, planes_key, smoothing_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            packed = (d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]).cpu()
            affine = np.asarray(d[self.image_key].affine, dtype=np.float64)
            spacing_used = d[self.image_key].meta.get("spacing_used", True)
            gap_mm = float(np.linalg.norm(affine[:3, 2])) if spacing_used else 1.0
            logits = packed[1, 0, 0].double().numpy().reshape(-1)
            d["slice_logits"] = smoothed(logits, self.smoothing_mm / max(gap_mm, 1e-3))
            tissue = tissue_of(torch.as_tensor(d[self.image_key]).movedim(-1, 0).cpu()).movedim(0, -1)  # (H, W, D)
            outlined = (packed[0] > 0) & tissue
            d["outlined_share"] = float(outlined.sum() / tissue.sum().clamp_min(1))
            if kind_of(logits) == "image":
                d["outlined_depth"] = outlined_depth(outlined[..., 0].numpy(), tissue[..., 0].numpy())
            d[key] = self._plane(packed[:1].float().sigmoid(), d)
            planes = list(d.get(self.planes_key, ()))
            if set(planes) - {"mask", "tumor", "distance"}:
                d["probability"] = d[key].clone()
            for number, name in enumerate(planes):
                if name in PER_SLICE:
                    d[PER_SLICE[name]] = packed[number, 0, 0].double().numpy().reshape(-1)
                elif name not in ("mask", "tumor"):
                    d[name] = self._plane(packed[number : number + 1].float().nan_to_num(0.0), d)
        return d

    def _plane(self, values: torch.Tensor, data: Mapping[Hashable, Any]) -> MetaTensor:
        """Values (1, H, W, D) with the geometry of the image."""
        plane: MetaTensor = MetaTensor(values).copy_meta_from(data[self.image_key])
        return plane


def outlined_depth(outlined: np.ndarray, tissue: np.ndarray) -> float | None:
    """Depth within the head that three quarters of what is outlined do not exceed, as a share of the deepest place.

    Args:
        outlined: boolean (H, W).
        tissue: boolean (H, W); what it encloses is the head as well.

    Returns:
        In [0, 1], None where nothing of the head is outlined.
    """
    if not outlined.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(ndimage.binary_fill_holes(tissue), 1))[1:-1, 1:-1]
    return float(np.percentile(depth[outlined], 75) / depth.max())


def smoothed(logits: np.ndarray, sigma: float) -> np.ndarray:
    """Average a slice's logit with its neighbours' by a Gaussian, over those that have one: (D,), NaN stays NaN.

    >>> smoothed(np.array([np.nan, 1.0, 1.0]), 2.0)
    array([nan,  1.,  1.])
    """
    known = np.isfinite(logits)
    if sigma <= 0 or not known.any():
        return logits
    total = ndimage.gaussian_filter1d(np.where(known, logits, 0.0), sigma, mode="constant")
    weight = ndimage.gaussian_filter1d(known.astype(np.float64), sigma, mode="constant")
    return np.where(known, total / np.maximum(weight, 1e-12), np.nan)


class DropSpecksd(MapTransform):
    """Remove from a mask the parts that are too small to be believed.

    Parts that touch at a corner are one. A volume's are measured in millilitres, those of a single slice on the
    network's canvas, whose pixels are of a square millimetre, in a picture without spacing nearly so. The mask of a
    scan of several slices whose voxel size is not known stays as it is.

    Args:
        keys: masks on the scan's own grid, MetaTensor (1, H, W, D) of 0 and 1.
        image_key: what the network saw, MetaTensor (C, H, W, D) with the canvas's affine.
        min_ml: smallest part of a volume that stays, millilitres.
        min_mm2: smallest part of a single slice that stays, square millimetres.
    """

    def __init__(
        self, keys: KeysCollection, image_key: str = "image", min_ml: float = 1.0, min_mm2: float = 50.0
    ) -> None:
        super().__init__(keys)
        self.image_key, self.min_ml, self.min_mm2 = image_key, min_ml, min_mm2

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            mask = d[key]
            voxel = voxel_mm3(mask.meta["original_affine"])
            if min(mask.shape[1:]) == 1:
                d[key] = _without_specks(mask, self.min_mm2 * voxel_mm3(d[self.image_key].affine) / voxel)
            elif mask.meta.get("spacing_used"):
                d[key] = _without_specks(mask, self.min_ml * 1000.0 / voxel)
        return d


def _without_specks(mask: MetaTensor, min_voxels: float) -> MetaTensor:
    """A copy of a mask (1, H, W, D) without its smaller parts."""
    kept, drawn = mask.clone(), np.asarray(mask[0] > 0)
    for box in ndimage.find_objects(drawn.astype(np.uint8)):  # one box around all that is drawn, or none
        parts, _ = ndimage.label(drawn[box], np.ones((3, 3, 3)))
        large = np.bincount(parts.ravel()) >= min_voxels
        kept[0][box] = torch.as_tensor((large[parts] & drawn[box]).astype(np.float32), device=mask.device)
    return kept


class SummarizePredictiond(MapTransform):
    """Put the prediction into `result`, a dict of plain JSON; MONAI Label shows it to its clients as parameters.

    MONAI Deploy reads `probabilities`: (2,), of no tumor and of a tumor, zeros where there is no prediction.

    Args:
        keys: the mask on the input's own grid, (1, H, W, D) of 0 and 1.
        decision: temperature, thresholds and the volume rule, of the weights that are there now.
        model: what to say about the weights, beside the decision's digest; when their hash changes, nothing that was
            fitted holds any more.
        ood_detector: what training slices look like to them.
    """

    def __init__(
        self,
        keys: KeysCollection,
        decision: Decision,
        model: Mapping[str, Any] | None = None,
        ood_detector: OODDetector | None = None,
    ) -> None:
        super().__init__(keys)
        self.decision, self.model, self.ood_detector = decision, model or {}, ood_detector
        self.fitted_on = self.model.get("sha256")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            mask = d[key]
            deviations = d.get("slice_deviations")
            prediction = self.summarize(mask, d["slice_logits"], deviations)
            prediction["flags"] += flags_of_mask(mask, d.get("outlined_share"), d.get("outlined_depth"))
            ood_detector = self.ood_detector if prediction["model"].get("sha256") == self.fitted_on else None
            prediction["flags"] += flags_of_distance(ood_detector, d.get("slice_distances"), d["slice_logits"])
            d["result"] = {**d.get("result", {}), **prediction}
            tumor = prediction["tumor_probability"]
            d["probabilities"] = torch.tensor([0.0, 0.0] if tumor is None else [1.0 - tumor, tumor])
        return d

    def summarize(
        self, mask: MetaTensor, slice_logits: np.ndarray, slice_deviations: np.ndarray | None = None
    ) -> Prediction:
        """Prediction for one scan: probability, state, and for a volume its slices and the tumor's size."""
        model, has_mask = dict(self.model), bool((mask > 0).any())
        decision = self.decision if model.get("sha256") == self.fitted_on else self.decision.unfitted()
        model["decision"] = decision.digest()
        kind = kind_of(slice_logits)
        slices = decision.probability(slice_logits, kind)
        probability = round(decision.volume_probability(slices), 6)  # what is written is what is decided on
        known = bool(np.isfinite(probability))
        prediction: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "tumor_probability": probability if known else None,
            "tumor_detected": decision.detected(probability, kind) if known else None,
            "threshold": decision.operating_point(kind),
            "display_threshold": decision.display_threshold,
            "state": decision.state(probability, kind) if known else "no_prediction",
            "flags": [
                *flags_of_scan(decision, probability, kind, has_mask, mask.meta),
                *flags_of_report(model),
            ],
        }
        if len(mask.meta["spatial_shape"]) == 3:
            axis, ascending = slice_axis(mask.meta["original_affine"])
            ordered = slices if ascending else slices[::-1]
            prediction |= {"slice_axis": axis, "slice_probabilities": [_rounded(p) for p in ordered]}
            if slice_deviations is not None:
                turned = slice_deviations if ascending else slice_deviations[::-1]
                prediction["slice_deviations"] = [_rounded(deviation) for deviation in turned]
        elif slice_deviations is not None:
            prediction["tumor_deviation"] = _rounded(slice_deviations[0])
        if known and mask.meta.get("spacing_used"):
            affine, drawn = mask.meta["original_affine"], float((mask > 0).sum())
            if mask.meta.get("thickness_known", True):
                prediction["volume_ml"] = round(drawn * voxel_mm3(affine) / 1000.0, 4)
            if kind == "image":
                prediction["area_mm2"] = round(drawn * pixel_mm2(affine), 4)
        return cast(Prediction, {**prediction, "model": model, "notice": NOTICE})


class DropDepthd(MapTransform):
    """Make a mask one that MONAI Label can write: uint8, of a scan of two axes with two axes.

    A picture's come columns first, (W, H), which is how MONAI's own readers load one and how Label writes it.

    Args:
        keys: the mask, (1, H, W, 1).
        image_key: whose `spatial_shape` Label compares it with.
    """

    def __init__(self, keys: KeysCollection = "pred", image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key].to(torch.uint8)
            if len(d[key].meta["spatial_shape"]) == 2:
                plane = d[key][0, :, :, 0]
                d[key] = plane if d[key].meta.get("spacing_known", True) else plane.T
                d[self.image_key].meta["spatial_shape"] = np.array(d[key].shape)
        return d


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
