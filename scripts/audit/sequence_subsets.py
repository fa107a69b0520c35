"""Scores of weights of several sequences for every combination of the sequences that a case has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from tqdm import tqdm

from ..core.documents import SCHEMA_VERSION
from ..core.files import content_sha256, read_json, write_json
from ..core.label_codes import tumor_of
from ..core.messages import NOTICE
from ..dataset.known_cases import known_cases
from ..evaluation.intervals import interval_of_mean
from ..evaluation.reports import patient_scores
from ..evaluation.segmentation_scores import overlap_scores
from ..evaluation.text_tables import table
from ..io.datalists import Case
from ..io.readers import BrainMriReader
from ..networks.weights import trained_on
from .robustness import Predicting

__all__ = ["ScoreSubsets", "as_text", "only", "subsets_of", "summary_of"]

RULES = {
    "patients": "volumes with a tumor in their mask that have all of these sequences; no training or validation case",
    "dice": "mean over patients, of a patient over its volumes; 95 % by Student's t",
    "against": "mean over the same patients of the Dice minus that of the other; 95 % by Student's t",
}

Row = dict[str, Any]


def subsets_of(sequences: Sequence[str]) -> list[tuple[str, ...]]:
    """All combinations of sequences but none at all, the largest first.

    >>> subsets_of(["flair", "t1"])
    [('flair', 't1'), ('flair',), ('t1',)]
    """
    return [chosen for size in range(len(sequences), 0, -1) for chosen in combinations(sequences, size)]


def only(image: MetaTensor, modalities: Sequence[str], kept: Sequence[str]) -> MetaTensor:
    """A scan as the reader gives it of a case that has only some of the sequences.

    Args:
        image: (C, H, W, D), as it was read.
        modalities: its channels.
        kept: the sequences to keep.
    """
    part: MetaTensor = image.clone()
    missing = [name for name in modalities if name not in kept]
    for name in missing:
        part[modalities.index(name)] = 0
    if missing:
        part.meta["missing_sequences"] = " ".join(missing)
    return part


class ScoreSubsets:
    """Predict each volume from every combination of its sequences, and compare the masks.

    A case's scores are kept in `output_dir`/cases, so that an interrupted run continues. Of several weights, those of
    folds, a case is predicted by the first that were not trained on it; cases that all of them know are left out.

    Args:
        cases: id, source, group, image, label and sequences; images and cases without a mask are left out.
        weights: files of the weights, in the order of the predictors.
        modalities: sequences that they read.
        output_dir: folder for the files.
        baselines: files of weights that read one sequence, in the order of their predictors; may be empty.
        baseline: the sequence that these read, and whose Dice alone the others are compared with.

    Raises:
        ValueError: when no case is left.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        weights: Sequence[str | Path],
        modalities: Sequence[str],
        output_dir: str | Path,
        baselines: Sequence[str | Path] = (),
        baseline: str | None = None,
    ) -> None:
        self.modalities, self.output_dir, self.reader = list(modalities), Path(output_dir), BrainMriReader(["seg"])
        self.baseline = baseline or self.modalities[0]
        volumes = [case for case in cases if case["kind"] == "volume" and "label" in case]
        self.chosen, self.compared = _unknown_to(volumes, weights), _unknown_to(volumes, baselines)
        self.cases = [
            case for case in volumes if case["id"] in self.chosen and (not baselines or case["id"] in self.compared)
        ]
        self.known = len(volumes) - len(self.cases)
        if not self.cases:
            reason = f"no volume with a mask that the weights were not trained on, among {len(volumes)}"
            raise ValueError(f"{weights[0]}: {reason}; name others")

    def run(self, predictors: Sequence[Predicting], models: Mapping[str, Any], others: Sequence[Predicting]) -> Row:
        """Write `subsets.json`, and print a table.

        Args:
            predictors: of the weights.
            models: descriptions of the "weights" and "baselines".
            others: predictors of the baselines.
        """
        identity = {"models": models, "modalities": self.modalities, "baseline": self.baseline}
        rows: list[Row] = []
        for case in tqdm(self.cases, desc="predicting", unit="case"):
            file = self.output_dir / "cases" / f"{case['id']}.json"
            own = {**identity, "scan": content_sha256(case["image"]), "label": content_sha256(case["label"])}
            if not file.is_file() or (kept := read_json(file))["identity"] != own:
                other = others[self.compared[case["id"]]] if others else None
                kept = {"identity": own, "rows": list(self._rows(case, predictors[self.chosen[case["id"]]], other))}
                write_json(file, kept)
            rows += kept["rows"]
        content = {
            **{"schema_version": SCHEMA_VERSION, "notice": NOTICE, **identity, "rules": RULES},
            "left_out": self.known,
            "sources": {
                source: summary_of([row for row in rows if row["source"] == source], self.modalities, self.baseline)
                for source in dict.fromkeys(row["source"] for row in rows)
            },
            "rows": rows,
        }
        write_json(self.output_dir / "subsets.json", content)
        print(as_text(content))
        return content

    def _rows(self, case: Case, predictor: Predicting, other: Predicting | None) -> Iterator[Row]:
        """Scores of one volume: of each combination, and of the baseline's weights."""
        reference = tumor_of(self.reader.get_data(self.reader.read(case["label"]))[0][0], case)
        known = {"case": case["id"], "source": case["source"], "patient": case["group"]}
        image = predictor.read(case["image"])
        if not reference.any() or image.meta.get("sequence_unknown"):
            return
        missing = str(image.meta.get("missing_sequences", "")).split()
        for kept in subsets_of([name for name in self.modalities if name not in missing]):
            prediction = predictor.infer(only(image, self.modalities, kept))
            yield {**known, "sequences": list(kept), "baseline": False, **_scored(prediction, reference)}
        if other is not None and (file := case.get("sequences", {}).get(self.baseline)):
            prediction = other.infer(other.read(file))
            yield {**known, "sequences": [self.baseline], "baseline": True, **_scored(prediction, reference)}


