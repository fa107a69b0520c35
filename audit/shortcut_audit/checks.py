"""The questions, each with a verdict: "pass", "shortcut", "note" or "not applicable".

AUCs are within one source; 95 % intervals by a bootstrap over patients or near-duplicate clusters. An alarm needs an
interval: a source with one class or one cluster has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .cases import Cases, opened
from .edits import HIDING, STYLES
from .shared.audit.baselines import forest, out_of_fold
from .shared.audit.questions import (
    EXCESS,
    NOT_APPLICABLE,
    NOTE,
    PASS,
    SHORTCUT,
    Part,
    Predictions,
    alarm_verdict,
    lesion_erased,
    source_only,
    verdict_of,
    within_source,
)

__all__ = ["QUESTIONS", "audit"]

FILES_TELL, LEAKED, FALL = 0.6, 0.05, 0.15
QUESTIONS = {
    "within_source": "How well does the classifier separate the classes within each source?",
    "source_only": "How well does the source alone tell the label?",
    "files": f"Do size, format, compression or border of the files tell the label? Alarm: AUC above {FILES_TELL}",
    "duplicates": f"Are test pictures near-duplicates of training pictures? Alarm: more than {LEAKED:.0%}",
    "source_by_prediction": "Do the predictions of one class differ between the sources?",
    "hidden": f"Does it still tell the label when the finding cannot be seen? Alarm: AUC above {0.5 + EXCESS}",
    "style": f"Does it fail when only the style changes? Alarm: the AUC falls by more than {FALL}",
    "erased": "Does the probability fall when the finding is erased? Alarm: it does not",
}


def audit(
    cases: Cases, again: Mapping[str, np.ndarray] | None = None, seed: int = 0, resamples: int = 1000
) -> dict[str, Any]:
    """Answer every question.

    Args:
        cases: all predictions; those of training pictures serve for the near-duplicates alone.
        again: of the tested pictures the probabilities for edits, see `edits.asked_again`; None: not asked.
        seed: of bootstraps and cross-validations.
        resamples: of the bootstraps.

    Returns:
        By question "question", "verdict", "n" and "values"; "summary": the questions with an alarm.
    """
    tested = cases.tested()
    everything = {"served": tested.probability, **(again or {})}
    predictions = Predictions(
        positive=tested.positive,
        source=tested.source,
        group=tested.group,
        image=np.ones(len(tested.path), dtype=bool),
        path=tested.path,
        area=np.zeros(len(tested.path)),
        gray=np.zeros((len(tested.path), 1)),
        probability=everything,
        features=None,
        seed=seed,
        resamples=resamples,
    )
    absent: Part = ({"reason": "needs a function: --predict"}, NOT_APPLICABLE, 0)
    found = {
        "within_source": within_source(predictions),
        "source_only": source_only(predictions),
        "files": files_tell(predictions),
        "duplicates": duplicates(cases),
        "source_by_prediction": source_by_prediction(predictions),
        "hidden": hidden(predictions) if again else absent,
        "style": style(predictions) if again else absent,
        "erased": lesion_erased(predictions) if again else absent,
    }
    report: dict[str, Any] = {
        name: {"question": QUESTIONS[name], "verdict": verdict, "n": n, "values": values}
        for name, (values, verdict, n) in found.items()
    }
    report["summary"] = [name for name in QUESTIONS if report[name]["verdict"] == SHORTCUT]
    return report


def file_properties(path: str, suffixes: list[str]) -> list[float]:
    """Height, width, their ratio, suffix, bytes per pixel, gray level of the border, colors: nothing of the finding."""
    gray = np.asarray(opened(path))
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]]).mean()
    with Image.open(path) as image:
        bands = len(image.getbands())
    size = Path(path).stat().st_size / gray.size
    return [*gray.shape, gray.shape[1] / gray.shape[0], suffixes.index(Path(path).suffix), size, float(border), bands]


def files_tell(predictions: Predictions) -> Part:
    """Predict the label from properties of the files, cross-validated."""
    suffixes = sorted({Path(path).suffix for path in predictions.path.tolist()})
    columns = np.array([file_properties(path, suffixes) for path in predictions.path.tolist()], dtype=np.float64)
    values: dict[str, Any] = {}
    verdicts = []
    for source, rows in predictions.sources():
        known = (columns[rows], predictions.positive[rows], predictions.group[rows])
        found = out_of_fold(forest(predictions.seed), *known, predictions.seed)
        if found is None:
            verdicts.append(NOT_APPLICABLE)
            continue
        scores = np.full(len(columns), np.nan)
        scores[rows] = found[:, 1]

        def compared(part: np.ndarray, scores: np.ndarray = scores) -> dict[str, float]:
            model = predictions.auc(part, predictions.probability["served"])
            return {"files": predictions.auc(part, scores), "model": model}

        values[source] = predictions.estimates(rows, compared)
        bound = values[source]["files"]["ci95"]
        verdicts.append(alarm_verdict(bound, bound is not None and bound[0] > FILES_TELL))
    return {"sources": values}, verdict_of(verdicts), len(columns)


def duplicates(cases: Cases) -> Part:
    """Share of test pictures that are in the cluster of a training picture."""
    if not cases.training.any():
        return {"reason": "needs training pictures: rows with subset train"}, NOT_APPLICABLE, 0
    tested = cases.tested()
    leaked = np.isin(tested.group, np.unique(cases.group[cases.training]))
    share = float(leaked.mean()) if len(leaked) else 0.0
    values = {"share": share, "first": [Path(path).name for path in tested.path[leaked][:10]]}
    return values, SHORTCUT if share > LEAKED else NOTE if leaked.any() else PASS, len(leaked)


def source_by_prediction(predictions: Predictions) -> Part:
    """AUC with which the probability tells one source from the others, among pictures of one class."""
    values: dict[str, Any] = {}
    for name, chosen in {"without": ~predictions.positive, "with": predictions.positive}.items():
        rows = np.flatnonzero(chosen)
        names = sorted(set(predictions.source[rows].tolist()))
        if len(names) < 2:
            continue

        def telling(part: np.ndarray, names: list[str] = names) -> dict[str, float]:
            scores, of = predictions.probability["served"][part], predictions.source[part]
            return {name: _auc(of == name, scores) for name in names}

        values[f"{name} the finding"] = predictions.estimates(rows, telling)
    return {"classes": values}, NOTE if values else NOT_APPLICABLE, len(predictions.source) if values else 0


def _auc(positive: np.ndarray, scores: np.ndarray) -> float:
    from .shared.evaluation.classification_scores import roc_auc

    return roc_auc(positive, scores)


def hidden(predictions: Predictions) -> Part:
    """AUC on pictures that cannot show the finding."""
    return _edited(predictions, tuple(HIDING), lambda before, after: after[0] > 0.5 + EXCESS)


def style(predictions: Predictions) -> Part:
    """AUC on pictures whose style alone changed."""
    return _edited(predictions, tuple(STYLES), lambda before, after: before[0] > 0.5 and before[0] - after[1] > 0, FALL)


def _edited(predictions: Predictions, names: tuple[str, ...], alarm: Any, least: float = 0.0) -> Part:
    """AUC before and after edits; an alarm by the intervals of both, and by at least this fall."""
    values: dict[str, Any] = {}
    verdicts, before = [], predictions.probability["served"]
    for source, rows in predictions.sources():
        for name in names:
            after = predictions.probability[name]

            def compared(part: np.ndarray, after: np.ndarray = after) -> dict[str, float]:
                return {"before": predictions.auc(part, before), "after": predictions.auc(part, after)}

            found = predictions.estimates(rows, compared)
            values.setdefault(source, {})[name] = found
            bounds = [found[key]["ci95"] for key in ("before", "after")]
            known = None not in bounds
            fell = known and found["before"]["value"] - found["after"]["value"] > least if least else known
            verdicts.append(alarm_verdict(bounds[1], bool(fell and alarm(*bounds))))
    return {"sources": values}, verdict_of(verdicts), len(before)
