"""The shortcut audit: does a classifier use the lesion, or other properties of the data?

It works for any function from images to probabilities; `AuditCases` audits this bundle's network.

Reference:
    DeGrave et al., AI for radiographic COVID-19 detection selects shortcuts over signal, Nat. Mach. Intell. 3, 2021.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..core.files import write_json
from ..core.messages import NOTICE
from ..dataset.sampling import SliceDataset
from ..evaluation.intervals import RESAMPLES
from ..evaluation.text_tables import table
from ..io.datalists import Case
from ..networks.multitask_unet import MultiTaskUNet, evaluating
from ..transforms import image_edits as change
from . import file_metadata as files
from . import questions as parts
from .cam_evaluation import ExplainCases
from .picture_properties import gray_levels

__all__ = ["PARTS", "AuditCases", "audit", "callable_of"]

Callback = Callable[[np.ndarray], np.ndarray]

PARTS = {  # name: question, rule of the verdict
    "source_only": (
        "How well does the source alone predict the label, over all sources?",
        "always note: if this AUC is high, a pooled AUC of the model is meaningless",
    ),
    "source_probe": (
        "Do the classifier's features predict the source?",
        "always note: a source that can be predicted can be used; AUC of each source against the rest",
    ),
    "within_source": (
        "How well does the model separate the classes within each source?",
        "pass if the interval of every source's AUC is above 0.5, else note",
    ),
    "leave_source_out": (
        "How well does the model separate the classes in sources outside its training data?",
        "as within_source, for sources outside the training data",
    ),
    "blanked": (
        "Does the model predict the label from images without brain?",
        "shortcut if |AUC - 0.5| on filled brains, corners, frame or rim of the head exceeds that of the area alone "
        f"by more than {parts.EXCESS} at the interval's lower bound; known lesions are erased before",
    ),
    "style_swap": (
        "Does the prediction depend on skull and compression, which differ between images and volumes?",
        f"shortcut if the AUC falls by more than {parts.LARGEST_FALL}, the interval of the fall is above 0 and that of "
        "the AUC before above 0.5",
    ),
    "lesion_erased": (
        "Does the probability fall when the lesion is erased?",
        "pass if the interval of the mean fall is above 0, else note; but shortcut if the model "
        "separates the classes (interval of the AUC above 0.5) and the interval of the fall ends below "
        f"{parts.SMALLEST_FALL} of the gap between slices with and without a tumor",
    ),
    "cam": (
        "Do the class activation maps (CAM) point at the lesion?",
        "shortcut if the CAMs' energy in the lesion is not above chance; pass if it is above chance, above that of a "
        "center prior and above that of random weights; else note",
    ),
    "metadata": (
        "Do properties of the files predict the label?",
        "shortcut of the data if the interval of the AUC from size, aspect ratio, suffix, bytes per pixel and border, "
        f"cross-validated on the test images of a source, is above {files.FILES_TELL}; the model's margin is over the "
        "better of file metadata and histogram, trained on the model's training images",
    ),
}


def audit(
    predict: Callback,
    dataset: SliceDataset,
    cases: Sequence[Case],
    features: Callback | None = None,
    trained_sources: Sequence[str] | None = None,
    explanation: Mapping[str, Any] | None = None,
    training: SliceDataset | None = None,
    seed: int = 0,
    batch_size: int = 8,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Audit a classifier with nine questions about shortcuts.

    Slices without a class are left out. The result does not depend on the order of the slices.

    Args:
        predict: from images (N, C, H, W) float32, background at -4, N at most `batch_size`, to probabilities of a
            tumor (N,) in [0, 1].
        dataset: slices without random transforms.
        cases: of the store: id, and "image", the path of the raw file.
        features: function from the same images to features of the classifier (N, F).
        trained_sources: names of the sources of the training data; None if unknown.
        explanation: report of `ExplainCases` about the same classifier.
        training: training slices of the classifier, without random transforms; the baselines are trained on its images,
            whose files are in `cases`.
        seed: of bootstraps and cross-validations.
        batch_size: largest number of images per call.
        resamples: of the bootstraps over patients and clusters.

    Returns:
        For each name in `PARTS` {"question", "rule", "verdict": "pass", "shortcut", "note" or "not applicable", "n",
        "values"}, and "summary": the names of the parts whose verdict is "shortcut". JSON, None for undefined values.

    Raises:
        ValueError: when the function does not return one probability per image.
    """
    predictions = _ask(predict, features, dataset, {case["id"]: case for case in cases}, batch_size, seed, resamples)
    found: dict[str, parts.Part] = {
        "source_only": parts.source_only(predictions),
        "source_probe": parts.source_probe(predictions),
        "within_source": parts.within_source(predictions),
        "leave_source_out": parts.leave_source_out(predictions, trained_sources),
        "blanked": parts.blanked(predictions),
        "style_swap": parts.style_swap(predictions),
        "lesion_erased": parts.lesion_erased(predictions),
        "cam": parts.cam(explanation),
        "metadata": files.metadata(predictions, None if training is None else files.pictures_of(training, cases)),
    }
    report: dict[str, Any] = {}
    for name, (question, rule) in PARTS.items():
        values, verdict, n = found[name]
        report[name] = {"question": question, "rule": rule, "verdict": verdict, "n": n, "values": values}
    report["summary"] = [name for name in PARTS if report[name]["verdict"] == parts.SHORTCUT]
    return report


