"""Fit the classifier of a scan's sequence by its look, and score it by left-out patient."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from tqdm import tqdm

from ..core.configs import components_of
from ..core.files import write_json
from ..inference.look_features import features_of, slices_to_look_at, tissue_in
from ..inference.sequence_by_look import LARGEST, SequenceClassifier
from ..io.datalists import Case

__all__ = ["FitSequences", "fit", "perturbed", "preprocessing_of", "synthetic"]

logger = logging.getLogger(__name__)

CLASSES = ("flair", "t1", "t1ce", "t2", "seg", "ct", "none")
SLICES, HIDDEN, NETWORKS, EPOCHS, DIGITS = 10, 24, 3, 300, 4
# Shares of left-out volumes of a sequence below the limits for rejection and for doubt
QUANTILES = {"least": 0.02, "doubt": 0.1}


class FitSequences:
    """Look at every sequence of every case, fit, and write the classifier with its evidence.

    Args:
        cases: of `gather_cases`, whose "sequences" name the files; "label" is what a mask looks like.
        unscored: sources that teach and are not scored: synthetic volumes.
        preprocessing: by sequence, from {"image": path} to the network's input (1, H, W, D).
        output: the JSON file to write, `models/sequences.json` of the bundle.
        folds: of the scores, by patient.
        seed: of the random samples.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]],
        output: str | Path,
        folds: int = 6,
        seed: int = 0,
        unscored: Sequence[str] = ("phantoms",),
    ) -> None:
        self.unscored = set(unscored)
        self.cases, self.preprocessing, self.output = cases, preprocessing, Path(output)
        self.folds, self.seed = folds, seed

    def run(self) -> None:
        """Look, fit, score, write."""
        rows = list(self._rows())
        features = np.stack([row["features"] for row in rows])
        told = np.array([CLASSES.index(row["class"]) for row in rows])
        groups, volumes = [row["group"] for row in rows], [row["volume"] for row in rows]
        left_out = np.zeros((len(rows), len(CLASSES)))
        for test in _folds(groups, self.folds, self.seed):
            train = ~test
            weights = _weights(told[train], [v for v, t in zip(volumes, train, strict=True) if t])
            left_out[test] = fit(features[train], told[train], weights, self.seed).probabilities(features[test])
        scored = [i for i, row in enumerate(rows) if row["source"] not in self.unscored]
        evidence, limits = _evidence([rows[i] for i in scored], left_out[scored])
        final = fit(features, told, _weights(told, volumes), self.seed)
        content = {name: getattr(final, name) for name in ("classes", "mean", "scale", "layers")}
        real = [rows[i] for i in scored if rows[i]["class"] in CLASSES[:4]]
        counts = (len({row["volume"] for row in real}), len({row["group"] for row in real}))
        fitted_on = "{} volumes of {} patients; CT and no head are synthetic".format(*counts)
        write_json(self.output, {**content, **limits, "fitted_on": fitted_on, "evidence": evidence})
        print(_as_text(evidence, limits))

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Features of slices, each as it is and once perturbed."""
        rng = np.random.default_rng(self.seed)
        for case in tqdm(self.cases, desc="looking", unit="case"):
            files = dict(case.get("sequences", {}))
            if "label" in case:
                files["seg"] = case["label"]
            for name, path in files.items():
                if name not in self.preprocessing:
                    continue
                try:
                    image = self.preprocessing[name]({"image": path})["image"]
                except Exception as error:
                    logger.warning(f"{path}: left out ({type(error).__name__})")
                    continue
                planes = torch.as_tensor(image)[0].movedim(-1, 0)
                chosen = slices_to_look_at(tissue_in(planes), SLICES)
                about = {"group": case["group"], "source": case["source"]}
                for z in chosen:
                    versions = {name: planes[z], f"{name}+": perturbed(planes[z], rng)}
                    if z == chosen[len(chosen) // 2]:
                        versions |= {kind: synthetic(planes[z], kind, rng) for kind in ("ct", "none")}
                    for version, plane in versions.items():
                        kind = version.rstrip("+")
                        if (found := features_of(plane)) is not None:
                            volume = f"{case['id']}/{name}/{kind}"
                            row = {**about, "class": kind, "volume": volume, "features": found}
                            yield {**row, "perturbed": version.endswith("+")}


def preprocessing_of(bundle_root: str | Path) -> dict[str, Any]:
    """What inference does to a scan, for each sequence, and for a mask as if it were one."""
    return {
        name: components_of(bundle_root, "inference.yaml", ["preprocessing"], modalities=[name])["preprocessing"]
        for name in CLASSES[:5]
    }


def _folds(groups: Sequence[str], count: int, seed: int) -> Iterator[np.ndarray]:
    """Rows to test in each fold, by patient: boolean (M,)."""
    patients = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {patients[i]: k % count for k, i in enumerate(order)}
    return (np.array([fold_of[group] == fold for group in groups]) for fold in range(count))


def perturbed(plane: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another contrast, blur and noise, as scanners, windows and JPEG give them; (H, W) -> (H, W)."""
    tissue = tissue_in(plane[None], whole=True)[0]
    values = plane.numpy()[tissue]
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    levels = np.clip((plane.numpy() - low) / max(high - low, 1e-6), 0, 1.2) ** rng.uniform(0.7, 1.4)
    levels = ndimage.gaussian_filter(levels, rng.uniform(0, 1)) + rng.normal(0, rng.uniform(0, 0.04), levels.shape)
    scores = (levels - levels[tissue].mean()) / max(float(levels[tissue].std()), 1e-6)
    return torch.where(torch.from_numpy(tissue), torch.from_numpy(scores).float().clamp(-3.9, 5.0), plane.min())


