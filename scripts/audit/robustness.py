"""Scores of predictions of corrupted scans, and how many wrong ones no flag warns of."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from monai.data import MetaTensor
from tqdm import tqdm

from ..core.documents import SCHEMA_VERSION
from ..core.files import content_sha256, read_json, write_json
from ..core.geometry import as_displayed, voxel_mm3
from ..core.label_codes import tumor_of
from ..core.messages import NOTICE
from ..evaluation.classification_scores import expected_calibration_error, resampled_scores
from ..evaluation.intervals import RESAMPLES, bootstrap, interval_of_mean
from ..evaluation.patient_calls import LOW_DICE
from ..evaluation.reports import patient_scores
from ..evaluation.score_cases import scoring_list
from ..evaluation.segmentation_scores import overlap_scores
from ..evaluation.text_tables import table
from ..inference.decision import Decision, kind_of
from ..io.datalists import Case
from ..io.readers import BrainMriReader
from ..transforms.corruptions import CORRUPTIONS, WORST, applies, corrupt, visible_part

__all__ = ["UNCORRUPTED", "Predicting", "ScoreCorrupted", "is_wrong", "summary_of"]

UNCORRUPTED = "none"
UNRELATED = {  # flags that an artifact cannot raise: of the weights, and of the file's header
    *("report_of_other_weights", "mask_not_learned", "class_not_learned", "ood_score_missing", "sequence_unchecked"),
    *("spacing_estimated", "spacing_implausible", "thickness_implausible", "orientation_unknown", "position_missing"),
    *("series_chosen", "sagittal_slice", "coronal_slice"),
}
RULES = {
    "severity": "0: unchanged, to 5; strengths are in scripts/transforms/corruptions.py",
    "wrong": f"tumor where there is none, no tumor where there is one, or a tumor with a Dice below {LOW_DICE}",
    "wrong_without_flag": "of all scans; uncertain and no prediction are not wrong",
    "flagged": "scans with a flag of the image; flags of the file's header and of the weights do not count",
    "refused": "scans that cannot be predicted, with a message; their mask is empty",
    "dice": "of the part that is left where a scan is cropped; mean over patients, Student's t",
    "roc_auc": "within the source, of slices or images with a prediction; intervals over patients and clusters",
}

Row = dict[str, Any]


class Predicting(Protocol):
    """The Python API of predictions."""

    def read(self, scan: Any) -> MetaTensor:
        """A scan (C, H, W, D)."""

    def infer(self, image: MetaTensor) -> dict[str, Any]:
        """Its prediction: pred, slice_logits, image, result."""


class ScoreCorrupted:
    """Predict each labeled case at each severity of each corruption, and score the predictions.

    A case's predictions are kept in `output_dir`/cases, so that an interrupted run continues.

    Args:
        cases: id, source, group, image, and "label" (path of a mask) or "cls"; others are left out.
        model_path: the weights; cases that they were trained on are refused.
        output_dir: folder for the files.
        min_tumor_pixels: smallest area of a tumor slice, see `ScoreCases`.
        corruptions: names; None: all.
        severities: 0 to 5; 0 is always scored.
        seed: of the corruptions and intervals.
        allow_training_cases: see `scoring_list`.
        resamples: of the bootstrap.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        model_path: str | Path,
        output_dir: str | Path,
        min_tumor_pixels: int = 50,
        corruptions: Sequence[str] | None = None,
        severities: Sequence[int] | None = None,
        seed: int = 0,
        allow_training_cases: bool = False,
        resamples: int = RESAMPLES,
    ) -> None:
        scoring_list(cases, model_path, allow_training_cases=allow_training_cases)
        self.cases = [case for case in cases if "label" in case or "cls" in case]
        self.model_path, self.output_dir, self.min_tumor_pixels = model_path, Path(output_dir), min_tumor_pixels
        self.corruptions = [name for name in CORRUPTIONS if corruptions is None or name in corruptions]
        chosen = range(WORST + 1) if severities is None else severities
        self.severities = sorted({int(severity) for severity in chosen} - {0})
        self.seed, self.resamples, self.reader = seed, resamples, BrainMriReader(["seg"])

    def run(self, predictor: Predicting, decision: Decision, model: Mapping[str, Any]) -> dict[str, Any]:
        """Write `robustness.json` and print a table.

        Args:
            predictor: reads and predicts scans.
            decision: of its weights.
            model: description of its weights.

        Returns:
            The content of the file: by source and corruption one row of scores per severity.
        """
        settings = {"corruptions": self.corruptions, "severities": self.severities, "seed": self.seed}
        identity = {**settings, "model": dict(model), "decision": decision.digest()}
        predicted: dict[str, list[Row]] = defaultdict(list)
        for case in tqdm(self.cases, desc="corrupting", unit="case"):
            predicted[case["source"]] += self._rows_of(case, predictor, identity)
        content = {
            "schema_version": SCHEMA_VERSION,
            "notice": NOTICE,
            **identity,
            "rules": RULES,
            "sources": {
                source: summary_of(rows, decision, self.resamples, self.seed) for source, rows in predicted.items()
            },
        }
        write_json(self.output_dir / "robustness.json", content)
        print(as_text(content))
        return content

    def _rows_of(self, case: Case, predictor: Predicting, identity: Mapping[str, Any]) -> list[Row]:
        """Predictions of a case under all conditions, those of an earlier run if they are of the same."""
        file = self.output_dir / "cases" / f"{case['id']}.json"
        files = [case["image"]] if isinstance(case["image"], str) else list(case["image"])
        own = {**identity, "scan": [content_sha256(path) for path in files]}
        if file.is_file() and (kept := read_json(file))["identity"] == own:
            return list(kept["rows"])
        rows = list(self._predictions(case, predictor))
        write_json(file, {"identity": own, "rows": rows})
        return rows

    def _predictions(self, case: Case, predictor: Predicting) -> Iterator[Row]:
        image = predictor.read(case["image"])
        reference = None
        if "label" in case and "cls" not in case:
            reference = tumor_of(self.reader.get_data(self.reader.read(case["label"]))[0][0], case)
        known = {"case": case["id"], "patient": case["group"]}
        conditions = [(name, s) for name in self.corruptions for s in self.severities if applies(name, image)]
        for name, severity in [(UNCORRUPTED, 0), *conditions]:
            made = corrupt(image, name, severity, self._seed(case["id"], name)) if severity else image.clone()
            part = visible_part(name, severity, image)
            shown = None if reference is None else reference[part]
            found = self._compared(case, predictor, made, shown)
            yield {**known, "corruption": name, "severity": severity, **found}

    def _seed(self, case: str, name: str) -> list[int]:
        return [self.seed, zlib.crc32(case.encode()), zlib.crc32(name.encode())]

    def _compared(self, case: Case, predictor: Predicting, image: MetaTensor, reference: np.ndarray | None) -> Row:
        """One prediction, compared with the class of an image or the mask (H, W, D) of a volume."""
        tumor = bool(case["cls"]) if reference is None else bool(reference.any())
        try:
            prediction = predictor.infer(image)
        except ValueError as error:  # of what is left of the scan, in one line
            dice = 0.0 if reference is not None and tumor else None
            empty: Row = {"state": "no_prediction", "flags": [], "kind": None, "dice": dice, "slices": []}
            return {"tumor": tumor, "refused": str(error), **empty}
        result, logits = prediction["result"], np.asarray(prediction["slice_logits"])
        classes: list[float | None] = [] if reference is not None else [float(case["cls"])]
        dice = None
        if reference is not None:
            mask = prediction["pred"].as_tensor()[0].cpu().numpy() > 0
            affine = np.asarray(prediction["pred"].meta["original_affine"], dtype=np.float64)
            pixel = voxel_mm3(affine) / voxel_mm3(prediction["image"].affine)
            areas = (as_displayed(reference, affine).sum(axis=(0, 1)) * pixel).round(3)
            classes = [None if 0 < area < self.min_tumor_pixels else float(area > 0) for area in areas]
            if tumor and "mask_not_learned" not in {flag["code"] for flag in result["flags"]}:
                dice = float(overlap_scores(mask, reference)["dice"])
        predicted = result["tumor_probability"] is not None
        slices = [
            [cls, float(logit)]
            for cls, logit in zip(classes, logits, strict=True)
            if predicted and cls is not None and np.isfinite(logit)
        ]
        flags = sorted({flag["code"] for flag in result["flags"]})
        found = {"state": result["state"], "flags": flags, "kind": kind_of(logits), "dice": dice, "slices": slices}
        return {"tumor": tumor, "refused": None, **found}


