"""Summary of the audits of all folds: their parts, baselines, and volumes by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .estimates import mean, mean_of_folds

__all__ = ["baselines", "is_part", "learned_sources", "source_probes", "volumes_by_fold"]

BLANKED = ("model", "area", "filled", "filled_excess", "rim", "rim_excess")
ERASED = ("before", "after", "mean_fall", "share_that_falls")
LIMITS = {"filled_excess": (-0.5, 0.5), "rim_excess": (-0.5, 0.5), "mean_fall": (-1.0, 1.0)}  # others: 0 and 1


def learned_sources(audits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the training sources of the audited weights."""
    named = {name for audit in audits for name in audit["leave_source_out"]["values"].get("trained_sources", ())}
    return sorted(named)


def is_part(content: Any) -> bool:
    """Whether an entry of an audit is one of its parts."""
    return isinstance(content, dict) and "verdict" in content


def source_probes(audits: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """How well the features of each variant tell the source of a slice.

    Args:
        audits: by variant and fold.

    Returns:
        By variant "folds": the mean over sources of the ROC-AUC of each against the rest, by fold; "mean" of the folds
        with its "ci95", see `mean_of_folds`; and "learned", the training sources.
    """
    found = {}
    for name, folds in audits.items():
        aucs = {}
        for fold, audit in folds.items():
            by_source = audit["source_probe"]["values"].get("sources", {}).values()
            aucs[fold] = mean(estimate["value"] for estimate in by_source)
        of_folds = mean_of_folds(list(aucs.values()), (0.0, 1.0))
        found[name] = {"folds": aucs, "mean": of_folds, "learned": learned_sources(list(folds.values()))}
    return found


def baselines(audits: Mapping[int, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """AUCs of the baselines and of the network, by fold and source."""
    rows = []
    for fold, audit in audits.items():
        for source, found in audit["metadata"]["values"]["sources"].items():
            if "metadata" in found:
                aucs = {name: found[name]["value"] for name in ("metadata", "histogram", "model", "margin")}
                aucs["files"] = found.get("files", {}).get("value")
                learned = {"learned_from": found.get("baselines_learned_from"), "ci95": found["margin"]["ci95"]}
                rows.append({"fold": fold, "source": source, **learned, **aucs})
    return rows


def volumes_by_fold(audits: Mapping[int, Mapping[str, Any]], sources: Sequence[str]) -> dict[str, Any]:
    """Results of volumes: with the brain filled, with the lesion erased, and energy of the CAMs.

    A fold with one test patient has no interval; the mean over folds has one.

    Args:
        audits: by fold.
        sources: names of those that are volumes.

    Returns:
        "folds": one row per fold and source, None if undefined (ROC-AUC without both classes of slices); "mean": of
        each column with its "ci95" over folds, see `mean_of_folds`, except the CAMs' energy, which is pooled elsewhere.
    """
    rows = []
    for fold, audit in audits.items():
        blanked, erased = (audit[part]["values"].get("sources", {}) for part in ("blanked", "lesion_erased"))
        for source in (source for source in sources if source in blanked):
            asked = {name: blanked[source][name]["value"] for name in BLANKED}
            found = erased.get(source)
            asked |= {name: found[name]["value"] if found else None for name in ERASED}
            asked["without"] = found["mean_without_tumor"] if found else None
            asked["energy_ratio"] = audit["cam"]["values"].get("sources", {}).get(source, {}).get("energy_ratio")
            rows.append({"fold": fold, "source": source, **asked})
    columns = [*BLANKED, *ERASED, "without"]
    means = {name: mean_of_folds([row[name] for row in rows], LIMITS.get(name, (0.0, 1.0))) for name in columns}
    return {"folds": rows, "mean": means}
