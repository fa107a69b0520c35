"""The nine questions of the shortcut audit, evaluated on a model's predictions for slices and edited slices.

Each function returns values, verdict and n; the rules of the verdicts are in `shortcut_audit.PARTS`. AUCs are within
one source, with bootstrap intervals over patients and clusters. A verdict needs an interval: a source with one class or
one patient has none. Only the question about CAMs compares means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..evaluation.classification_scores import roc_auc
from .baselines import estimates, out_of_fold, probe

__all__ = [
    "EXCESS",
    "LARGEST_FALL",
    "SHORTCUT",
    "SMALLEST_FALL",
    "Part",
    "Predictions",
    "alarm_verdict",
    "blanked",
    "cam",
    "leave_source_out",
    "lesion_erased",
    "source_only",
    "source_probe",
    "style_swap",
    "verdict_of",
    "within_source",
]

PASS, SHORTCUT, NOTE, NOT_APPLICABLE = "pass", "shortcut", "note", "not applicable"
EXCESS = 0.05  # AUC by which a model may beat the brain's area on images without a brain
LARGEST_FALL = 0.15  # of the AUC when the style is swapped
SMALLEST_FALL = 0.05  # of the probability when the lesion is erased, in shares of the gap between the classes
BLANKED = ("filled", "corners", "frame", "rim")
SWAPPED = ("fake_skull", "jpeg", "stripped_skull")

Part = tuple[dict[str, Any], str, int]  # values, verdict, n


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model: one row per slice with a class.

    Args:
        positive: boolean (N,), whether the slice shows a tumor.
        source: (N,) names.
        group: (N,) patients and clusters.
        image: boolean (N,), whether it is an image and not a slice of a volume.
        path: file of each image, "" of a volume.
        area: (N,) pixels of the head.
        gray: (N, B), see `gray_levels`.
        probability: by name of the edit (N,), NaN if it does not apply; "served" is the unedited slice.
        features: (N, F), or None.
        seed: of bootstraps and cross-validations.
        resamples: of bootstraps.
    """

    positive: np.ndarray
    source: np.ndarray
    group: np.ndarray
    image: np.ndarray
    path: np.ndarray
    area: np.ndarray
    gray: np.ndarray
    probability: Mapping[str, np.ndarray]
    features: np.ndarray | None
    seed: int
    resamples: int

    def sources(self, kind: str | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Name and row indices of each source, of all or of those of one kind: "image" or "volume"."""
        for source in sorted(set(self.source.tolist())):
            rows = np.flatnonzero(self.source == source)
            if kind is None or bool(self.image[rows[0]]) == (kind == "image"):
                yield source, rows

    def estimates(
        self, rows: np.ndarray, statistic: Callable[[np.ndarray], Mapping[str, float]]
    ) -> dict[str, dict[str, Any]]:
        """`estimates` of some rows; the statistic gets indices of all rows."""
        return estimates(self.group[rows], lambda chosen: statistic(rows[chosen]), self.seed, self.resamples)

    def auc(self, rows: np.ndarray, scores: np.ndarray) -> float:
        """ROC-AUC of scores (N,) on some of the rows."""
        return roc_auc(self.positive[rows], scores[rows])


def source_only(predictions: Predictions) -> Part:
    """Score each slice by the prevalence of tumors in its source, pooled over the sources."""
    prevalence = {source: float(predictions.positive[rows].mean()) for source, rows in predictions.sources()}
    scores = np.array([prevalence[source] for source in predictions.source.tolist()])
    everything = np.arange(len(scores))

    def pooled(rows: np.ndarray) -> dict[str, float]:
        return {
            "source_only": predictions.auc(rows, scores),
            "model": predictions.auc(rows, predictions.probability["served"]),
        }

    values = {"prevalence": prevalence, **predictions.estimates(everything, pooled)}
    applies = len(prevalence) > 1 and values["source_only"]["value"] is not None
    return values, NOTE if applies else NOT_APPLICABLE, len(scores)


def source_probe(predictions: Predictions) -> Part:
    """Predict each slice's source by a linear classifier of the bottleneck's features."""
    if predictions.features is None:
        return {"reason": "no features were given"}, NOT_APPLICABLE, 0
    groups = {source: len(set(predictions.group[rows])) for source, rows in predictions.sources()}
    single = [source for source, count in groups.items() if count < 2]  # cannot be split into folds
    used = np.flatnonzero(~np.isin(predictions.source, single))
    left_out = {"left_out": single} if single else {}
    seed, source = predictions.seed, predictions.source[used]
    probabilities = out_of_fold(probe(seed), predictions.features[used], source, predictions.group[used], seed)
    if probabilities is None:
        reason = "fewer than two sources of more than one patient or cluster"
        return {"reason": reason, **left_out}, NOT_APPLICABLE, len(used)
    columns = dict(zip(sorted(set(source.tolist())), probabilities.T, strict=True))

    def one_against_the_rest(rows: np.ndarray) -> dict[str, float]:
        return {name: roc_auc(source[rows] == name, scores[rows]) for name, scores in columns.items()}

    found = estimates(predictions.group[used], one_against_the_rest, seed, predictions.resamples)
    return {"sources": found, **left_out}, NOTE, len(used)


def within_source(predictions: Predictions, chosen: Sequence[str] | None = None) -> Part:
    """Measure the model's AUC in each source, or in the chosen ones."""
    values: dict[str, Any] = {}
    verdicts, count = [], 0
    for source, rows in predictions.sources():
        if chosen is not None and source not in chosen:
            continue
        auc = predictions.estimates(
            rows, lambda part: {"auc": predictions.auc(part, predictions.probability["served"])}
        )["auc"]
        positives, groups = int(predictions.positive[rows].sum()), len(set(predictions.group[rows]))
        values[source] = {"n": len(rows), "positives": positives, "groups": groups, "auc": auc}
        verdicts.append(NOT_APPLICABLE if auc["ci95"] is None else PASS if auc["ci95"][0] > 0.5 else NOTE)
        count += len(rows)
    return {"sources": values}, verdict_of(verdicts), count


def leave_source_out(predictions: Predictions, trained_sources: Sequence[str] | None) -> Part:
    """Measure the model's AUC in sources that are not in its training data."""
    if trained_sources is None:
        return {"reason": "the training data are unknown"}, NOT_APPLICABLE, 0
    values, verdict, count = within_source(predictions, sorted(set(predictions.source.tolist()) - set(trained_sources)))
    return {"trained_sources": sorted(trained_sources), **values}, verdict, count


def blanked(predictions: Predictions) -> Part:
    """Compare the model's AUC on images without brain with the AUC of the brain's area."""
    values: dict[str, Any] = {}
    verdicts = []
    for source, rows in predictions.sources():

        def distances(part: np.ndarray) -> dict[str, float]:
            area = abs(predictions.auc(part, predictions.area) - 0.5)
            aucs = {name: predictions.auc(part, predictions.probability[name]) for name in BLANKED}
            excess = {f"{name}_excess": abs(auc - 0.5) - area for name, auc in aucs.items()}
            model = predictions.auc(part, predictions.probability["served"])
            return {"model": model, "area": 0.5 + area, **aucs, **excess}

        values[source] = {"n": len(rows), **predictions.estimates(rows, distances)}
        bounds = [values[source][f"{name}_excess"]["ci95"] for name in BLANKED]
        verdicts += [alarm_verdict(bound, bound is not None and bound[0] > EXCESS) for bound in bounds]
    return {"sources": values}, verdict_of(verdicts), len(predictions.source)


def style_swap(predictions: Predictions) -> Part:
    """Compare the AUC before and after volumes are edited to look like images, and images like volumes."""
    values: dict[str, Any] = {}
    verdicts, count = [], 0
    for source, rows in predictions.sources():
        for name in SWAPPED:
            before, after = predictions.probability["served"], predictions.probability[name]
            if not np.isfinite(after[rows]).all():
                continue  # an edit of the other kind of scan

            def fall(part: np.ndarray, before: np.ndarray = before, after: np.ndarray = after) -> dict[str, float]:
                aucs = {"before": predictions.auc(part, before), "after": predictions.auc(part, after)}
                change = float((after[part] - before[part]).mean())
                return {**aucs, "fall": aucs["before"] - aucs["after"], "mean_change": change}

            found = predictions.estimates(rows, fall)
            values.setdefault(source, {"n": len(rows)})[name] = found
            before_ci, fall_ci = found["before"]["ci95"], found["fall"]["ci95"]
            alarm = before_ci and before_ci[0] > 0.5 and found["fall"]["value"] > LARGEST_FALL and fall_ci[0] > 0
            verdicts.append(alarm_verdict(fall_ci, bool(alarm)))
        count += len(rows)
    return {"sources": values}, verdict_of(verdicts), count


def lesion_erased(predictions: Predictions) -> Part:
    """Compare the probability of tumor slices before and after the lesion is erased."""
    values: dict[str, Any] = {}
    verdicts, count = [], 0
    before, after = predictions.probability["served"], predictions.probability["erased"]
    for source, rows in predictions.sources():
        lesions = rows[np.isfinite(after[rows])]
        if len(lesions) == 0:
            continue

        def fall(part: np.ndarray) -> dict[str, float]:
            difference = before[part] - after[part]
            means = {"before": float(before[part].mean()), "after": float(after[part].mean())}
            return {**means, "mean_fall": float(difference.mean()), "share_that_falls": float((difference > 0).mean())}

        model = predictions.estimates(rows, lambda part: {"auc": predictions.auc(part, before)})["auc"]
        free = rows[~predictions.positive[rows]]
        without = float(before[free].mean()) if len(free) else None
        found = predictions.estimates(lesions, fall)
        values[source] = {"n": len(lesions), **found, "mean_without_tumor": without, "model": model}
        bounds, separates = found["mean_fall"]["ci95"], model["ci95"] is not None and model["ci95"][0] > 0.5
        least = SMALLEST_FALL * max(0.0, float(before[lesions].mean()) - (without or 0.0))
        if bounds is None:
            verdicts.append(NOT_APPLICABLE)
        else:
            verdicts.append(SHORTCUT if separates and bounds[1] < least else PASS if bounds[0] > 0 else NOTE)
        count += len(lesions)
    return {"sources": values}, verdict_of(verdicts), count


def cam(explanation: Mapping[str, Any] | None) -> Part:
    """Compare the CAMs' energy in the lesion with chance, a center prior and random weights."""
    values: dict[str, Any] = {}
    verdicts, count = [], 0
    for source, found in (explanation or {}).get("sources", {}).items():
        ratio = found.get("energy_ratio")
        if ratio is None:
            continue
        rivals = {"center": (ratio, found.get("center_energy_ratio"))}
        # random weights are evaluated on a sample, and compared with the trained ones there
        rivals["randomized"] = (found.get("sample_energy_ratio"), found.get("randomized_energy_ratio"))
        beaten = {name: None if None in pair else pair[0] > pair[1] for name, pair in rivals.items()}
        values[source] = {"n": found.get("with_mask", 0), "energy_ratio": ratio, "better_than": beaten}
        verdicts.append(SHORTCUT if ratio <= 1 else PASS if all(beaten.values()) else NOTE)
        count += values[source]["n"]
    if not values:
        return {"reason": "no explanation of slices with a mask was given"}, NOT_APPLICABLE, 0
    return {"sources": values}, verdict_of(verdicts), count


def alarm_verdict(interval: Sequence[float] | None, alarm: bool) -> str:
    """The verdict of an alarm; not applicable without an interval."""
    return NOT_APPLICABLE if interval is None else SHORTCUT if alarm else PASS


def verdict_of(verdicts: Sequence[str]) -> str:
    """Combine verdicts: a shortcut if any is one, pass if all applicable ones are."""
    known = set(verdicts) - {NOT_APPLICABLE}
    if SHORTCUT in known:
        return SHORTCUT
    return NOT_APPLICABLE if not known else PASS if known == {PASS} else NOTE