def _ask(
    predict: Callback,
    features: Callback | None,
    dataset: SliceDataset,
    cases: Mapping[str, Case],
    batch_size: int,
    seed: int,
    resamples: int,
) -> parts.Predictions:
    """Predict every slice and its edited versions, sorted by case and index."""
    records = dataset.data
    chosen = [i for i, record in enumerate(records) if np.isfinite(record["cls"])]
    chosen.sort(key=lambda i: (records[i]["case"], records[i]["index"]))
    names = ("served", *parts.BLANKED, *parts.SWAPPED, "erased")
    probability = {name: np.full(len(chosen), np.nan) for name in names}
    area, gray, seen = [], [], []
    for start in tqdm(range(0, len(chosen), batch_size), desc="auditing", unit="batch"):
        altered: dict[str, list[tuple[int, np.ndarray]]] = {}
        for row in range(start, min(start + batch_size, len(chosen))):
            item = dataset[chosen[row]]
            image, foreground = (np.asarray(item[key], dtype=np.float32) for key in ("image", "foreground"))
            mask = np.asarray(item["mask"])[:1] if "mask" in item else np.zeros_like(foreground)
            for name, version in _versions(image, foreground, mask, records[chosen[row]]["kind"]):
                altered.setdefault(name, []).append((row, version))
            area.append(float((foreground > 0).sum()))
            gray.append(gray_levels(image))
        for name, entries in altered.items():
            rows, images = [row for row, _ in entries], np.stack([version for _, version in entries])
            probability[name][rows] = _checked(predict(images), len(rows))
        if features is not None:
            seen.append(np.asarray(features(np.stack([version for _, version in altered["served"]]))))
    return parts.Predictions(
        positive=np.array([records[i]["cls"] > 0.5 for i in chosen], dtype=bool),
        source=np.array([records[i]["source"] for i in chosen], dtype=str),
        group=np.array([records[i]["group"] for i in chosen], dtype=str),
        image=np.array([records[i]["kind"] == "image" for i in chosen], dtype=bool),
        path=np.array([str(cases.get(records[i]["case"], {}).get("image", "")) for i in chosen], dtype=str),
        area=np.array(area),
        gray=np.array(gray),
        probability=probability,
        features=np.concatenate(seen) if seen else None,
        seed=seed,
        resamples=resamples,
    )


