"""Score answers against references and write them down: one report for volumes and images, each source on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor

from .checkpoints import trained_on
from .datalists import Case
from .decision import NOTICE, Decision
from .files import write_json
from .metrics import boundary_f, classification_scores, overlap_scores
from .postprocessing import as_displayed, slice_axis
from .readers import BrainMriReader
from .tables import as_text

__all__ = ["ScoreCases", "provenance", "scoring_list"]

TOLERANCES_MM = (1.0, 2.0)


def scoring_list(cases: Sequence[Case], weights: str | Path | None) -> list[dict[str, Any]]:
    """Cases as the evaluator's data set reads them: the image's path, and which case it is.

    Raises:
        ValueError: when the weights were trained or chosen on any of them, by id or by content.
    """
    seen = trained_on(weights)
    contents = set(seen.values())
    known = [case["id"] for case in cases if case["id"] in seen or case["sha256"]["image"] in contents]
    if known:
        raise ValueError(f"{weights}: trained on {len(known)} of the {len(cases)} cases to score, such as {known[0]}")
    return [{"image": case["image"], "case": case["id"]} for case in cases]


class ScoreCases:
    """Compare every answer with its reference on the scan's own grid; write `report.json` and print the table.

    The evaluator runs the same preprocessing, inferer and postprocessing as inference does, so what is scored is what
    is served.

    Args:
        cases: id, source, kind, group, and "label" (path of a mask) or "cls".
        decision: temperature and thresholds.
        min_tumor_pixels: a slice shows a tumour from this area on (pixels of 1 mm2), none at 0; slices in between are
            left out and counted.
        output_dir: gets the report.
        facts: whatever the report should say about the run: model, split, seed.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        decision: Decision,
        min_tumor_pixels: int,
        output_dir: str | Path,
        facts: Mapping[str, Any],
    ) -> None:
        self.cases = {case["id"]: case for case in cases}
        self.decision, self.min_tumor_pixels = decision, min_tumor_pixels
        self.output_dir, self.facts = Path(output_dir), dict(facts)
        self.reader = BrainMriReader(["seg"])

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score_batch)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        self.patients: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []  # one a slice or image: source, group, class, probability

    def score_batch(self, engine: Engine) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.score(self.cases[batch["case"]], output["pred"], output["slice_logits"])

    def score(self, case: Case, mask: MetaTensor, slice_logits: np.ndarray) -> None:
        """Score one case.

        Args:
            case: see the class.
            mask: (1, H, W, D) of 0 and 1 on the scan's grid.
            slice_logits: (D,) tumour logits from the lowest slice to the highest.
        """
        probabilities = self.decision.probability(slice_logits)
        if "cls" in case:
            self._note(case, 0, float(case["cls"]), self.decision.volume_probability(probabilities), None)
        if "label" in case:
            reference = self.reader.get_data(self.reader.read(case["label"]))[0][0] > 0
            predicted = mask.as_tensor()[0].numpy() > 0
            self.patients.append(self._volume_scores(case, predicted, reference, mask))
            self._note_slices(case, predicted, reference, probabilities, mask.meta["original_affine"])

    def _volume_scores(
        self, case: Case, predicted: np.ndarray, reference: np.ndarray, mask: MetaTensor
    ) -> dict[str, Any]:
        spacing = np.linalg.norm(np.asarray(mask.meta["original_affine"], dtype=np.float64)[:3, :3], axis=0)
        millilitres = float(np.prod(spacing)) / 1000.0
        scores = {**overlap_scores(predicted, reference)}
        for tolerance in TOLERANCES_MM:
            scores[f"boundary_f_{tolerance:g}mm"] = boundary_f(predicted, reference, spacing.tolist(), tolerance)
        volumes = {
            "reference_ml": float(reference.sum()) * millilitres,
            "predicted_ml": float(predicted.sum()) * millilitres,
        }
        return {"id": case["id"], "patient": case["group"], **_plain({**scores, **volumes})}

    def _note_slices(
        self, case: Case, predicted: np.ndarray, reference: np.ndarray, probabilities: np.ndarray, affine: np.ndarray
    ) -> None:
        """Note each slice with brain: its area of tumour (mm2), its class, and how much was drawn on it."""
        step = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
        pixel_mm2 = float(np.prod(np.delete(step, slice_axis(affine)[0])))
        areas, drawn = (as_displayed(v, affine).sum(axis=(0, 1)) * pixel_mm2 for v in (reference, predicted))
        areas = areas.round(3)  # a rotated grid's 50 pixels are 49.9999 mm2
        for index in np.flatnonzero(np.isfinite(probabilities)):
            cls = math.nan if 0 < areas[index] < self.min_tumor_pixels else float(areas[index] > 0)
            self._note(case, int(index), cls, float(probabilities[index]), float(drawn[index]))

    def _note(self, case: Case, index: int, cls: float, probability: float, drawn_mm2: float | None) -> None:
        answer = {"case": case["id"], "source": case["source"], "group": case["group"], "slice": index}
        self.answers.append({**answer, "cls": cls, "probability": probability, "drawn_mm2": drawn_mm2})

    def finish(self, engine: Engine) -> None:
        report = self.report()
        write_json(self.output_dir / "report.json", report)
        print(as_text(report))

    def report(self) -> dict[str, Any]:
        """Everything that was scored, as plain JSON."""
        names = ["dice", "iou", *(f"boundary_f_{tolerance:g}mm" for tolerance in TOLERANCES_MM)]
        mean = {name: _mean([patient[name] for patient in self.patients]) for name in names}
        sources = sorted({answer["source"] for answer in self.answers})
        return {
            **self.facts,
            "notice": NOTICE,
            "decision": asdict(self.decision),
            "rules": {
                "tumor_slice": f"at least {self.min_tumor_pixels} pixels of 1 mm2; fewer, but not 0: left out",
                "region": "whole tumour, the one region that FLAIR supports",
                "empty": "no Dice where the reference is empty; what is drawn there counts as false positive",
            },
            "segmentation": {
                "n": len(self.patients),
                "mean": mean,
                "empty_slices": self._empty_slices(),
                "patients": sorted(self.patients, key=lambda patient: patient["dice"] or 0.0),
            },
            "classification": {source: self._source_scores(source) for source in sources},
        }

    def _source_scores(self, source: str) -> dict[str, Any]:
        answers = [answer for answer in self.answers if answer["source"] == source]
        known = [a for a in answers if math.isfinite(a["cls"]) and math.isfinite(a["probability"])]
        classes, probabilities = (np.array([a[key] for a in known]) for key in ("cls", "probability"))
        at_display = classification_scores(classes, probabilities, self.decision.display_threshold)
        return {
            **classification_scores(classes, probabilities, self.decision.operating_point),
            "groups": len({a["group"] for a in known}),
            "left_out": len(answers) - len(known),
            "at_display_threshold": {k: at_display[k] for k in ("threshold", "sensitivity", "specificity")},
            "cases": [{k: a[k] for k in ("case", "slice", "cls", "probability")} for a in known],
        }

    def _empty_slices(self) -> dict[str, Any]:
        """False positives where the reference is empty: how often, and how much."""
        drawn = [a["drawn_mm2"] for a in self.answers if a["cls"] == 0.0 and a["drawn_mm2"] is not None]
        positive = [area for area in drawn if area > 0]
        return {
            "n": len(drawn),
            "false_positive_rate": len(positive) / len(drawn) if drawn else None,
            "mean_false_positive_mm2": _mean(drawn),
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def provenance(weights: str | Path) -> str:
    """What is known of the cases that weights were trained on, in words for the report."""
    count = len(trained_on(weights))
    return f"{count} cases, none of them scored here" if count else "unknown: they may hold cases that are scored here"
