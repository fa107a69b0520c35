"""Scores of the types of tumors, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from monai.data import MetaTensor
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from scripts.evaluation.reports import make_report, of_learned, pool
from scripts.evaluation.score_cases import ScoreCases
from scripts.evaluation.text_tables import as_text
from scripts.evaluation.type_scores import scores_of_types, type_scores
from scripts.inference.decision import Decision

TYPES = ("glioma", "meningioma", "pituitary")


def row(number: int, told: str | None, *probabilities: float, **further: Any) -> dict[str, Any]:
    shares = dict(zip(TYPES, probabilities, strict=True)) if probabilities else None
    case = {"case": f"k/{number}", "slice": 0, "source": "k", "kind": "image", "group": f"c{number}", "cls": 1.0}
    return {**case, "logit": 1.0, "predicted_share": 0.0, "tumor_type": told, "type_probabilities": shares, **further}


KNOWN = [
    row(0, "glioma", 0.8, 0.1, 0.1),
    row(1, "glioma", 0.3, 0.4, 0.3),
    row(2, "meningioma", 0.2, 0.7, 0.1),
    row(3, "meningioma", 0.5, 0.4, 0.1),
    row(4, "pituitary", 0.1, 0.2, 0.7),
]
UNKNOWN = [row(5, None, 0.9, 0.05, 0.05), row(6, "glioma"), row(7, None, 0.1, 0.1, 0.8, cls=0.0)]


def test_scores_are_those_by_hand() -> None:
    found = scores_of_types([*KNOWN, *UNKNOWN], 0)["k"]
    assert found["n"] == found["groups"] == 5 and found["types"] == list(TYPES)
    assert found["confusion"] == {
        "glioma": {"glioma": 1, "meningioma": 1, "pituitary": 0},
        "meningioma": {"glioma": 1, "meningioma": 1, "pituitary": 0},
        "pituitary": {"glioma": 0, "meningioma": 0, "pituitary": 1},
    }
    assert {name: one["sensitivity"] for name, one in found["by_type"].items()} == {
        "glioma": 0.5,
        "meningioma": 0.5,
        "pituitary": 1.0,
    }
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)
    aucs = [one["roc_auc"] for one in found["by_type"].values()]
    assert aucs == pytest.approx([5 / 6, (3 + 2.5) / 6, 1.0]) and found["macro_roc_auc"] == pytest.approx(np.mean(aucs))


def test_scores_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    rows = [row(n, TYPES[rng.integers(3)], *rng.dirichlet([1.0, 1.0, 1.0])) for n in range(60)]
    found = type_scores(rows, 0)
    truth = [TYPES.index(one["tumor_type"]) for one in rows]
    probabilities = np.array([list(one["type_probabilities"].values()) for one in rows])
    assert found["macro_roc_auc"] == pytest.approx(roc_auc_score(truth, probabilities, multi_class="ovr"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, probabilities.argmax(axis=1)))


def test_intervals_are_over_clusters() -> None:
    rng = np.random.default_rng(1)
    rows = [row(n, TYPES[n % 3], *np.roll([0.5, 0.3, 0.2], n % 3 + rng.integers(2))) for n in range(30)]
    apart = type_scores(rows, 200)
    repeated = type_scores([{**one, "group": f"c{n % 30}"} for n, one in enumerate(rows * 4)], 200)
    for name in ("macro_roc_auc", "balanced_accuracy"):
        assert repeated[name] == pytest.approx(apart[name])
        assert repeated["ci95"][name] == pytest.approx(apart["ci95"][name]), "copies of an image add nothing"
        low, high = apart["ci95"][name]
        assert low < apart[name] < high
    assert type_scores([{**one, "group": "c"} for one in rows], 200)["ci95"]["macro_roc_auc"] is None


def test_auc_is_within_folds_and_a_type_without_images_is_left_out() -> None:
    first = [row(0, "glioma", 0.9, 0.1, 0.0, fold=0), row(1, "meningioma", 0.8, 0.2, 0.0, fold=0)]
    second = [row(2, "glioma", 0.3, 0.7, 0.0, fold=1), row(3, "meningioma", 0.2, 0.8, 0.0, fold=1)]
    found = type_scores(first + second, 20)
    assert found["macro_roc_auc"] == 1.0, "pooled it would be 3/4"
    assert found["by_type"]["pituitary"] | {"ci95": None} == {
        "n": 0,
        "roc_auc": None,
        "sensitivity": None,
        "ci95": None,
    }
    assert found["balanced_accuracy"] == 0.5 and found["by_type"]["pituitary"]["ci95"]["roc_auc"] is None


def content(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"facts": {}, "min_tumor_pixels": 50, "segmentation": [], "predictions": rows}


def test_the_report_has_types_only_where_they_are_known() -> None:
    report = make_report(content([*KNOWN, *UNKNOWN]), Decision(), 50)
    assert list(report["tumor_types"]) == ["k"]
    text = as_text({**report, "notice": "-"})
    assert "Types of tumors in k" in text and "called pituitary" in text
    for rows in (UNKNOWN, KNOWN[:2], [{name: one[name] for name in list(one)[:-2]} for one in KNOWN]):
        report = make_report(content(rows), Decision(), 0)
        assert "tumor_types" not in report and "Types" not in as_text(report)
    assert "tumor_types" not in make_report(of_learned(content(KNOWN), ["segmentation"]), Decision(), 0)


def test_folds_are_pooled() -> None:
    pooled = pool([content(KNOWN[:3]), content(KNOWN[3:])])
    assert make_report(pooled, Decision(), 0)["tumor_types"]["k"]["n"] == 5


@pytest.mark.parametrize(
    ("case", "told"),
    [({"cls": 1, "class_name": "glioma"}, "glioma"), ({"cls": 1}, None), ({"cls": 0, "class_name": "notumor"}, None)],
)
def test_an_image_is_noted_with_what_its_folder_tells(case: dict[str, Any], told: str | None, tmp_path: Any) -> None:
    whole = {"id": "k/1", "source": "k", "kind": "image", "group": "c", **case}
    mask, logits = MetaTensor(np.zeros((1, 4, 4, 1))), np.log([[3.0], [1.0], [1.0]])
    for types, known in ((TYPES, True), ((), False)):
        scored = ScoreCases([whole], Decision(), 50, tmp_path, {}, tumor_types=types)
        scored.start(None)  # type: ignore[arg-type]
        scored.score(whole, mask, np.array([0.3]), np.eye(4), (), logits)
        (found,) = scored.predictions["k/1"]
        assert ("tumor_type" in found) is known
        if known:
            assert found["tumor_type"] == told
            assert found["type_probabilities"] == pytest.approx({"glioma": 0.6, "meningioma": 0.2, "pituitary": 0.2})
    scored = ScoreCases([whole], Decision(), 50, tmp_path, {}, tumor_types=TYPES)
    scored.start(None)  # type: ignore[arg-type]
    scored.score(whole, mask, np.array([np.nan]), np.eye(4), (), logits * np.nan)
    assert scored.predictions["k/1"][0]["type_probabilities"] is None
