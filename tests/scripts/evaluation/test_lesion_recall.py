"""Lesions by size: what is touched and matched, intervals over patients, and the panoptic quality of others' code."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from scripts.evaluation.lesion_recall import lesion_scores, matched_lesions


def blobs(rng: np.random.Generator, shape: tuple[int, ...], threshold: float) -> np.ndarray:
    """A random mask of some connected parts."""
    return np.asarray(ndimage.gaussian_filter(rng.normal(size=shape), 1.2) > threshold)


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A reference, and a prediction that shares some of its lesions; now and then one of them is empty."""
    rng = np.random.default_rng(seed)
    shape = (24, 20) if seed % 2 else (18, 16, 10)
    reference = blobs(rng, shape, rng.uniform(0.05, 0.25)) & (seed % 17 != 0)
    noise = blobs(rng, shape, rng.uniform(0.2, 0.4))
    moved = np.roll(reference, 1, axis=0) & ~noise
    return np.where(rng.random() < 0.8, moved | (reference & noise), noise) & (seed % 23 != 0), reference


def volume(patient: str, *lesions: tuple[float, float], predicted: int = 0) -> dict[str, object]:
    found = [{"ml": ml, "iou": iou} for ml, iou in lesions]
    return {"patient": patient, "reference_lesions": found, "predicted_lesions": predicted}


def test_a_lesion_is_touched_by_one_voxel_and_matched_above_half() -> None:
    reference, prediction = np.zeros((2, 12, 12, 6), dtype=bool)
    reference[1:4, 1:4, 1] = reference[8:10, 8:10, 3] = reference[8, 1, 5] = True
    prediction[1:4, 1:4, 1] = prediction[9:12, 9:12, 3] = prediction[1, 10, 5] = True
    found = matched_lesions(prediction, reference, voxel_ml=0.5)
    assert [lesion["ml"] for lesion in found["reference_lesions"]] == [4.5, 0.5, 2.0]
    assert [round(lesion["iou"], 3) for lesion in found["reference_lesions"]] == [1.0, 0.0, round(1 / 12, 3)]
    assert found["predicted_lesions"] == 3


def test_recall_is_told_by_size_with_an_interval_over_patients() -> None:
    volumes = [volume(str(p), (0.5, 0.2 * (p % 2)), (6.0, 0.9), (30.0, 0.4), predicted=3) for p in range(10)]
    scores = lesion_scores(volumes, resamples=500)
    small, middle, large = scores["by_size"]
    assert (small["low_ml"], small["high_ml"], small["n"], small["patients_n"]) == (0.0, 1.0, 10, 10)
    assert (small["touched"], small["matched"]) == (0.5, 0.0)
    low, high = small["ci95"]["touched"] or (1, 0)
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert (middle["matched"], large["touched"], large["matched"], large["high_ml"]) == (1.0, 1.0, 0.0, None)
    assert scores["recognition_quality"] == pytest.approx(2 * 10 / 60)


def test_without_lesions_there_are_no_shares() -> None:
    assert lesion_scores([volume("a")])["panoptic_quality"] is None
    assert lesion_scores([volume("a", predicted=2)])["panoptic_quality"] == 0.0
    assert lesion_scores([volume("a")])["by_size"] == []
    with pytest.raises(ValueError, match="differ in shape"):
        matched_lesions(np.zeros((2, 2)), np.zeros((2, 3)), 1.0)


def test_a_case_of_one_patient_has_no_interval() -> None:
    (row,) = lesion_scores([volume("a", (2.0, 0.8), predicted=1)])["by_size"]
    assert row["ci95"] == {}


@pytest.mark.session
def test_panoptica_finds_the_same_in_200_random_masks() -> None:
    pytest.importorskip("panoptica", reason="pip install panoptica")
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )
    from panoptica.metrics import Metric
    from panoptica.utils.constants import CCABackend

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(cca_backend=CCABackend.cc3d),
        instance_matcher=NaiveThresholdMatching(matching_metric=Metric.IOU, matching_threshold=0.5 + 1e-9),
        instance_metrics=[Metric.IOU],
        global_metrics=[],
    )
    compared = 0
    for seed in range(200):
        prediction, reference = random_pair(seed)
        theirs = evaluator.evaluate(prediction.astype(np.uint8), reference.astype(np.uint8), verbose=False)
        theirs = theirs["ungrouped"]
        ours = lesion_scores([{"patient": "a", **matched_lesions(prediction, reference, 1.0)}])
        counts = (theirs.n_ref_instances, theirs.n_pred_instances, theirs.tp)
        assert (ours["n"], ours["predicted"], ours["matched"]) == counts, seed
        if ours["matched"]:
            assert ours["panoptic_quality"] == pytest.approx(theirs.pq), seed
            assert ours["segmentation_quality"] == pytest.approx(theirs.sq), seed
            assert ours["recognition_quality"] == pytest.approx(theirs.rq), seed
            compared += 1
    assert compared > 100
