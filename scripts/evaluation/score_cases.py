"""Compare predictions with references in an evaluation; write predictions and report."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from scipy.special import softmax

from ..core.files import nan_to_none, write_json
from ..core.geometry import as_displayed, voxel_mm3
from ..core.label_codes import regions_of
from ..core.regions import TumorRegion, masks_of
from ..core.shared_work import is_first_process, of_all_processes, share_of, wait_for_all
from ..core.tumor_types import UNKNOWN, type_of
from ..core.weights_report import learned_of
from ..dataset.known_cases import known_cases
from ..inference.decision import Decision, kind_of
from ..io.datalists import Case
from ..io.readers import BrainMriReader
from ..networks.weights import trained_on, unknown_lineage
from .lesion_recall import matched_lesions
from .reports import make_report, of_learned
from .segmentation_scores import overlap_scores, segmentation_scores
from .text_tables import as_text

__all__ = ["ScoreCases", "provenance", "scoring_list", "trained_sources"]


def scoring_list(
    cases: Sequence[Case], weights: str | Path | None, subset: str = "test", allow_training_cases: bool = False
) -> list[dict[str, Any]]:
    """Items of the evaluator's data set: path of the image and id of the case; see `shared_work` of several processes.

    Args:
        cases: of a slice store's split, with their perceptual hashes.
        weights: the evaluated weights.
        subset: "val" for calibration, which may use validation cases of the weights, but no training cases.
        allow_training_cases: also score training cases; the report counts them.

    Raises:
        ValueError: when there is no case, or fewer than processes; or any case is a training case of the weights: by
            id, hash, patient or perceptual hash. Copies of another size or quality are found, other crops and edits
            are not.
    """
    if not cases:
        raise ValueError("no cases to score")
    known = known_cases(cases, trained_on(weights), {"train"} if subset == "val" else {"train", "val"})
    if known and not allow_training_cases:
        first, by = next(iter(known.items()))
        found = f"trained on {len(known)} of the {len(cases)} cases to score, such as {first} (same {by})"
        remedy = "if these are others of the same name, give NAME=DIR" if by == "name" else "leave them out"
        raise ValueError(f"{weights}: {found}; {remedy}; `evaluate --allow-training-cases` scores them all the same")
    return share_of([{"image": case["image"], "case": case["id"]} for case in cases], required=True)


def provenance(cases: Sequence[Case], weights: str | Path | None) -> str:
    """Description of the weights' training cases, for the report."""
    count, scored = len(trained_on(weights)), len(known_cases(cases, trained_on(weights)))
    if not count:
        return "unknown: they may include cases that are scored here"
    words = f"{count} cases, {scored or 'none'} of them scored here"
    return f"{words}; the initial weights may have further training cases" if unknown_lineage(weights) else words


def trained_sources(weights: str | Path | None) -> list[str] | None:
    """Sources of the weights' training cases; None if unknown."""
    return sorted({case.partition("/")[0] for case in trained_on(weights)}) or None