def synthetic(plane: torch.Tensor, kind: str, rng: np.random.Generator) -> torch.Tensor:
    """The head as a CT shows it, or something that is no head within its outline; (H, W) -> (H, W)."""
    tissue = tissue_in(plane[None], whole=True)[0]
    if kind == "ct":  # gray brain within narrow limits, white bone around it, thin scalp
        depth = ndimage.distance_transform_edt(tissue) / max(1.0, float(min(tissue.shape)) / 2)
        levels = rng.uniform(0.3, 0.4) + 0.01 * plane.numpy() + rng.normal(0, 0.01, plane.shape)
        bone = (depth > rng.uniform(0.01, 0.03)) & (depth < rng.uniform(0.06, 0.1))
        levels[bone] = 1.0 + rng.normal(0, 0.1, plane.shape)[bone]
    else:
        tissue = ndimage.gaussian_filter(rng.normal(size=plane.shape), rng.uniform(8, 40)) > rng.normal(0, 0.002)
        levels = ndimage.gaussian_filter(rng.normal(size=plane.shape), rng.uniform(0, 12))
        levels = np.where(rng.random() < 0.3, np.round(levels / (levels.std() + 1e-9)), levels)
    inside = levels[tissue]
    scores = (levels - inside.mean()) / max(float(inside.std()), 1e-9) if inside.size else levels
    return torch.where(torch.from_numpy(tissue), torch.from_numpy(scores).float().clamp(-3.9, 5.0), -4.0)


def _weights(told: np.ndarray, volumes: Sequence[str]) -> np.ndarray:
    """One volume as much as another, one class as much as another; mean 1."""
    sizes: dict[str, int] = defaultdict(int)
    for volume in volumes:
        sizes[volume] += 1
    weights = np.array([1.0 / sizes[volume] for volume in volumes])
    for kind in np.unique(told):
        weights[told == kind] /= weights[told == kind].sum()
    return np.asarray(weights / weights.mean())


def fit(features: np.ndarray, told: np.ndarray, weights: np.ndarray, seed: int = 0) -> SequenceClassifier:
    """Fit networks of one hidden layer to features (M, F) of classes (M,), weighted (M,)."""
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = torch.from_numpy(np.clip((features - mean) / scale, -LARGEST, LARGEST)).float()
    targets, weighted = torch.from_numpy(told), torch.from_numpy(weights).float()
    layers = []
    for number in range(NETWORKS):
        torch.manual_seed(seed * 1000 + number)
        hidden, output = torch.nn.Linear(features.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, len(CLASSES))
        network = torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Dropout(0.2), output)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-2)
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            noisy = inputs + 0.1 * torch.randn_like(inputs)
            losses = torch.nn.functional.cross_entropy(network(noisy), targets, reduction="none")
            (losses * weighted).mean().backward()
            optimizer.step()
        numbers = (hidden.weight.T, hidden.bias, output.weight.T, output.bias)
        layers.append([np.round(part.detach().numpy().astype(float), DIGITS).tolist() for part in numbers])
    return SequenceClassifier(CLASSES, np.round(mean, 5).tolist(), np.round(scale, 5).tolist(), layers)


def _evidence(rows: Sequence[Mapping[str, Any]], probabilities: np.ndarray) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Confusion matrices of volumes and slices, and by sequence the probability that nearly all its volumes reach."""
    plain = [i for i, row in enumerate(rows) if not row["perturbed"]]
    by_volume: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in plain:
        by_volume[(rows[i]["class"], rows[i]["volume"])].append(i)
    means = {key: probabilities[members].mean(axis=0) for key, members in by_volume.items()}
    volumes = np.zeros((len(CLASSES), len(CLASSES)), dtype=int)
    for (kind, _), mean in means.items():
        volumes[CLASSES.index(kind), int(mean.argmax())] += 1
    slices = np.zeros_like(volumes)
    for i in plain:
        slices[CLASSES.index(rows[i]["class"]), int(probabilities[i].argmax())] += 1
    limits: dict[str, dict[str, float]] = {name: {} for name in QUANTILES}
    below: dict[str, dict[str, Any]] = {name: {} for name in QUANTILES}
    for column, name in enumerate(CLASSES[:4]):
        own = sorted(mean[column] for (kind, _), mean in means.items() if kind == name)
        others = {k: [m[column] for (kind, _), m in means.items() if kind == k] for k in CLASSES if k != name}
        if own:
            for limit, quantile in QUANTILES.items():
                limits[limit][name] = round(float(own[int(quantile * len(own))]), 4)
                counts = {k: _count_below(values, limits[limit][name]) for k, values in {name: own, **others}.items()}
                below[limit][name] = counts
    return {"classes": CLASSES, "volumes": volumes.tolist(), "slices": slices.tolist(), "below": below}, limits


def _count_below(values: Sequence[float], limit: float) -> list[int]:
    """How many of how many values are below a limit."""
    return [int(np.sum(np.array(values) < limit)), len(values)]


def _as_text(evidence: Mapping[str, Any], limits: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"{'by volume':<12}" + "".join(f"{name:>8}" for name in CLASSES)]
    lines += [
        f"{name:<12}" + "".join(f"{n:>8}" for n in row) for name, row in zip(CLASSES, evidence["volumes"], strict=True)
    ]
    for limit, of in evidence["below"].items():
        for name, counts in of.items():
            told = ", ".join(f"{kind} {below} of {count}" for kind, (below, count) in counts.items())
            lines.append(f"{limit} for {name} ({limits[limit][name]}): below are {told}")
    return "\n".join(lines)
