from __future__ import annotations

from typing import Any

from scripts.evaluation.text_tables import as_text, table


def report() -> dict[str, Any]:
    """A report with one patient with tumor, one without, and a source of one class."""
    scores = {"n": 40, "positives": 12, "roc_auc": 0.912, "pr_auc": 0.8, "prevalence": 0.3, "threshold": 0.5}
    one_class = {**dict.fromkeys(scores), "n": 3, "positives": 3, "threshold": 0.5, "sensitivity": 1.0}
    return {
        "notice": "Research use only.",
        "rules": {"region": "whole tumor", "tumor_slice": "at least 50 pixels"},
        "segmentation": {
            "n": 2,
            "patients_n": 2,
            "mean": {"dice": 0.75, "iou": 0.6, "ci95": {"dice": None}},
            "patients": [
                {"id": "brats/B", "dice": None, "iou": None, "reference_ml": 0.0},
                {"id": "brats/A", "dice": 0.75, "iou": 0.6, "reference_ml": 12.0},
            ],
            "empty_slices": {"n": 7, "false_positive_rate": 0.25, "mean_false_positive_mm2": None},
        },
        "classification": {
            "brats": {**scores, "sensitivity": 0.9, "specificity": 0.7},
            "kaggle": {**one_class, "specificity": None},
        },
    }


def test_columns_are_aligned() -> None:
    lines = table(["case", "n", "dice"], [["a", 3, 0.12345], ["a long name", 12, None]]).splitlines()
    assert lines == ["case          n   dice", "a             3  0.123", "a long name  12      -"]


def test_every_patient_and_the_mean_have_a_line() -> None:
    lines = [line.split() for line in as_text(report()).splitlines()]
    assert ["brats/A", "0.750", "0.600", "12.000"] in lines
    assert ["brats/B", "-", "-", "0.000"] in lines
    assert ["mean", "of", "2", "patients", "0.750", "0.600", "-"] in lines


def test_every_source_has_a_line_of_its_own_with_undefined_scores_as_dashes() -> None:
    lines = [line.split() for line in as_text(report()).splitlines()]
    assert ["brats", "40", "12", "0.912", "0.800", "0.300", "0.500", "0.900", "0.700"] in lines
    assert ["kaggle", "3", "3", "-", "-", "-", "0.500", "1.000", "-"] in lines


def test_sensitivity_never_stands_without_specificity_and_n() -> None:
    header = next(line.split() for line in as_text(report()).splitlines() if "sensitivity" in line)
    assert {"n", "positives", "specificity", "threshold"} <= set(header)


def test_rules_false_positives_and_the_notice_are_printed() -> None:
    text = as_text(report())
    assert "at least 50 pixels" in text and "whole tumor" in text and "Research use only." in text
    assert "Slices without tumor: 7, share with a predicted mask 0.250, - mm2 on average" in text


def test_training_cases_are_printed() -> None:
    seen = {**report(), "provenance": "210 cases, 1 of them scored here"}
    assert "Training cases of these weights: 210 cases, 1 of them scored here" in as_text(seen).splitlines()
    assert "Training cases" not in as_text(report())


def test_images_only_have_no_table_of_volumes() -> None:
    pictures = report()
    pictures["segmentation"] |= {"n": 0, "patients_n": 0, "patients": []}
    text = as_text(pictures)
    assert "Segmentation" not in text and "Slices without" not in text and "kaggle" in text