def _unknown_to(cases: Sequence[Case], weights: Sequence[str | Path]) -> dict[str, int]:
    """By case the number of the first weights that were neither trained nor validated on it."""
    known = [known_cases(cases, trained_on(file)) for file in weights]
    first = {case["id"]: [n for n, ids in enumerate(known) if case["id"] not in ids] for case in cases}
    return {case: numbers[0] for case, numbers in first.items() if numbers}


def _scored(prediction: Mapping[str, Any], reference: np.ndarray) -> Row:
    mask, result = prediction["pred"].as_tensor()[0].cpu().numpy() > 0, prediction["result"]
    return {
        "dice": float(overlap_scores(mask, reference)["dice"]),
        "state": result["state"],
        "tumor_probability": result["tumor_probability"],
    }


def summary_of(rows: Sequence[Row], modalities: Sequence[str], baseline: str) -> list[Row]:
    """Scores of one source, a row for each combination of sequences, and one of the baseline's weights.

    Args:
        rows: of `ScoreSubsets`.
        modalities: sequences of the weights.
        baseline: the sequence that the combinations are compared with.
    """
    by_patient: dict[tuple[bool, tuple[str, ...]], dict[str, float]] = {}
    grouped: dict[tuple[bool, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["baseline"], tuple(row["sequences"])].append(row)
    by_patient = {key: patient_scores(found, "dice") for key, found in grouped.items()}
    alone, other = by_patient.get((False, (baseline,)), {}), by_patient.get((True, (baseline,)), {})
    order = [(False, kept) for kept in subsets_of(modalities)] + [(True, (baseline,))]
    return [
        {
            "sequences": list(key[1]),
            "weights": "baseline" if key[0] else "these",
            "patients": len(by_patient[key]),
            "volumes": len(grouped[key]),
            "dice": _mean(list(by_patient[key].values()), (0.0, 1.0)),
            "detected": float(np.mean([row["state"] == "tumor" for row in grouped[key]])),
            "against_alone": _difference(by_patient[key], alone),
            "against_baseline": _difference(by_patient[key], other),
        }
        for key in order
        if key in by_patient
    ]


def _mean(values: Sequence[float], limits: tuple[float, float]) -> Row:
    return {"value": float(np.mean(values)) if values else None, "ci95": interval_of_mean(values, limits)}


def _difference(scores: Mapping[str, float], other: Mapping[str, float]) -> Row:
    """Mean difference to other scores of the same patients; those without either are left out."""
    gains = [score - other[patient] for patient, score in scores.items() if patient in other]
    counts = {"patients": len(gains), "better": sum(g > 0 for g in gains), "worse": sum(g < 0 for g in gains)}
    return {**_mean(gains, (-1.0, 1.0)), **counts}


def as_text(content: Mapping[str, Any]) -> str:
    """A table for each source."""
    lines = []
    for source, rows in content["sources"].items():
        cells = [
            [
                "+".join(row["sequences"]) + ("" if row["weights"] == "these" else " (baseline)"),
                *(row["patients"], row["dice"]["value"], _bounds(row["dice"])),
                *(row["against_alone"]["value"], _bounds(row["against_alone"])),
                *(row["against_baseline"]["value"], _bounds(row["against_baseline"])),
            ]
            for row in rows
        ]
        alone = f"- {content['baseline']} alone"
        header = ["sequences", "patients", "dice", "95 %", alone, "95 %", "- baseline", "95 %"]
        lines += ["", source, table(header, cells)]
    return "\n".join([*lines, "", content["notice"]])


def _bounds(score: Mapping[str, Any]) -> str:
    return "-" if score["ci95"] is None else "{:.3f} to {:.3f}".format(*score["ci95"])
