"""One door to the network for everyone who has a scan: the bundle's own inference config, loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import UserError, reason_of
from .loading import BUNDLE_ROOT, parse, torch_device
from .weights import find_weights, trained_as

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

    Raises:
        UserError: when there are no weights, or they do not fit.
    """

    PARTS = ("loaded", "preprocessing", "inferer", "postprocessing", "decision", "device", "model_card")

    def __init__(
        self,
        model: str | Path | None = None,
        network: str | None = None,
        device: str | None = None,
        batch_size: int = 8,
        root: Path = BUNDLE_ROOT,
    ) -> None:
        self.root, self.model_path = root, find_weights(model, root)
        overrides: dict[str, Any] = {"model_path": str(self.model_path), "batch_size": batch_size}
        overrides |= trained_as(self.model_path, network)
        if device:
            overrides["device"] = torch_device(device)
        try:
            self.parts = parse("inference.yaml", self.PARTS, root, **overrides)
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        self.network = self.parts["loaded"].eval()

    def predict(self, scan: str | Path | Sequence[str]) -> dict[str, Any]:
        """Predict one scan.

        Args:
            scan: path of a PNG, JPEG or NIfTI file, or one path per modality.

        Returns:
            "pred": MetaTensor (1, H, W, D) of 0 and 1 on the scan's own grid; "result": plain JSON with
            tumor_probability, tumor_detected, state, slice_probabilities, volume_ml, model, ...

        Raises:
            UserError: when the scan cannot be read, in one line.
        """
        import torch

        try:
            data = self.parts["preprocessing"]({"image": str(scan) if isinstance(scan, (str, Path)) else list(scan)})
        except Exception as error:
            reason = reason_of(error)
            raise (UserError(reason) if reason else error) from None
        with torch.inference_mode():
            image = data["image"].as_tensor()[None].to(self.parts["device"])  # (1, C, H, W, D)
            data["pred"] = self.parts["inferer"](image, self.network)[0]
        return dict(self.parts["postprocessing"](data))


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