def _versions(
    image: np.ndarray, foreground: np.ndarray, mask: np.ndarray, kind: str
) -> Iterator[tuple[str, np.ndarray]]:
    """A slice and its edited versions by name; known lesions are erased before the brain is hidden."""
    healthy = change.erase_lesion(image, mask) if mask.any() else image
    yield "served", image
    yield "filled", change.fill_brain(healthy, foreground)
    yield "corners", change.corners_only(image)
    yield "frame", change.frame_only(image)
    yield "rim", change.rim_only(healthy, foreground)
    if kind == "image":  # an image is normalized by its own statistics, which change without the skull
        yield "stripped_skull", change.standardize(change.strip_skull(image, foreground))
    else:
        yield "fake_skull", change.add_fake_skull(image, foreground)
        yield "jpeg", change.jpeg(image)
        if mask.any():
            yield "erased", healthy


def _checked(probabilities: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(probabilities, dtype=np.float64)
    if found.shape != (count,) or not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"the classifier must return {count} probabilities for {count} images, not {found!r}")
    return found


def callable_of(name: str) -> Callback:
    """Import a function by "package.module:function".

    Raises:
        ValueError: when there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found: Callback = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name}: no such function ({error}); write it as package.module:function") from None
    return found


class AuditCases:
    """Audit this bundle's network; write `audit.json` and print its verdicts.

    The probability is the sigmoid of each slice's first class logit, without temperature, thresholds and smoothing
    along z. So the AUC of volumes' slices differs from that of the evaluation; falls are uncalibrated probabilities.

    Args:
        dataset: slices without random transforms.
        cases: of the store, from `splits.load_split`.
        network: in any mode, on any device; not changed.
        output_dir: folder for `audit.json`.
        trained_sources: see `audit`.
        explanation: computes the CAMs of the network; None leaves this part out.
        predict: another classifier to audit, "package.module:function", see `audit`; None: the network.
        training: see `audit`.
        batch_size: slices per batch.
        seed: of bootstraps and cross-validations.
    """

    def __init__(
        self,
        dataset: SliceDataset,
        cases: Sequence[Case],
        network: MultiTaskUNet,
        output_dir: str | Path,
        trained_sources: Sequence[str] | None = None,
        explanation: ExplainCases | None = None,
        predict: str | None = None,
        training: SliceDataset | None = None,
        batch_size: int = 8,
        seed: int = 0,
    ) -> None:
        self.dataset, self.cases, self.network, self.output_dir = dataset, cases, network, Path(output_dir)
        self.trained_sources, self.explanation, self.training = trained_sources, explanation, training
        self.other = None if predict is None else callable_of(predict)
        self.batch_size, self.seed = batch_size, seed

    def run(self) -> dict[str, Any]:
        """Write `audit.json`, print a table, and return the report."""
        with evaluating(self.network):
            found = self._audit()
        report = {"notice": NOTICE, "seed": self.seed, **found}
        write_json(self.output_dir / "audit.json", report)
        rows = [[name, report[name]["n"], report[name]["verdict"], question] for name, (question, _) in PARTS.items()]
        print(table(["shortcut audit", "n", "verdict", "question"], rows))
        return report

    def _audit(self) -> dict[str, Any]:
        others = self.other is not None
        return audit(
            self.predict if self.other is None else self.other,
            self.dataset,
            self.cases,
            None if others else self.features,
            None if others else self.trained_sources,
            None if others or self.explanation is None else self.explanation.run(),
            self.training,
            seed=self.seed,
            batch_size=self.batch_size,
        )

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N,) of images (N, C, H, W)."""
        with torch.inference_mode():
            return torch.sigmoid(self._logits(images).cpu().double()).numpy()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Bottleneck features (N, F) of images (N, C, H, W), averaged over the foreground."""
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(next(self.network.parameters()).device)
            pooled = self.network.head.average(self.network.encoder(batch)[-1], self.network.foreground(batch))
        return pooled.float().cpu().numpy()

    def _logits(self, images: np.ndarray) -> torch.Tensor:
        """First class logits (N,), without the decoder."""
        network = self.network
        batch = torch.from_numpy(images).to(next(network.parameters()).device)
        return network.head(network.encoder(batch)[-1], network.foreground(batch))[:, 0]
