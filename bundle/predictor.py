"""One door to the network for everyone who has a scan: the bundle's own inference config, loaded once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError, reason_of
from .loading import BUNDLE_ROOT, parse

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
        self.model_path = Path(model) if model else root / "models" / "model.pt"
        if not self.model_path.is_file():
            raise UserError(
                f"{self.model_path}: no weights here; train some (python -m bundle pipeline) or name a file"
            )
        overrides: dict[str, Any] = {"model_path": str(self.model_path), "batch_size": batch_size}
        overrides |= {**_trained_as(self.model_path), **({"network_name": network} if network else {})}
        if device:
            overrides["device"] = f"$torch.device('{device}')"
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
            data["pred"] = self.parts["inferer"](image, self.network)[0].cpu()
        return dict(self.parts["postprocessing"](data))


def _trained_as(model_path: Path) -> dict[str, Any]:
    """Overrides of the inference config that fit the weights, from their report."""
    try:
        model = json.loads(model_path.with_name("report.json").read_text())["model"]
        return {key: model[key] for key in ("network_name", "modalities") if key in model}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def predict_files(
    predictor: Predictor, paths: Sequence[str | Path], output_dir: str | Path, overwrite: bool = False
) -> dict[str, Any]:
    """Predict files and folders; write answers, masks and `index.json`.

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
    write = parse("inference.yaml", ["writer"], output_dir=str(output_dir), overwrite=overwrite)["writer"]
    scans = list(_named_scans(paths, write.stem))
    index: dict[str, Any] = {}
    for scan, name in tqdm(scans, desc="predicting", unit="scan", disable=len(scans) < 2):
        try:
            files = write(predictor.predict(scan), name)
            index[str(scan)] = {kind: str(Path(file).relative_to(output_dir)) for kind, file in files.items()}
        except (UserError, OSError) as error:
            index[str(scan)] = {"error": str(error)}
    write.update_index(index)
    return index


def _named_scans(paths: Sequence[str | Path], stem: Callable[[Path], Path]) -> Iterator[tuple[Path, str]]:
    """Every scan with the name of its answer: the stem, or the whole file name where two scans share a stem."""
    found: list[tuple[Path, Path]] = []  # scan, and its place below the output folder
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        visible = [file for file in files if not file.name.startswith(".") or file == path]
        if not visible:
            raise UserError(f"{path}: no scan in this folder")
        found += [(file, file.relative_to(path) if path.is_dir() else Path(file.name)) for file in visible]
    full = Counter(str(place).lower() for _, place in found)
    stems = Counter(str(stem(place)).lower() for _, place in found)
    for scan, place in found:
        if full[str(place).lower()] > 1:
            raise UserError(f"{scan}: two inputs are called {place}; predict them into different folders")
        yield scan, str(place if stems[str(stem(place)).lower()] > 1 else stem(place))
