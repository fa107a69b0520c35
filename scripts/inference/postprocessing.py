"""Postprocessing: from the packed logits to a mask on the scan's grid and a result in JSON."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from ..core.documents import SCHEMA_VERSION, Prediction
from ..core.geometry import box_around, slice_axis, voxel_mm3
from ..core.messages import NOTICE
from ..core.regions import WHOLE_TUMOR
from ..core.weights_report import learned_of
from ..transforms.channels import shown_channel
from ..transforms.preprocessing import TISSUE, tissue_of
from ..transforms.skull import skull_state
from .decision import Decision, kind_of
from .flags import (
    flags_of_distance,
    flags_of_learned,
    flags_of_mask,
    flags_of_report,
    flags_of_scan,
    mask_depth,
)
from .out_of_distribution import OODDetector
from .region_labels import described_regions, sizes_of
from .smoothing import smoothed, smoothed_planes

__all__ = ["DropDepthd", "RemoveSmallComponentsd", "SplitPackedd", "SummarizePredictiond", "mask_depth"]

IN_EVERY_PACKED = {"mask", "tumor", "type"}  # channels of any network
OF_MASK = {"probability", "mask_deviation", "mask_share", "mask_depth"}  # none for weights that did not learn masks
PER_SLICE = {"tumor_deviation": "slice_deviations", "distance": "slice_distances"}


class SplitPackedd(MapTransform):
    """Split the packed logits.

    `pred` (R + 1 + T or more, H, W, D) becomes the probabilities of the masks (R, H, W, D), a MetaTensor with the
    image's geometry (TorchScript networks return plain tensors, which `Invertd` silently skips). `slice_logits`,
    float64 (D,), are the tumor logits of the slices from inferior to superior, smoothed along z, NaN with too little
    brain; `type_logits`, float64 (T, D), where there are types of tumors, are theirs, not smoothed. `mask_share` is the
    share of the first mask, that of the whole tumor, of the tissue, `mask_depth` the depth of a single slice's mask in
    the head.

    If the item names the channels of `pred` in "planes" (see `ExtendedNetwork`), the further channels become items of
    their names: "cam" and "mask_deviation" (1, H, W, D), zero in skipped slices, `slice_deviations` and
    `slice_distances` (D,). With CAM or deviations, or if "keep_probability" of the item is true, the mask's probability
    is also kept as "probability".

    Args:
        keys: the packed logits.
        image_key: the network's input.
        planes_key: names of the channels, if there are more than masks, tumor and types.
        smoothing_mm: standard deviation of the Gaussian along z over the tumor logits; 0: no smoothing. If the file's
            spacing was not used (see `FitHeadd`), slices are taken as 1 mm apart.
        mask_smoothing_mm: the same over the mask's logits: a tumor that the slices above and below do not show is
            unlikely.
        regions: of the masks, the first channels.
        tumor_types: of the channels after that of the tumor.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        image_key: str = "image",
        planes_key: str = "planes",
        smoothing_mm: float = 0.0,
        mask_smoothing_mm: float = 0.0,
        regions: Sequence[str] = WHOLE_TUMOR,
        tumor_types: Sequence[str] = (),
    ) -> None:
        super().__init__(keys)
        self.image_key, self.planes_key = image_key, planes_key
        self.masks, self.types = len(regions), len(tumor_types)
        self.smoothing_mm, self.mask_smoothing_mm = smoothing_mm, mask_smoothing_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            packed = (d[key].as_tensor() if isinstance(d[key], MetaTensor) else d[key]).cpu()
            affine = np.asarray(d[self.image_key].affine, dtype=np.float64)
            spacing_used = d[self.image_key].meta.get("spacing_used", True)
            gap_mm = float(np.linalg.norm(affine[:3, 2])) if spacing_used else 1.0
            logits = packed[self.masks, 0, 0].double().numpy().reshape(-1)
            d["slice_logits"] = smoothed(logits, self.smoothing_mm / max(gap_mm, 1e-3))
            if self.types:
                d["type_logits"] = packed[self.masks + 1 :][: self.types, 0, 0].double().numpy()
            seen, sigma = np.isfinite(logits), self.mask_smoothing_mm / max(gap_mm, 1e-3)
            parts = [smoothed_planes(part.float(), seen, sigma) for part in packed[: self.masks]]
            mask_logits = torch.stack(parts) if len(parts) > 1 else parts[0][None]  # (R, H, W, D)
            slices = torch.as_tensor(d[self.image_key]).movedim(-1, 0).cpu().contiguous()  # (D, C, H, W)
            tissue = tissue_of(slices)
            mask = (mask_logits[0].movedim(-1, 0) > 0) & tissue
            d["mask_share"] = float(mask.count_nonzero() / tissue.count_nonzero().clamp_min(1))
            if kind_of(logits) == "image":
                d["mask_depth"] = mask_depth(mask[0].numpy(), tissue[0].numpy())
            shown = shown_channel(slices.movedim(1, 0)).numpy()
            d["skull"] = skull_state([shown[z] for z in np.flatnonzero(seen)], TISSUE)
            if d[self.image_key].meta.get("brain_extracted"):
                d["skull"]["extracted"] = True
            d[key] = self._plane(mask_logits.sigmoid(), d)
            planes = list(d.get(self.planes_key, ()))
            if d.get("keep_probability") or set(planes) - IN_EVERY_PACKED - {"distance"}:
                d["probability"] = d[key][:1].clone()
            for number, name in enumerate(planes):
                if name in PER_SLICE:
                    d[PER_SLICE[name]] = packed[number, 0, 0].double().numpy().reshape(-1)
                elif name not in IN_EVERY_PACKED:
                    d[name] = self._plane(packed[number : number + 1].float().nan_to_num(0.0), d)
        return d

    def _plane(self, values: torch.Tensor, data: Mapping[Hashable, Any]) -> MetaTensor:
        """Values (.., H, W, D) with the geometry of the image."""
        plane: MetaTensor = MetaTensor(values).copy_meta_from(data[self.image_key])
        return plane