class ScoreCases:
    """Compare every prediction with its reference on the scan's own grid.

    The evaluator runs preprocessing, inferer and postprocessing of the inference config. A volume of one slice counts
    as an image, as in inference (`kind_of`). At the end `predictions.json` has one row per slice and image, and
    `report.json` their scores.

    Args:
        cases: id, source, kind, group, and "label" (path of a mask) or "cls".
        decision: temperature and thresholds.
        min_tumor_pixels: smallest area of a tumor slice (pixels of 1 mm2); slices with a smaller tumor are left out and
            counted.
        output_dir: folder for both files.
        facts: further entries of the report: model, split, seed.
        printed: print the scores as tables.
        tumor_types: that the weights tell apart; they are scored in images whose type is known.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        decision: Decision,
        min_tumor_pixels: int,
        output_dir: str | Path,
        facts: Mapping[str, Any],
        printed: bool = True,
        tumor_types: Sequence[str] = (),
    ) -> None:
        self.tumor_types = tuple(tumor_types)
        self.cases = {case["id"]: case for case in cases}
        self.decision, self.min_tumor_pixels = decision, min_tumor_pixels
        self.output_dir, self.facts, self.printed = Path(output_dir), dict(facts), printed
        self.reader = BrainMriReader(["seg"])

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score_batch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        self.patients: dict[str, dict[str, Any]] = {}  # of each volume with a mask
        self.predictions: dict[str, list[dict[str, Any]]] = {}  # of each case: one per slice or image

    def score_batch(self, engine: Engine) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            known = output["result"].get("regions", ())
            found = (output["pred"], output["slice_logits"], output["image"].affine, known, output.get("type_logits"))
            self.score(self.cases[batch["case"]], *found)

    def score(
        self,
        case: Case,
        mask: MetaTensor,
        slice_logits: np.ndarray,
        canvas: np.ndarray,
        regions: Sequence[TumorRegion] = (),
        type_logits: np.ndarray | None = None,
    ) -> None:
        """Score one case.

        Args:
            case: see the class.
            mask: (1, H, W, D) on the scan's grid.
            slice_logits: (D,) tumor logits from inferior to superior, NaN for skipped slices.
            canvas: affine (4, 4) of the network's input; areas are counted in its pixels, as in training, which are
                1 mm2 if the file's spacing was used.
            regions: of the mask, see `masks_of`.
            type_logits: (T, D) of the same slices, of weights that tell types apart.
        """
        if "cls" in case:  # a picture, also one with a training mask: its volume is scored separately
            share, cls = float((mask > 0).float().mean()), float(case["cls"])
            self._note(case, 0, cls, slice_logits[0], predicted_share=share, **self._types(case, type_logits))
        elif "label" in case:
            values = self.reader.get_data(self.reader.read(case["label"]))[0][0]
            predicted_regions = masks_of(mask.as_tensor()[0].numpy(), regions)
            references = regions_of(values, case, list(predicted_regions))
            predicted, reference = predicted_regions["wt"], references[0]
            affine = np.asarray(mask.meta["original_affine"], dtype=np.float64)
            self.patients[case["id"]] = _volume_scores(case, predicted, reference, affine)
            if len(references) > 1:
                self.patients[case["id"]]["regions"] = _region_scores(predicted_regions, references, affine)
            pixel = voxel_mm3(affine) / voxel_mm3(canvas)
            areas, predicted_areas = (as_displayed(v, affine).sum(axis=(0, 1)) * pixel for v in (reference, predicted))
            self._note_slices({**case, "kind": kind_of(slice_logits)}, areas, predicted_areas, slice_logits)

    def _note_slices(self, case: Case, areas: np.ndarray, predicted: np.ndarray, logits: np.ndarray) -> None:
        """Note each slice with a prediction or a tumor: areas of reference and predicted mask (D,), class, logit."""
        areas = areas.round(3)  # a rotated grid's 50 pixels are 49.9999 mm2
        tumor = np.flatnonzero(areas > 0)
        for index in np.flatnonzero(np.isfinite(logits) | (areas > 0)):
            cls = None if 0 < areas[index] < self.min_tumor_pixels else float(areas[index] > 0)
            away = int(np.abs(tumor - index).min()) if len(tumor) else None
            measured = {
                "tumor_mm2": float(areas[index]),
                "predicted_mm2": float(predicted[index]),
                "slices_from_tumor": away,
            }
            self._note(case, int(index), cls, logits[index], **measured)

    def _types(self, case: Case, logits: np.ndarray | None) -> dict[str, Any]:
        """The type of an image's tumor, None if the data do not tell it, and the probability of each, given a tumor."""
        if logits is None or not self.tumor_types:
            return {}
        told = type_of(case, self.tumor_types) if case["cls"] else UNKNOWN
        shares = dict(zip(self.tumor_types, softmax(logits[:, 0]).tolist(), strict=True))
        known = bool(np.isfinite(logits[:, 0]).all())
        return {
            "tumor_type": None if told == UNKNOWN else self.tumor_types[told],
            "type_probabilities": shares if known else None,
        }

    def _note(self, case: Case, index: int, cls: float | None, logit: float, **measured: Any) -> None:
        identity = {"case": case["id"], "slice": index, **{key: case[key] for key in ("source", "kind", "group")}}
        known = float(logit) if math.isfinite(logit) else None
        self.predictions.setdefault(case["id"], []).append({**identity, "cls": cls, "logit": known, **measured})

    def finish(self, engine: Engine) -> None:
        patients, predictions = of_all_processes(self.patients), of_all_processes(self.predictions)
        if is_first_process():
            self._write(ChainMap(*patients), ChainMap(*predictions))
        wait_for_all()

    def _write(self, patients: Mapping[str, dict[str, Any]], predictions: Mapping[str, list[dict[str, Any]]]) -> None:
        """Write both files, with the cases in their given order."""
        missing = sum("label" not in case and "cls" not in case for case in self.cases.values())
        facts = {**self.facts, "without_reference": missing}
        content: dict[str, Any] = {"facts": facts, "min_tumor_pixels": self.min_tumor_pixels}
        content["segmentation"] = [patients[id] for id in self.cases if id in patients]
        content["predictions"] = [row for id in self.cases for row in predictions.get(id, ())]
        content = of_learned(content, learned_of(facts.get("model", {})))
        write_json(self.output_dir / "predictions.json", content)
        report = make_report(content, self.decision)
        write_json(self.output_dir / "report.json", report)
        if self.printed:
            print(as_text(report))


def _region_scores(
    predicted: Mapping[str, np.ndarray], references: np.ndarray, affine: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Dice of each region by its name, None where the reference is empty, and volumes of both masks in ml."""
    milliliters, scores = voxel_mm3(affine) / 1000.0, {}
    for (name, mask), reference in zip(predicted.items(), references, strict=True):
        volumes = {"reference_ml": reference.sum() * milliliters, "predicted_ml": mask.sum() * milliliters}
        scores[name] = nan_to_none({"dice": overlap_scores(mask, reference)["dice"], **volumes})
    return scores


def _volume_scores(case: Case, predicted: np.ndarray, reference: np.ndarray, affine: np.ndarray) -> dict[str, Any]:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    milliliters = voxel_mm3(affine) / 1000.0
    scores = segmentation_scores(predicted, reference, spacing.tolist())
    volumes = {
        "reference_ml": float(reference.sum()) * milliliters,
        "predicted_ml": float(predicted.sum()) * milliliters,
    }
    identity = {"id": case["id"], "source": case["source"], "patient": case["group"]}
    lesions = matched_lesions(predicted, reference, milliliters)
    return {**identity, **nan_to_none({**scores, **volumes}), **lesions}
