"""A bound on missed tumors is given to scans of a known population that resemble it, and to no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.core.files import sha256_of
from scripts.core.messages import BOUND_ABSENT
from scripts.inference.no_tumor_bounds import LEAST_SCANS, NoTumorBounds, Population, bounds_of

HELD_OUT = np.linspace(0.01, 0.99, 60).tolist()


def bounds(**told: Any) -> NoTumorBounds:
    own: dict[str, Any] = {"kind": "image", "tumors": 30, "threshold": 0.2, "needed": None, "probabilities": HELD_OUT}
    return NoTumorBounds(0.1, 0.9, {"site": Population(**{**own, **told})})


def results(probabilities: Any, **told: Any) -> dict[str, dict[str, Any]]:
    def one(p: float) -> dict[str, Any]:
        state = "no_tumor" if p < 0.3 else "tumor"
        return {"kind": "image", "state": state, "tumor_probability": p, "flags": [], **told}

    return {f"scan {number}": one(float(p)) for number, p in enumerate(probabilities)}


ALIKE = np.linspace(0.02, 0.98, 20)


def why(found: dict[str, Any]) -> set[str]:
    return {said["absent"]["code"] if "absent" in said else "bound" for said in found.values()}


def test_only_no_tumor_below_the_threshold_gets_the_bound() -> None:
    found = bounds().of_folder("site", results(ALIKE))
    assert len(found) == sum(ALIKE < 0.3)
    for scan, p in zip(results(ALIKE), ALIKE, strict=True):
        if p < 0.2:
            told = {"population": "site", "miss_rate": 0.1, "confidence": 0.9, "n": 30, "threshold": 0.2}
            assert found[scan] == told
        elif p < 0.3:
            assert found[scan]["absent"] == {"code": "above_threshold", "text": BOUND_ABSENT["above_threshold"]}
        else:
            assert scan not in found


@pytest.mark.parametrize("population", [None, "elsewhere"])
def test_of_an_unknown_population_nothing_is_bounded(population: str | None) -> None:
    assert why(bounds().of_folder(population, results(ALIKE))) == {"population_unknown"}


def test_a_folder_that_differs_gets_none() -> None:
    found = bounds().of_folder("site", results(np.linspace(0.01, 0.1, 30)))
    assert why(found) == {"folder_differs"} and all(said["p_value"] < 0.05 for said in found.values())


def test_a_small_folder_cannot_be_compared() -> None:
    found = bounds().of_folder("site", results(ALIKE[: LEAST_SCANS - 1]))
    assert why(found) == {"too_few_scans"} and found["scan 0"]["needed"] == LEAST_SCANS


def test_the_report_says_how_many_tumors_are_needed() -> None:
    found = bounds(threshold=None, needed=22, tumors=5).of_folder("site", results(ALIKE))
    assert why(found) == {"too_few_tumors"} and found["scan 0"]["needed"] == 22
    assert why(bounds(threshold=None).of_folder("site", results(ALIKE))) == {"no_threshold"}


def test_scans_out_of_distribution_or_of_another_kind_get_none() -> None:
    far = results(ALIKE)
    far["scan 0"]["flags"] = [{"code": "out_of_distribution", "text": ""}]
    assert bounds().of_folder("site", far)["scan 0"]["absent"]["code"] == "out_of_distribution"
    mixed = {**results(ALIKE), **{"volume": results([0.1], kind="volume")["scan 0"]}}
    assert bounds().of_folder("site", mixed)["volume"]["absent"]["code"] == "other_kind"


def test_a_folder_like_the_population_is_seldom_refused() -> None:
    rng = np.random.default_rng(0)
    refused = [
        why(bounds().of_folder("site", results(rng.choice(HELD_OUT, 30)))) == {"folder_differs"} for _ in range(100)
    ]
    assert np.mean(refused) < 0.1


def write_report(folder: Path, content: dict[str, Any]) -> Path:
    model = folder / "model.pt"
    model.write_bytes(b"weights")
    report = {"schema_version": 1, "model": {"version": "0", "sha256": sha256_of(model)}, **content}
    (folder / "report.json").write_text(json.dumps(report))
    return model


def test_reports_without_bounds_are_read_as_before(tmp_path: Path) -> None:
    assert bounds_of(write_report(tmp_path, {})) is None


def test_damaged_bounds_are_named(tmp_path: Path) -> None:
    fields = {"kind": "image", "tumors": 30, "threshold": 2.0, "needed": None, "probabilities": []}
    stored = {"miss_rate": 0.1, "confidence": 0.9, "populations": {"site": fields}}
    with pytest.raises(ValueError, match=r"model.pt: the bounds on missed tumors in its report are damaged"):
        bounds_of(write_report(tmp_path, {"no_tumor_bounds": stored}))
    fields["threshold"] = 0.2
    found = bounds_of(write_report(tmp_path, {"no_tumor_bounds": stored}))
    assert found is not None and found.populations["site"].threshold == 0.2


def test_every_reason_is_documented(root: Path) -> None:
    page = (root / "docs" / "reference" / "predictions.md").read_text()
    assert all(f"| `{code}` | {text}" in page for code, text in BOUND_ABSENT.items())
