"""Evaluate class activation maps (CAM): scores of every case, figures, and CAMs of randomized networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..core.documents import Kind
from ..core.files import nan_to_none, read_json, write_json
from ..core.messages import NOTICE
from ..core.shared_work import in_order, is_first_process, share_of, wait_for_all
from ..core.statistics import mean_defined
from ..dataset.sampling import SliceDataset
from ..inference.decision import Decision
from ..networks.cam import encode_with_cam
from ..networks.multitask_unet import MultiTaskUNet, evaluating
from ..transforms.preprocessing import tissue_of
from .cam_figures import draw_cams
from .cam_metrics import Look, cam_scores, energy_ratio, rank_correlation, worst_first

__all__ = ["ExplainCases", "cam_scores", "randomized", "sanity"]

COPIES, SAMPLE = 5, 32  # number of randomized networks, and of slices on which they are evaluated
OF_MASK = ("pointing", "energy_inside", "chance", "center_pointing", "center_energy")
RULES = {
    "slices": "volumes: those with a tumor; images: all; means are over slices with a CAM",
    "probability": "of the single slice, calibrated; in a volume's prediction slices are smoothed along z",
    "order": "worst first: by error of the probability or CAM outside the head, whichever is larger",
    "without_map": "slices whose CAM is zero, so that its scores are undefined",
    "energy_ratio": "mean energy_inside / mean chance: 1 is no better than a uniform map over the head",
    "center": "a Gaussian at the center of the head, independent of the image",
    "sample": "slices for the randomized networks; sample_energy_ratio is that of the trained network there",
    "randomized_energy_ratio": f"mean of {COPIES} networks with random weights",
    "sanity": "rank correlation with their CAMs within tissue, good near 0; sanity_head: only the head randomized",
}

Row = dict[str, Any]


def randomized(network: MultiTaskUNet, seed: int, part: str = "") -> MultiTaskUNet:
    """Copy a network with random weights; statistics of normalization are reset.

    Args:
        network: not changed.
        seed: the same seed gives the same weights on every device; the global random state is not changed.
        part: name of the submodule to randomize; "": the whole network.

    Raises:
        ValueError: when a module has parameters but no `reset_parameters`.
    """
    device = next(network.parameters()).device
    copied = copy.deepcopy(network).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators too
        for name, module in copied.get_submodule(part).named_modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif next(module.parameters(recurse=False), None) is not None:
                raise ValueError(f"'{name}' ({type(module).__name__}) cannot be randomized: it has no reset_parameters")
    return copied.to(device)


def sanity(network: MultiTaskUNet, images: Tensor, seed: int, part: str = "", copies: int = COPIES) -> float:
    """Mean Spearman rank correlation between a network's CAMs and those of its randomized copies.

    CAMs that depend on the trained weights change with random weights: the correlation is near 0 (within about 0.2 for
    coarse CAMs). Near 1 they depend on the image or the architecture only. A low value does not show that the CAM is
    correct. With part "head" a high value means that CAMs show the encoder's activity, independent of the classifier.

    Only pixels of tissue are ranked: the background is alike for all networks and would count as agreement.

    Args:
        network: in evaluation mode.
        images: (B, C, H, W) float, background at -4.
        seed: of the random weights.
        part: the randomized submodule, see `randomized`.
        copies: number of randomized networks; a single one can correlate by chance.

    Returns:
        In [-1, 1]; NaN if no image has a CAM within tissue from the network and from a copy.

    Reference:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018 (model parameter randomization test).
    """
    random = (_maps(copied, images) for copied in _randomized_copies(network, seed, part, copies))
    return _agreement(images, _maps(network, images), random)


def _agreement(images: Tensor, own: np.ndarray, others: Iterable[np.ndarray]) -> float:
    """Mean rank correlation within tissue of CAMs (B, H, W) with others of the same images."""
    tissue = tissue_of(images).cpu().numpy()
    pairs = ((a[inside], b[inside]) for maps in others for a, b, inside in zip(own, maps, tissue, strict=True))
    return mean_defined(rank_correlation(a, b) for a, b in pairs)


def _randomized_copies(
    network: MultiTaskUNet, seed: int, part: str = "", copies: int = COPIES
) -> Iterator[MultiTaskUNet]:
    return (randomized(network, seed * copies + number, part) for number in range(copies))


def _maps(network: MultiTaskUNet, images: Tensor, batch_size: int = 8) -> np.ndarray:
    """CAMs: (B, C, H, W) -> (B, H, W)."""
    return np.concatenate([encode_with_cam(network, part)[2][:, 0].cpu().numpy() for part in images.split(batch_size)])


def _probability(decision: Decision, logits: np.ndarray, kind: Kind) -> np.ndarray:
    """Calibrated probabilities of logits (B,) of slices of a volume or of images."""
    return decision.probability(logits, kind)


class ExplainCases:
    """Compute the CAMs of a data set's slices, score them and draw the worst of each source.

    Of volumes slices with a tumor (class 1) are used, of images all. Means are over slices.

    Args:
        dataset: slices without random transforms.
        network: in any mode, on any device; not changed.
        decision: for the probability.
        output_dir: folder for `explanation.json` and `cam_SOURCE.png`.
        batch_size: slices in a batch.
        most: tiles of a figure; a volume has one, at its largest lesion.
        seed: of the randomized networks and of their sample of slices.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        network: MultiTaskUNet,
        decision: Decision,
        output_dir: str | Path,
        batch_size: int = 8,
        most: int = 24,
        seed: int = 0,
    ) -> None:
        self.dataset, self.network, self.decision, self.output_dir = dataset, network, decision, Path(output_dir)
        self.batch_size, self.most, self.seed = batch_size, most, seed

    def run(self) -> dict[str, Any]:
        """Write `explanation.json` and the figures.

        Returns:
            The content: for each source n, means of the scores, checks, and one row per slice, worst first.
        """
        records = self.dataset.data
        chosen = [i for i, record in enumerate(records) if record["kind"] == "image" or record["cls"] == 1.0]
        mine = share_of(chosen)
        with evaluating(self.network):
            looks = tqdm(
                self._looks(mine), total=len(mine), desc="explaining", unit="slice", disable=not is_first_process()
            )
            rows = in_order([{"number": number, **look.row()} for number, look in zip(mine, looks, strict=True)])
            if is_first_process():
                self._write(rows)
        wait_for_all()
        return dict(read_json(self.output_dir / "explanation.json"))

    def _write(self, rows: Sequence[Row]) -> None:
        of_source: dict[str, list[Row]] = {}
        for row in rows:
            of_source.setdefault(self.dataset.data[row["number"]]["source"], []).append(row)
        sources = {source: self._report(sorted(of_source[source], key=worst_first)) for source in sorted(of_source)}
        for source in sources:
            self._draw(source, of_source[source])
        report = {"notice": NOTICE, "rules": RULES, "seed": self.seed, "sources": sources}
        write_json(self.output_dir / "explanation.json", report)

    def _looks(self, numbers: Sequence[int]) -> Iterator[Look]:
        """CAMs of these records of the data set, in this order, without the decoder."""
        for start in range(0, len(numbers), self.batch_size):
            part = numbers[start : start + self.batch_size]
            items = [self.dataset[number] for number in part]
            _, cls, cam = encode_with_cam(self.network, self._images(items))
            logits, planes = cls[:, 0].float().cpu().numpy(), cam[:, 0].cpu().numpy()
            for number, item, logit, plane in zip(part, items, logits, planes, strict=True):
                probability = _probability(self.decision, logit, self.dataset.data[number]["kind"])
                yield Look(item, plane, float(probability))

    def _images(self, items: Sequence[Mapping[str, Any]]) -> Tensor:
        return torch.stack([item["image"] for item in items]).to(next(self.network.parameters()).device)

    def _report(self, rows: Sequence[Row]) -> dict[str, Any]:
        """The report of one source."""
        mapped = [row for row in rows if math.isfinite(row["outside_brain"])]
        with_mask = sum(row["lesion"] > 0 for row in rows)
        sample = [rows[i] for i in sorted(np.random.default_rng(self.seed).permutation(len(rows))[:SAMPLE])]
        items = [self.dataset[row["number"]] for row in sample]
        images = self._images(items)
        own, random = (
            _maps(self.network, images),
            [_maps(copied, images) for copied in _randomized_copies(self.network, self.seed)],
        )
        report: dict[str, Any] = {"n": len(rows), "without_map": len(rows) - len(mapped), "with_mask": with_mask}
        report["outside_brain"] = mean_defined(row["outside_brain"] for row in mapped)
        if with_mask:
            report |= {name: mean_defined(row[name] for row in mapped) for name in OF_MASK}
            report["energy_ratio"] = energy_ratio(mapped)
            report["center_energy_ratio"] = energy_ratio(mapped, "center_energy")
            scores = [[Look(*pair, math.nan).row() for pair in zip(items, maps, strict=True)] for maps in random]
            report["randomized_energy_ratio"] = mean_defined(energy_ratio(copied) for copied in scores)
            report["sample_energy_ratio"] = energy_ratio(sample)
        report["sample"] = len(sample)
        report["sanity"] = _agreement(images, own, random)
        report["sanity_head"] = sanity(self.network, images, self.seed, "head")
        names = ["case", "index", "cls", "probability", *(OF_MASK if with_mask else ()), "outside_brain"]
        return nan_to_none({**report, "cases": [{name: row[name] for name in names} for row in rows]})

    def _draw(self, source: str, rows: Sequence[Row]) -> None:
        """Draw one tile per case, at the slice with its largest lesion."""
        tiles: dict[str, Row] = {}
        for row in rows:
            if row["case"] not in tiles or row["lesion"] > tiles[row["case"]]["lesion"]:
                tiles[row["case"]] = row
        shown = sorted(tiles.values(), key=worst_first)[: self.most]
        headline = f"{source}, the worst {len(shown)} of {len(tiles)}: wrong predictions or CAM outside the head first"
        draw_cams(list(self._looks([row["number"] for row in shown])), self.output_dir / f"cam_{source}.png", headline)
