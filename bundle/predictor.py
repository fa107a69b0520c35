"""One door to the network for everyone who has a scan: the bundle's own inference config, loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, reason_of
from .intake import Intake, local_intake
from .loading import BUNDLE_ROOT, parse, torch_device
from .weights import find_weights, trained_as

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Predictor", "predict_files"]


class Predictor:
    """Answer both questions about a scan, with one pass of each slice through the network.

    Args:
        model: plain weights; the bundle's own if absent. The network's name and modalities come from the report beside
            them, if there is one.
        network: the network's name, where no report tells.
        device: torch device; the GPU if there is one.
        batch_size: slices a pass.
        root: the bundle's folder.
        intake: the door that scans come in by, with its limits; by default one for the user's own files.

    Raises:
        UserError: when there are no weights, or they do not fit.
    """

    PARTS = ("loaded", "preprocessing", "inferer", "inspected", "postprocessing", "decision", "device", "model_card")

    def __init__(
        self,
        model: str | Path | None = None,
        network: str | None = None,
        device: str | None = None,
        batch_size: int = 8,
        root: Path = BUNDLE_ROOT,
        intake: Intake | None = None,
    ) -> None:
        self.root, self.model_path = root, find_weights(model, root)
        overrides: dict[str, Any] = {"model_path": str(self.model_path), "batch_size": batch_size}
        overrides |= trained_as(self.model_path, network)
        self.intake = intake or local_intake(root, tuple(overrides.get("modalities", ())))
        if device:
            overrides["device"] = torch_device(device)
        try:
            self.parts = parse("inference.yaml", self.PARTS, root, **overrides)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        self.network = self.parts["loaded"].eval()

    def predict(
        self,
        scan: str | Path | bytes | np.ndarray | Sequence[str | Path | bytes],
        spacing_mm: Sequence[float] | None = None,
        with_map: bool = False,
        samples: int = 0,
    ) -> dict[str, Any]:
        """Predict one scan.

        Args:
            scan: path or content of a PNG, JPEG, NIfTI or DICOM file, path of a folder with one DICOM series, one of
                these per modality, or an array (H, W) or (H, W, D), see `as_file`.
            spacing_mm: of an array's axes.
            with_map: show where the tumour's probability comes from.
            samples: networks to ask how sure the answer is (Monte-Carlo dropout); 0 asks none.

        Returns:
            All on the scan's own grid (1, H, W, D): "pred", MetaTensor of 0 and 1; with map or samples "probability"
            in [0, 1], "map" in [0, 1], "mask_deviation" in [0, 0.5]. "result": plain JSON with tumor_probability,
            tumor_detected, state, flags, model; of volumes slice_probabilities, volume_ml, ...

        Raises:
            UserError: when the scan cannot be read, in one line.
        """
        import torch

        try:
            data = self.parts["preprocessing"]({"image": self._read(scan, spacing_mm)}, start=1)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        network = self.network
        if with_map or samples:
            network = self.parts["inspected"](network, with_map=with_map, samples=samples)
            data["planes"] = network.planes
        with torch.inference_mode():
            image = data["image"].as_tensor()[None].to(self.parts["device"])  # (1, C, H, W, D)
            data["pred"] = self.parts["inferer"](image, network)[0]
        return dict(self.parts["postprocessing"](data))

    def _read(self, scan: Any, spacing_mm: Sequence[float] | None) -> Any:
        """The scan as the first transform of preprocessing would load it."""
        if hasattr(scan, "__array__"):
            from .arrays import as_file

            return self.intake.read(as_file(scan, spacing_mm))
        if spacing_mm is not None:
            raise UserError("spacing_mm is for arrays alone, a file tells its own")
        return self.intake.read(scan)


def predict_files(
    predictor: Predictor, paths: Sequence[str | Path], output_dir: str | Path, overwrite: bool = False
) -> dict[str, Any]:
    """Predict files and folders; write answers, masks and `index.json`. What these weights answered before is kept.

    Args:
        predictor: the network.
        paths: files, and folders whose tree is kept.
        output_dir: where the answers go.
        overwrite: replace answers that are there.

    Returns:
        The index: input -> {"json", "mask"} relative to `output_dir`, or {"error": reason}.

    Raises:
        UserError: when there is no file at all.
    """
    from tqdm import tqdm

    output_dir = Path(output_dir)
    settings = {"dataset_dir": [str(path) for path in paths], "output_dir": str(output_dir), "overwrite": overwrite}
    try:
        parts = parse("inference.yaml", ["dataset#data", "writer"], predictor.root, **settings)
    except Exception as error:
        reason = reason_of(error)
        raise (UserError(reason) if reason else error) from None
    scans, write = parts["dataset#data"], parts["writer"]
    index: dict[str, Any] = {}
    try:
        for scan in tqdm(scans, desc="predicting", unit="scan", disable=len(scans) < 2):
            try:
                done = write.done_before(scan["name"], predictor.parts["model_card"]["sha256"])
                files = done or write(predictor.predict(scan["image"]), scan["name"])
                index[scan["image"]] = {kind: str(Path(file).relative_to(output_dir)) for kind, file in files.items()}
            except (UserError, OSError) as error:
                index[scan["image"]] = {"error": str(error)}
    finally:
        write.update_index(index)
    return index
