"""Scores of corrupted scans: unchanged ones first, wrong predictions without a flag counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.audit.robustness import ScoreCorrupted, is_wrong, summary_of
from scripts.inference.decision import Decision


def row(case: str, severity: int, **told: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"state": "tumor", "tumor": True, "flags": [], "dice": 0.8, "refused": None, "kind": "volume"}
    own |= {"slices": [[1.0, 2.0], [0.0, -2.0]], "patient": case, "case": case, "severity": severity}
    return own | {"corruption": "noise" if severity else "none"} | told


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({}, False),
        ({"dice": 0.05}, True),
        ({"tumor": False, "dice": None}, True),
        ({"state": "no_tumor"}, True),
        ({"state": "no_tumor", "tumor": False, "dice": None}, False),
        ({"state": "uncertain", "dice": 0.0}, False),
        ({"state": "no_prediction", "dice": 0.0}, False),
    ],
)
def test_what_is_wrong(told: dict[str, Any], wrong: bool) -> None:
    assert is_wrong(row("a", 0, **told)) is wrong


def test_a_wrong_prediction_with_a_flag_is_not_counted_as_one_without() -> None:
    rows = [row("a", 0), row("b", 0), row("a", 3, state="no_tumor"), row("b", 3, state="no_tumor", flags=["x"])]
    found = summary_of(rows, Decision(), resamples=50)
    unchanged, noisy = found["noise"]
    assert [unchanged["severity"], noisy["severity"]] == [0, 3]
    assert (unchanged["wrong"]["value"], noisy["wrong"]["value"]) == (0.0, 1.0)
    assert summary_of([row("a", 0, flags=["spacing_estimated"])], Decision())["none"][0]["flagged"]["value"] == 0.0
    assert noisy["wrong_without_flag"]["value"] == 0.5 and noisy["wrong_without_flag"]["ci95"] == [0.0, 1.0]
    assert noisy["flags"] == {"x": 1} and noisy["states"] == {"no_tumor": 2}
    assert unchanged["dice"] == {"value": pytest.approx(0.8), "ci95": pytest.approx([0.8, 0.8]), "patients": 2}
    assert unchanged["roc_auc"]["value"] == 1.0 and unchanged["slices"] == 4


def test_without_a_prediction_scores_are_undefined() -> None:
    told = {"state": "no_prediction", "slices": [], "kind": None, "dice": None, "refused": "no head"}
    scores = summary_of([row("a", 0, **told)], Decision(), resamples=10)["none"][0]
    assert scores["roc_auc"] == scores["ece"] == {"value": None, "ci95": None} and scores["refused"] == 1
    assert scores["dice"]["value"] is None


class Threshold:
    """A predictor whose tumor probability is the mean brightness, and which refuses a black image."""

    def __init__(self) -> None:
        self.images: list[MetaTensor] = []

    def read(self, scan: str) -> MetaTensor:
        values = np.load(Path(scan) / "slice.npy" if Path(scan).is_dir() else scan)
        return MetaTensor(torch.as_tensor(values)[None, :, :, None], affine=torch.eye(4))

    def infer(self, image: MetaTensor) -> dict[str, Any]:
        self.images.append(image)
        logit = float(image.as_tensor().mean()) - 100.0
        state = "tumor" if logit > 0 else "no_tumor"
        result = {"state": state, "flags": [{"code": "ood_score_missing"}], "tumor_probability": 0.5}
        return {"result": result, "slice_logits": np.array([logit]), "image": image, "pred": image}


def test_cases_are_predicted_once_and_the_first_time_unchanged(tmp_path: Path) -> None:
    np.save(tmp_path / "bright.npy", np.full((32, 32), 150.0, dtype=np.float32))
    (tmp_path / "dark.npy").mkdir()  # a folder of slices is a scan too
    np.save(tmp_path / "dark.npy" / "slice.npy", np.full((32, 32), 50.0, dtype=np.float32))
    cases: list[Any] = [
        {
            "id": f"s/{name}",
            "source": "s",
            "kind": "image",
            "group": name,
            "cls": cls,
            "image": str(tmp_path / f"{name}.npy"),
        }
        for name, cls in (("bright", 1.0), ("dark", 0.0))
    ]
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"")
    told: dict[str, Any] = {"corruptions": ["jpeg", "cropping"], "severities": [0, 5], "resamples": 20}
    predictor, first = Threshold(), tmp_path / "first"
    made = ScoreCorrupted(cases, weights, first, **told).run(predictor, Decision(), {"sha256": "0"})
    assert len(predictor.images) == 2 * 3 and torch.equal(predictor.images[0], predictor.read(cases[0]["image"]))
    assert set(made["sources"]["s"]) == {"jpeg", "cropping"}
    for rows in made["sources"]["s"].values():
        assert rows[0]["severity"] == 0 and rows[0]["roc_auc"]["value"] == 1.0 and rows[0]["flagged"]["value"] == 0.0

    content = (first / "robustness.json").read_bytes()
    (first / "cases" / "s" / "dark.json").unlink()
    again = Threshold()
    ScoreCorrupted(cases, weights, first, **told).run(again, Decision(), {"sha256": "0"})
    assert len(again.images) == 3 and (first / "robustness.json").read_bytes() == content
    ScoreCorrupted(cases, weights, first, **told).run(again, Decision(), {"sha256": "1"})
    assert len(again.images) == 3 + 6, "of other weights nothing is kept"
