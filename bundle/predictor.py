"""The Python API: load the bundle's inference config once, predict scans from paths, bytes or arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .core import messages, weights_report
from .errors import UserError, reason_of
from .intake import Intake, Interrupt, MemoryFile, local_intake
from .loading import BUNDLE_ROOT, parse, torch_device
from .weights import find_weights, headline, report_beside, trained_as

if TYPE_CHECKING:
    import numpy as np
    from monai.data import MetaTensor

__all__ = ["Predictor"]


class Turn(Protocol):
    """Turns of one scan at a network that several scans share, see `bundle/service/turns.py`."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: Any) -> None: ...

    def between(self) -> None: ...


class Predictor:
    """Segment and classify scans, with one pass of each slice through the network.

    Args:
        model: weights, a state dict (default: the bundle's). The network's name, modalities, regions and types are read
            from the report beside them or, without a report, from the `config.json` of their training.
        network: the network's name, if neither file names it.
        device: torch device (default: the GPU if there is one; with a runtime the CPU).
        batch_size: slices per batch.
        root: the bundle's folder.
        intake: reads the scans, within its limits (default: one for local files).
        runtime: run the exported network (`export_formats.FORMATS`); it has no CAM, no uncertainty and no OOD score.
        strip: cut the brain out of volumes with a skull first (needs deepbet).
        threshold: operating point of every scan, in [0, 1] (default: that of the weights' report).
        load: load the network now; otherwise `load` does, before the first scan.

    Raises:
        UserError: when the weights are missing, do not fit the network, or are not exported; when a runtime is given
            another device than the CPU.
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
        strip: bool = False,
        threshold: float | None = None,
        load: bool = True,
    ) -> None:
        self.root, self.model_path = root, find_weights(model, root)
        self.settings: dict[str, Any] = {"model_path": str(self.model_path), "batch_size": batch_size}
        self.settings["model_card#metadata_path"] = str(root / "configs" / "metadata.json")
        self.settings["model_card#follow"] = False  # the network stays as it is loaded here
        self.settings |= {"strip": strip, "threshold": threshold, **trained_as(self.model_path, network)}
        if runtime and device not in (None, "cpu"):
            raise UserError(f"device '{device}' cannot be used: exported networks ({runtime}) run on the CPU")
        self.device, self.runtime, self.given_intake = "cpu" if runtime else device, runtime, intake
        if load:
            self.load()

    def load(self) -> None:
        """Load the network; see the class for errors."""
        self.intake = self.given_intake or local_intake(self.root, tuple(self.settings.get("modalities", ())))
        device = {"device": torch_device(self.device)} if self.device else {}
        self.parts = self.parsed(self.PARTS, **device)
        self.network, self.report = self.parts["loaded"].eval(), report_beside(self.model_path)
        self.exported = None
        if self.runtime:
            from .packaging.runtimes import load_exported

            self.exported = load_exported(self.runtime, self.model_path)

    def parsed(self, ids: Sequence[str], **settings: Any) -> dict[str, Any]:
        """Components of the inference config with the settings of these weights and others.

        Raises:
            UserError: when the settings do not fit.
        """
        try:
            return parse("inference.yaml", ids, self.root, **self.settings, **settings)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None

    def predict(
        self,
        scan: str | Path | bytes | MemoryFile | np.ndarray | Sequence[str | Path | bytes | MemoryFile | None],
        spacing_mm: Sequence[float] | None = None,
        include_cam: bool = False,
        include_uncertainty: bool = False,
        include_probability: bool = False,
    ) -> dict[str, Any]:
        """Predict one scan.

        Args:
            scan: path or content (bytes or `MemoryFile`) of a NIfTI, NRRD, MetaImage, DICOM or picture file, path of a
                folder with one DICOM series, one of these per modality (None for a missing one), or an array (H, W) or
                (H, W, D), see `as_file`.
            spacing_mm: of an array's axes.
            include_cam: add the class activation map (CAM).
            include_uncertainty: add Monte-Carlo dropout deviations, over `mc_samples` samples (see the config).
            include_probability: add the mask's probability, which CAM and uncertainty come with in any case.

        Returns:
            All on the scan's own grid (1, H, W, D): "pred", MetaTensor of 0 and 1, or of the codes in "regions" of the
            result; on request "probability" in [0, 1], of the whole tumor, "cam" in [0, 1], "mask_deviation" in
            [0, 0.5]. "scan": the scan (C, H, W, D). "result": JSON with kind, tumor_probability, tumor_detected, state,
            flags, model; for volumes also slice_probabilities, volume_ml, ...

        Raises:
            UserError: when the scan cannot be read, in one line.
        """
        image = self.read(scan, spacing_mm)
        return self.infer(image, include_cam, include_uncertainty, include_probability=include_probability)

    def read(
        self,
        scan: Any,
        spacing_mm: Sequence[float] | None = None,
        interrupt: Interrupt | None = None,
        sequence_told: str = "",
    ) -> MetaTensor:
        """Read a scan as the first transform of the preprocessing does, (C, H, W, D); see `predict`.

        Args:
            scan: see `predict`.
            spacing_mm: of an array's axes.
            interrupt: ends the decoding from another thread.
            sequence_told: what the name of a scan that is given as content tells, used where its header does not.
        """
        if hasattr(scan, "__array__"):
            from .arrays import as_file

            return self.intake.read(as_file(scan, spacing_mm))
        if spacing_mm is not None:
            raise UserError("spacing_mm is only for arrays, a file has its own spacing")
        image = self.intake.read(scan, interrupt)
        if sequence_told and not image.meta.get("sequence_told"):
            image.meta["sequence_told"] = sequence_told
        return image

    def infer(
        self,
        image: MetaTensor,
        include_cam: bool = False,
        include_uncertainty: bool = False,
        turn: Turn | None = None,
        include_probability: bool = False,
    ) -> dict[str, Any]:
        """Predict an image from `read`; see `predict`.

        Args:
            image: from `read`.
            include_cam: see `predict`.
            include_uncertainty: see `predict`.
            turn: a context manager around the passes through the network, whose `between` is called between them.
            include_probability: see `predict`.
        """
        import torch

        try:
            data = self.parts["preprocessing"]({"image": image}, start=1)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        data |= {"scan": image, "keep_probability": include_probability}
        between = {"between": turn.between} if turn else {}
        network = self.exported
        if network is None:
            network = self.parts["extended_network"](
                self.network, include_cam=include_cam, include_uncertainty=include_uncertainty, **between
            )
            data["planes"] = network.planes
        elif include_cam or include_uncertainty:
            raise UserError("an exported network has no CAM and no uncertainty")
        with torch.inference_mode(), turn or nullcontext():
            batch = data["image"].as_tensor()[None].to(self.parts["device"])  # (1, C, H, W, D)
            data["pred"] = self.parts["inferer"](batch, network)[0]
        return dict(self.parts["postprocessing"](data))

    def describe(self) -> dict[str, Any]:
        """Describe the weights: version and hash, modalities, thresholds with evidence, scores of their report."""
        from dataclasses import asdict

        report = self.report
        names = ("segmentation", "classification", "tumor_types")
        scores = {name: report[name] for name in names if isinstance(report.get(name), Mapping)}
        return {
            "model": dict(self.parts["model_card"]),
            "modalities": list(self.parts["modalities"]),
            "decision": asdict(self.parts["decision"]),
            "scored": report.get("scored"),
            "scores": {name: headline(found) for name, found in scores.items()},
        }

    @property
    def segments(self) -> bool:
        """Whether the weights were trained on masks."""
        return "segmentation" in weights_report.learned_of(self.parts["model_card"])

    def files(self, prediction: Mapping[str, Any]) -> dict[str, bytes]:
        """Encode a prediction as files, by their names.

        Args:
            prediction: see `predict`.

        Returns:
            mask.png for an image, mask.nii.gz for a volume; probability, cam and mask_deviation likewise, if present.
            No mask of weights that were not trained on masks.
        """
        encode, found = self.parts["writer"].encode, {}
        absent = set() if self.segments else {"pred"}
        for name, steps in {"pred": 1, "probability": 255, "cam": 255, "mask_deviation": 255}.items():
            if name in prediction and name not in absent:
                suffix, content = encode(prediction[name], steps)
                found[f"{'mask' if name == 'pred' else name}.{suffix}"] = content
        return found

    def dicom_seg(self, prediction: Mapping[str, Any], source: str | Path | bytes | MemoryFile) -> bytes:
        """Encode the predicted mask as DICOM SEG.

        Args:
            prediction: see `predict`.
            source: the predicted scan: a DICOM file, a folder of one series, or a file's content.

        Raises:
            UserError: when the series lacks attributes that a segmentation needs; `code` names the kind of fault; and
                for weights that were not trained on masks.
        """
        if not self.segments:
            raise UserError(messages.FLAGS["mask_not_learned"])
        mask = prediction["pred"].as_tensor()[0].cpu().numpy().astype("uint8")
        result = prediction["result"]
        return self.intake.segment(source, mask, result["model"], result.get("regions", ()))
