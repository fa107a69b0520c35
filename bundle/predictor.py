"""One door to the network for everyone who has a scan: the bundle's own inference config, loaded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, reason_of
from .intake import Intake, IntakeError, local_intake
from .loading import BUNDLE_ROOT, parse, torch_device
from .weights import find_weights, headline, report_beside, trained_as

if TYPE_CHECKING:
    import numpy as np
    from monai.data import MetaTensor

__all__ = ["Predictor"]


class Predictor:
    """Prediction both questions about a scan, with one pass of each slice through the network.

    Args:
        model: plain weights; the bundle's own if absent. The network's name and modalities come from the report beside
            them or, where it does not tell, from the settings of the training that left them there.
        network: the network's name, where neither tells.
        device: torch device; the GPU if there is one. With a runtime the CPU.
        batch_size: slices a pass.
        root: the bundle's folder.
        intake: the door that scans come in by, with its limits; by default one for the user's own files.
        runtime: run the network as `export` wrote it (`runtimes.FORMATS`); it knows neither CAM nor uncertainty, nor
            what is familiar to it.

    Raises:
        UserError: when there are no weights, or they do not fit, or are not exported; when a runtime gets a device.
    """

    PARTS = (
        *("loaded", "preprocessing", "inferer", "extended_network", "postprocessing", "decision", "device"),
        *("model_card", "modalities", "mc_samples", "writer"),
    )

    def __init__(
        self,
        model: str | Path | None = None,
        network: str | None = None,
        device: str | None = None,
        batch_size: int = 8,
        root: Path = BUNDLE_ROOT,
        intake: Intake | None = None,
        runtime: str | None = None,
    ) -> None:
        self.root, self.model_path = root, find_weights(model, root)
        overrides: dict[str, Any] = {"model_path": str(self.model_path), "batch_size": batch_size}
        overrides["model_card#follow"] = False  # the network stays as it is loaded here
        overrides |= trained_as(self.model_path, network)
        self.intake = intake or local_intake(root, tuple(overrides.get("modalities", ())))
        if runtime and device not in (None, "cpu"):
            raise UserError(f"device '{device}' cannot be used: exported networks ({runtime}) run on the CPU")
        if runtime or device:
            overrides["device"] = torch_device(device or "cpu")
        try:
            self.parts = parse("inference.yaml", self.PARTS, root, **overrides)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        self.network, self.report = self.parts["loaded"].eval(), report_beside(self.model_path)
        self.exported = None
        if runtime:
            from .runtimes import load_exported

            self.exported = load_exported(runtime, self.model_path)

    def predict(
        self,
        scan: str | Path | bytes | np.ndarray | Sequence[str | Path | bytes],
        spacing_mm: Sequence[float] | None = None,
        include_cam: bool = False,
        include_uncertainty: bool = False,
    ) -> dict[str, Any]:
        """Predict one scan.

        Args:
            scan: path or content of a PNG, JPEG, NIfTI or DICOM file, path of a folder with one DICOM series, one of
                these per modality, or an array (H, W) or (H, W, D), see `as_file`.
            spacing_mm: of an array's axes.
            include_cam: show where the tumor's probability comes from.
            include_uncertainty: show how sure the prediction is, by Monte-Carlo dropout over the config's `mc_samples`.

        Returns:
            All on the scan's own grid (1, H, W, D): "pred", MetaTensor of 0 and 1; with CAM or uncertainty
            "probability" in [0, 1], "cam" in [0, 1], "mask_deviation" in [0, 0.5]. "result": plain JSON with kind,
            tumor_probability, tumor_detected, state, flags, model; of volumes slice_probabilities, volume_ml, ...

        Raises:
            UserError: when the scan cannot be read, in one line.
        """
        return self.infer(self.read(scan, spacing_mm), include_cam, include_uncertainty)

    def read(self, scan: Any, spacing_mm: Sequence[float] | None = None) -> MetaTensor:
        """The scan as the first transform of preprocessing loads it, (C, H, W, D); see `predict`."""
        if hasattr(scan, "__array__"):
            from .arrays import as_file

            return self.intake.read(as_file(scan, spacing_mm))
        if spacing_mm is not None:
            raise UserError("spacing_mm is for arrays alone, a file tells its own")
        return self.intake.read(scan)

    def infer(self, image: MetaTensor, include_cam: bool = False, include_uncertainty: bool = False) -> dict[str, Any]:
        """Predict what `read` has read; see `predict`."""
        import torch

        try:
            data = self.parts["preprocessing"]({"image": image}, start=1)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        network = self.exported
        if network is None:
            network = self.parts["extended_network"](
                self.network, include_cam=include_cam, include_uncertainty=include_uncertainty
            )
            data["planes"] = network.planes
        elif include_cam or include_uncertainty:
            raise UserError("an exported network knows neither CAM nor uncertainty")
        with torch.inference_mode():
            batch = data["image"].as_tensor()[None].to(self.parts["device"])  # (1, C, H, W, D)
            data["pred"] = self.parts["inferer"](batch, network)[0]
        return dict(self.parts["postprocessing"](data))

    def describe(self) -> dict[str, Any]:
        """Which weights prediction: version and hash, modalities, thresholds with evidence, scores of their report."""
        from dataclasses import asdict

        report = self.report
        scores = {name: report[name] for name in ("segmentation", "classification") if name in report}
        return {
            "model": dict(self.parts["model_card"]),
            "modalities": list(self.parts["modalities"]),
            "decision": asdict(self.parts["decision"]),
            "scored": report.get("scored"),
            "scores": {name: headline(found) for name, found in scores.items()},
        }

    def files(self, prediction: Mapping[str, Any]) -> dict[str, bytes]:
        """Encode what was predicted, by the names of the files.

        Args:
            prediction: see `predict`.

        Returns:
            mask.png of a picture, mask.nii.gz else; where there are, probability, cam and mask_deviation as well.
        """
        encode, found = self.parts["writer"].encode, {}
        for name, steps in {"pred": 1, "probability": 255, "cam": 255, "mask_deviation": 255}.items():
            if name in prediction:
                suffix, content = encode(prediction[name], steps)
                found[f"{'mask' if name == 'pred' else name}.{suffix}"] = content
        return found

    def dicom_seg(self, prediction: Mapping[str, Any], source: str | Path | bytes) -> bytes:
        """Encode the predicted mask as DICOM SEG.

        Args:
            prediction: see `predict`.
            source: what was predicted: a DICOM file, a folder of one series, or a file's content.

        Raises:
            UserError: when the series lacks what a segmentation must refer to; `code` says what kind of fault it is.
        """
        source = source if isinstance(source, bytes) else Path(source)
        try:
            return bytes(self.parts["writer"].encode_dicom(prediction["pred"], source, prediction["result"]["model"]))
        except ValueError as error:
            raise IntakeError(getattr(error, "code", "header"), getattr(error, "reason", str(error))) from None