class RemoveSmallComponentsd(MapTransform):
    """Remove small connected components of a mask (26-connectivity).

    Components of a volume are measured in ml. Those of a single slice are measured on the network's input grid, whose
    pixels are 1 mm2, or nearly so in an image without spacing. The mask of several slices of unknown voxel size is not
    changed.

    Args:
        keys: masks on the scan's own grid, MetaTensor (R, H, W, D) of 0 and 1; only the first is changed.
        image_key: the network's input, MetaTensor (C, H, W, D) with its affine.
        min_ml: smallest component of a volume that is kept, ml.
        min_mm2: smallest component of a single slice that is kept, mm2.
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
                d[key] = _without_small_components(mask, self.min_mm2 * voxel_mm3(d[self.image_key].affine) / voxel)
            elif mask.meta.get("spacing_used"):
                d[key] = _without_small_components(mask, self.min_ml * 1000.0 / voxel)
        return d


def _without_small_components(mask: MetaTensor, min_voxels: float) -> MetaTensor:
    """Masks (R, H, W, D), the first without components of fewer voxels; the same object if there are none."""
    positive = mask.as_tensor()[0].cpu().numpy() > 0
    box = box_around(positive)
    if box is None:
        return mask
    components, _ = ndimage.label(positive[box], np.ones((3, 3, 3)))
    large = np.bincount(components.ravel()) >= min_voxels
    if large[1:].all():
        return mask
    kept = mask.clone()
    kept[0][box] = torch.as_tensor((large[components] & positive[box]).astype(np.float32), device=mask.device)
    return kept


class SummarizePredictiond(MapTransform):
    """Write the prediction to `result`, a dict of JSON values; MONAI Label returns it to its clients as `params`.

    MONAI Deploy reads `probabilities`: (2,), of no tumor and of tumor, zeros without a prediction.

    Args:
        keys: the mask on the scan's own grid, (1, H, W, D), above 0 in the tumor.
        decision: temperature, thresholds and the volume rule.
        model: description of the weights, see `ModelCard`; if their hash changes, the default calibration is used.
        ood_detector: distribution of the training slices' features.
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
            learned = learned_of(self.model)
            if "segmentation" not in learned:  # whatever the decoder draws
                d[key] = d[key] * 0
                d = {name: value for name, value in d.items() if name not in OF_MASK}
            if "classification" not in learned and "cam" in d:
                d["cam"] = d["cam"] * 0
            mask = d[key]
            deviations = d.get("slice_deviations")
            prediction = self.summarize(mask, d["slice_logits"], deviations, d.get("regions"))
            if d.get("withheld"):
                prediction["flags"] = [found for found in prediction["flags"] if found["code"] != "too_little_brain"]
            prediction["flags"] += [*d.get("sequence_flags", []), *d.get("sequence_notes", [])]
            if d.get("sequence_flags") and prediction["state"] == "no_tumor" and prediction["kind"] == "volume":
                prediction["state"] = (
                    "uncertain"  # of a sequence that the weights may not read, nothing can be ruled out
                )
            if "sequence" in d:
                prediction["sequence"] = d["sequence"]
            if "missing_sequences" in d:
                prediction["missing_sequences"] = d["missing_sequences"]
            if series := mask.meta.get("series"):
                prediction["series"] = json.loads(series)
            if "skull" in d:
                prediction["skull"] = d["skull"]
            prediction["flags"] += flags_of_mask(mask, d.get("mask_share"), d.get("mask_depth"))
            ood_detector = self.ood_detector if prediction["model"].get("sha256") == self.fitted_on else None
            prediction["flags"] += flags_of_distance(ood_detector, d.get("slice_distances"), d["slice_logits"])
            d["result"] = {**d.get("result", {}), **prediction}
            tumor = prediction["tumor_probability"]
            d["probabilities"] = torch.tensor([0.0, 0.0] if tumor is None else [1.0 - tumor, tumor])
        return d

    def summarize(
        self,
        mask: MetaTensor,
        slice_logits: np.ndarray,
        slice_deviations: np.ndarray | None = None,
        regions: Mapping[str, Sequence[int]] | None = None,
    ) -> Prediction:
        """Predict one scan: probability, state, and for a volume its slices and the tumor's size."""
        model = dict(self.model)
        decision = self.decision if model.get("sha256") == self.fitted_on else self.decision.unfitted()
        model["decision"] = decision.digest()
        kind, learned, seen = kind_of(slice_logits), learned_of(model), bool(np.isfinite(slice_logits).any())
        if "classification" not in learned:  # whatever the head says
            slice_logits, slice_deviations = np.full_like(slice_logits, np.nan), None
        slices = decision.probability(slice_logits, kind)
        probability = round(decision.volume_probability(slices), 6)  # decide on the written value
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
                *flags_of_learned(learned, seen, flags_of_scan(decision, probability, kind, mask)),
                *flags_of_report(model),
            ],
        }
        if (moved_from := decision.moved_from(kind)) is not None:
            prediction["threshold_moved_from"] = moved_from
        if len(mask.meta["spatial_shape"]) == 3:
            axis, ascending = slice_axis(mask.meta["original_affine"], mask.meta["spatial_shape"])
            ordered = slices if ascending else slices[::-1]
            prediction |= {"slice_axis": axis, "slice_probabilities": [_rounded(p) for p in ordered]}
            if slice_deviations is not None:
                turned = slice_deviations if ascending else slice_deviations[::-1]
                prediction["slice_deviations"] = [_rounded(deviation) for deviation in turned]
        elif slice_deviations is not None:
            prediction["tumor_deviation"] = _rounded(slice_deviations[0])
        if seen and "segmentation" in learned:
            prediction |= sizes_of(mask, float(mask.as_tensor().count_nonzero()), kind)
            prediction |= {"regions": described_regions(mask, regions, kind)} if regions else {}
        return cast(Prediction, {**prediction, "model": model, "notice": NOTICE})


class DropDepthd(MapTransform):
    """Convert a mask for MONAI Label's writer: uint8, and two axes for a scan with two axes.

    The mask of an image gets columns first, (W, H), as MONAI's readers load images and Label writes them.

    Args:
        keys: the mask, (1, H, W, 1).
        image_key: the image, whose `spatial_shape` Label compares with the mask's.
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
