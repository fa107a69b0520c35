"""Fit the OOD detector on the features of training slices; score test slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..core.files import sha256_of, write_json
from ..dataset.sampling import SliceDataset
from ..inference.out_of_distribution import FILE, fit, save_ood_detector
from ..networks.multitask_unet import MultiTaskUNet, evaluating

__all__ = ["FitOODDetector"]


class FitOODDetector:
    """Fit the training slices' features; measure the distances of the tested scans.

    Args:
        network: any mode, on any device; comes back as it was.
        training: slices that it was trained on, without random transforms.
        tested: slices that it never saw; may be empty.
        output_dir: gets `ood_detector.npz`, without limits, and `distances.json`: "rows" of case, kind, distance.
        weights: the network's file, whose hash the detector gets.
        batch_size: slices a pass.
    """

    def __init__(
        self,
        network: MultiTaskUNet,
        training: SliceDataset,
        tested: SliceDataset,
        output_dir: str | Path,
        weights: str | Path,
        batch_size: int = 16,
    ) -> None:
        self.network, self.training, self.tested = network, training, tested
        self.output_dir, self.weights, self.batch_size = Path(output_dir), Path(weights), batch_size

    def run(self) -> dict[str, Any]:
        """Write the files; return the content of `distances.json`."""
        learned = fit(self._features(self.training, "fitting the OOD detector"))
        rows: dict[str, dict[str, Any]] = {}
        if len(self.tested):
            distances = learned.distance(self._features(self.tested, "measuring"))
            for record, distance in zip(self.tested.data, distances, strict=True):
                row = rows.setdefault(record["case"], {"case": record["case"], "kind": record["kind"], "all": []})
                row["all"].append(float(distance))
        scans = [{"case": r["case"], "kind": r["kind"], "distance": float(np.median(r["all"]))} for r in rows.values()]
        save_ood_detector(self.output_dir / FILE, learned, sha256_of(self.weights))
        content = {"rows": scans}
        write_json(self.output_dir / "distances.json", content)
        return content

    def _features(self, dataset: SliceDataset, words: str) -> np.ndarray:
        """Bottleneck averages (N, F) of all slices."""
        device, found = next(self.network.parameters()).device, []
        with evaluating(self.network), torch.inference_mode():
            for start in tqdm(range(0, len(dataset), self.batch_size), desc=words, unit="batch"):
                numbers = range(start, min(start + self.batch_size, len(dataset)))
                batch = torch.stack([dataset[number]["image"] for number in numbers]).to(device)
                bottleneck = self.network.encoder(batch)[-1]
                found.append(
                    self.network.head.average(bottleneck, self.network.foreground(batch)).float().cpu().numpy()
                )
        return np.concatenate(found)
