"""Patients without a tumor are cases: their state and the volume of their false masks."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.evaluation.calibration import fit_decision, with_evidence_of_others
from scripts.evaluation.patient_calls import patient_calls, volume_rows
from scripts.evaluation.reports import make_report
from scripts.evaluation.text_tables import as_text
from scripts.inference.decision import Calibration, Decision, decision_of

Row = dict[str, Any]


def patient(name: str, logits: list[float | None], reference: float, predicted: float, dice: float | None) -> Row:
    """A volume's scores, and its slices', of which the first shows the tumor."""
    source = name.partition("/")[0]
    scored = {"id": name, "source": source, "patient": name, "dice": dice, "iou": dice}
    slices = [
        {"case": name, "source": source, "group": name, "kind": "volume", "slice": n, "logit": logit}
        | {"cls": float(n == 0 and reference > 0), "tumor_mm2": 90.0 * (n == 0 and reference > 0)}
        | {"predicted_mm2": 0.0, "slices_from_tumor": n if reference else None}
        for n, logit in enumerate(logits)
    ]
    return {"scored": {**scored, "reference_ml": reference, "predicted_ml": predicted}, "slices": slices}


LESIONS = {"reference_lesions": [{"ml": 20.0, "iou": 0.4}], "predicted_lesions": 1}  # of a volume
PATIENTS = [
    patient("lgg/a", [4.0, 4.0, 4.0, -9.0], 20.0, 19.0, 0.9),
    patient("lgg/b", [1.0, 1.0, 1.0], 5.0, 0.1, 0.05),
    patient("lgg/c", [None, None], 5.0, 0.0, 0.0),
    patient("negatives/m", [-3.0, -3.0, -3.0, -3.0], 0.0, 0.0, None),
    patient("negatives/n", [2.0, 2.0, 2.0, -5.0], 0.0, 7.0, None),
]


def content(patients: list[Row]) -> dict[str, Any]:
    predictions = [row for each in patients for row in each["slices"]]
    segmentation = [each["scored"] for each in patients]
    return {"facts": {}, "min_tumor_pixels": 50, "segmentation": segmentation, "predictions": predictions}


def test_states_and_false_volumes_of_a_worked_example() -> None:
    decision = Decision(volume=Calibration(operating_point=0.8))
    calls = patient_calls(content(PATIENTS), decision)
    assert set(calls["sources"]) == {"lgg", "negatives"}
    lgg, negatives = calls["sources"]["lgg"], calls["sources"]["negatives"]
    assert lgg["sensitivity"] == pytest.approx(1 / 3) and lgg["specificity"] is None and lgg["low_dice"] == 2
    assert lgg["states"] == {"tumor": {"tumor": 1, "uncertain": 1, "no_prediction": 1}, "none": {}}
    assert negatives["specificity"] == 0.5 and negatives["false_ml"] == {"median": 3.5, "largest": 7.0}
    assert (calls["all"]["n"], calls["all"]["tumors"], calls["all"]["roc_auc"]) == (5, 3, 0.75)
    assert lgg["dice"]["mean"] == pytest.approx(0.95 / 3) and lgg["dice"]["median"] == 0.05
    assert [row["id"] for row in calls["without_tumor"]] == ["negatives/m", "negatives/n"]


def test_a_patient_uses_the_decision_of_its_fold() -> None:
    strict = {"lgg/a": Decision(volume=Calibration(operating_point=0.999))}
    states = {row["id"]: row["state"] for row in volume_rows(content(PATIENTS), Decision(), strict)}
    assert states["lgg/a"] == "uncertain" and states["lgg/b"] == "tumor" and states["lgg/c"] == "no_prediction"


def test_lesions_are_scored_where_all_predictions_count_them() -> None:
    """Predictions of an older version have none; folds of both are pooled."""
    counted = [{**row, "scored": {**row["scored"], **LESIONS}} for row in PATIENTS if row["scored"]["dice"] is not None]
    segmentation = make_report(content(counted), Decision(), resamples=0)["segmentation"]
    assert segmentation["lesions"]["n"] == len(counted) and segmentation["lesions"]["matched"] == 0
    older = [counted[0], PATIENTS[1]]
    assert "lesions" not in make_report(content(older), Decision(), resamples=0)["segmentation"]


def test_report_and_table_contain_patients() -> None:
    report = make_report(content(PATIENTS), Decision(), resamples=0)
    assert report["patients"] == patient_calls(content(PATIENTS), Decision())
    assert "Volumes as a whole" in as_text(report)
    images = [{**row, "kind": "image"} for row in content(PATIENTS)["predictions"]]
    assert make_report({**content([]), "predictions": images}, Decision(), resamples=0)["patients"] == {}


def test_the_operating_point_of_patients_is_fitted_on_patients() -> None:
    tumors = [patient(f"lgg/{n}", [n / 2.0] * 4 + [-9.0], 9.0, 9.0, 0.9) for n in range(1, 21)]
    free = [patient(f"negatives/{n}", [-1.0] * 6, 0.0, 0.0, None) for n in range(3)]
    predictions = content(tumors + free)["predictions"]
    fitted = fit_decision(predictions, Decision(), 0.95, "validation", resamples=0)
    assert fitted.patient is not None and fitted.patient.evidence["sensitivity"] == 0.95
    assert fitted.patient.evidence["specificity"] == 1.0
    assert fitted.operating_point("volume") == fitted.patient.operating_point
    others = {row["case"]: Decision(patient=Calibration(operating_point=0.99)) for row in predictions}
    honest = with_evidence_of_others(fitted, predictions, others).patient
    assert honest is not None and honest.evidence["sensitivity"] == pytest.approx(11 / 20)


def test_without_patients_of_both_classes_the_slices_operating_point_is_used() -> None:
    predictions = content([patient(f"lgg/{n}", [1.0, -1.0], 9.0, 9.0, 0.9) for n in range(4)])["predictions"]
    fitted = fit_decision(
        predictions, Decision(patient=Calibration(operating_point=0.7)), 0.95, "validation", resamples=0
    )
    assert fitted.patient is None
    assert fitted.operating_point("volume") == fitted.volume.operating_point


def test_the_patients_operating_point_is_for_volumes_and_part_of_the_digest() -> None:
    plain, strict = Decision(), Decision(patient=Calibration(operating_point=0.9))
    assert strict.state(0.8, "volume") == "uncertain" and strict.state(0.8, "image") == "tumor"
    assert plain.digest() != strict.digest() and strict.unfitted() == plain
    read = decision_of("none", patient={"operating_point": 0.9})
    assert read == strict