def is_wrong(row: Mapping[str, Any]) -> bool:
    """Whether a prediction is wrong, see `RULES`."""
    missed = row["dice"] is not None and row["dice"] < LOW_DICE
    return (row["state"] == "tumor" and (not row["tumor"] or missed)) or (row["state"] == "no_tumor" and row["tumor"])


def summary_of(
    rows: Sequence[Mapping[str, Any]], decision: Decision, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, list[Row]]:
    """Scores of one source: by corruption one row per severity, the first of the unchanged scans.

    Args:
        rows: predictions, as `ScoreCorrupted` keeps them.
        decision: for calibrated probabilities.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    by_condition: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_condition[row["corruption"], row["severity"]].append(row)
    scores = {condition: _scores(found, decision, resamples, seed) for condition, found in by_condition.items()}
    names = [name for name in CORRUPTIONS if any(name == found for found, _ in scores)]
    return {
        name: [
            {"severity": severity, **found}
            for (own, severity), found in sorted(scores.items(), key=lambda item: item[0][1])
            if own in (UNCORRUPTED, name)
        ]
        for name in names or [UNCORRUPTED]
    }


def _scores(rows: Sequence[Mapping[str, Any]], decision: Decision, resamples: int, seed: int) -> Row:
    """Scores under one condition."""
    dice = list(patient_scores(rows, "dice").values())
    pairs = [(row, cls, logit) for row in rows for cls, logit in row["slices"]]
    classes = np.array([cls for _, cls, _ in pairs])
    probabilities = np.array([float(decision.probability(logit, row["kind"])) for row, _, logit in pairs])
    of_slices: Mapping[str, Any] = {}
    intervals: Mapping[str, Any] = {}
    if pairs:
        scorer = resampled_scores(classes, probabilities, 0.5)
        of_slices = {**scorer(np.arange(len(pairs))), "ece": expected_calibration_error(classes, probabilities)}
        intervals = bootstrap([row["patient"] for row, _, _ in pairs], scorer, resamples, seed)
    wrong = np.array([is_wrong(row) for row in rows])
    flags = [set(row["flags"]) - UNRELATED for row in rows]
    flagged = np.array([bool(found) for found in flags])
    shares = {"wrong": wrong, "wrong_without_flag": wrong & ~flagged, "flagged": flagged}
    groups = [row["patient"] for row in rows]
    of_shares = bootstrap(
        groups, lambda chosen: {n: float(s[chosen].mean()) for n, s in shares.items()}, resamples, seed
    )
    mean = {"value": float(np.mean(dice)), "ci95": interval_of_mean(dice, (0.0, 1.0))} if dice else _unknown()
    return {
        "n": len(rows),
        "groups": len(set(groups)),
        "slices": len(pairs),
        "dice": {**mean, "patients": len(dice)},
        **{name: {"value": of_slices.get(name), "ci95": intervals.get(name)} for name in ("roc_auc", "ece")},
        **{name: {"value": float(share.mean()), "ci95": of_shares.get(name)} for name, share in shares.items()},
        "states": dict(sorted(Counter(row["state"] for row in rows).items())),
        "flags": dict(sorted(Counter(code for found in flags for code in found).items())),
        "refused": sum(row["refused"] is not None for row in rows),
    }


def _unknown() -> Row:
    return {"value": None, "ci95": None}


def as_text(content: Mapping[str, Any]) -> str:
    """A table for each source: unchanged scans, and the worst severity of every corruption."""
    columns = ("dice", "roc_auc", "ece", "wrong", "wrong_without_flag", "flagged")
    lines = []
    for source, found in content["sources"].items():
        rows = [("unchanged", next(iter(found.values()))[0]), *((name, rows[-1]) for name, rows in found.items())]
        cells = [[name, row["severity"], row["n"], *(row[key]["value"] for key in columns)] for name, row in rows]
        lines += ["", source, table(["corruption", "severity", "n", *columns], cells)]
    return "\n".join([*lines, "", content["notice"]])
