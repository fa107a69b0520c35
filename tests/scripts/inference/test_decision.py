"""One object decides: calibrated, never in conflict with itself, and fitted only for the weights it was fitted on."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.core.documents import Kind
from scripts.core.messages import report_note
from scripts.inference.decision import Calibration, Decision, ModelCard, decision_of

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
SHARE = st.floats(0, 1)
CALIBRATIONS = st.builds(Calibration, st.floats(0.05, 20), SHARE)
DECISIONS = st.builds(Decision, CALIBRATIONS, CALIBRATIONS, SHARE, st.integers(1, 6))
KINDS = st.sampled_from(["image", "volume"])
WEIGHTS = b"these are weights"


def release(folder: Path, report: Any, weights: bytes = WEIGHTS) -> Path:
    """A weights file with a report beside it."""
    (folder / "model.pt").write_bytes(weights)
    (folder / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))
    return folder / "model.pt"


def report(**decision: Any) -> dict[str, Any]:
    return {"schema_version": 1, "model": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}, "decision": decision}


@PROPERTY
@given(decision=DECISIONS, probability=SHARE, kind=KINDS)
def test_the_state_never_contradicts_the_detection(decision: Decision, probability: float, kind: Kind) -> None:
    state, detected = decision.state(probability, kind), decision.detected(probability, kind)
    assert detected or state != "tumor"
    assert not detected or state != "no_tumor"
    assert decision.detected(probability, kind) == (probability >= decision.of(kind).operating_point)


@PROPERTY
@given(decision=DECISIONS, pair=st.tuples(SHARE, SHARE).map(sorted), kind=KINDS)
def test_the_state_is_monotonic_in_the_probability(decision: Decision, pair: list[float], kind: Kind) -> None:
    order = ["no_tumor", "uncertain", "tumor"]
    assert order.index(decision.state(pair[0], kind)) <= order.index(decision.state(pair[1], kind))


@pytest.mark.parametrize(
    ("probability", "state"),
    [(0.0, "no_tumor"), (0.29, "no_tumor"), (0.3, "uncertain"), (0.5, "tumor"), (1.0, "tumor")],
)
def test_the_default_thresholds_include_their_own_value(probability: float, state: str) -> None:
    assert Decision().state(probability, "image") == Decision().state(probability, "volume") == state


@pytest.mark.parametrize(("point", "display"), [(0.2, 0.3), (0.3, 0.2)])
def test_probabilities_between_the_two_thresholds_are_uncertain(point: float, display: float) -> None:
    decision = Decision(image=Calibration(operating_point=point), display_threshold=display)
    states = [decision.state(p, "image") for p in (0.19, 0.2, 0.29, 0.3)]
    assert states == ["no_tumor", "uncertain", "uncertain", "tumor"]


def test_images_and_volumes_are_calibrated_separately() -> None:
    decision = Decision(image=Calibration(2.0, 0.4), volume=Calibration(1.0, 0.9))
    assert decision.detected(0.5, "image") and not decision.detected(0.5, "volume")
    assert decision.probability(np.array(4.0), "image") < decision.probability(np.array(4.0), "volume")


@PROPERTY
@given(logit=st.floats(-30, 30), temperature=st.floats(0.05, 20))
def test_a_probability_is_the_sigmoid_of_the_scaled_logit(logit: float, temperature: float) -> None:
    probability = float(Decision(image=Calibration(temperature)).probability(np.array(logit), "image"))
    assert probability == pytest.approx(0.5 + 0.5 * math.tanh(logit / temperature / 2), abs=1e-12)


def test_a_slice_without_a_prediction_has_none() -> None:
    assert np.isnan(Decision().probability(np.array([0.0, np.nan]), "volume")).tolist() == [False, True]


@pytest.mark.filterwarnings("error")
def test_extreme_logits_are_certain_without_a_warning() -> None:
    with np.errstate(over="ignore"):
        assert Decision().probability(np.array([-1e4, 1e4]), "image").tolist() == [0.0, 1.0]


def test_a_volume_has_the_mean_of_its_top_slices() -> None:
    slices = np.array([0.1, np.nan, 0.9, 0.2, 0.7, 0.8])
    assert Decision(top_slices=3).volume_probability(slices) == pytest.approx(0.8)
    assert Decision(top_slices=1).volume_probability(slices) == pytest.approx(0.9)
    assert Decision(top_slices=50).volume_probability(slices) == pytest.approx(0.54)


def test_a_single_slice_keeps_its_probability() -> None:
    assert Decision().volume_probability(np.array([0.42])) == 0.42


@pytest.mark.parametrize("slices", [[], [np.nan, np.nan]])
def test_a_volume_without_predicted_slices_has_no_probability(slices: list[float]) -> None:
    assert math.isnan(Decision().volume_probability(np.array(slices)))


@PROPERTY
@given(decision=DECISIONS, slices=st.lists(st.one_of(SHARE, st.just(math.nan)), min_size=1), seed=st.integers(0, 99))
def test_the_order_of_slices_does_not_matter(decision: Decision, slices: list[float], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(slices)
    predictions = decision.volume_probability(np.array(slices)), decision.volume_probability(shuffled)
    assert np.array_equal(*predictions, equal_nan=True)


def test_a_report_of_these_weights_gives_what_was_fitted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = Calibration(1.7, 0.61, "validation: 40 images of 38 clusters", {"n": 40, "ci95": {"temperature": None}})
    fitted = Decision(image, Calibration(0.8, 0.4), 0.25, 5)
    path = release(tmp_path, report(**asdict(fitted)))
    defaults = {"temperature": 1.0, "operating_point": 0.5}
    assert decision_of(path, image=defaults, display_threshold=0.25, top_slices=5) == fitted and not caplog.text
    assert decision_of(path, image={"temperature": 3.0}) == fitted
    assert "decision#image of the config is not used" in caplog.text


@pytest.mark.parametrize(("rule", "value"), [("display_threshold", 0.9), ("top_slices", 1)])
def test_rules_of_the_config_that_differ_from_the_evidence_are_printed(
    rule: str, value: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = Decision(Calibration(1.7, 0.61), Calibration(0.8, 0.4), 0.3, 3)
    path = release(tmp_path, report(**asdict(fitted)))
    assert decision_of(path, **{rule: value}) == replace(fitted, **{rule: value})
    assert f"{rule} is {value}, the report's evidence was measured with 3" in caplog.text.replace("0.3", "3")


def test_missing_values_of_a_report_are_the_configs(tmp_path: Path) -> None:
    path = release(tmp_path, report(image={"temperature": 2.5}))
    assert decision_of(path, top_slices=1) == Decision(Calibration(2.5), top_slices=1)


def test_a_report_of_other_weights_is_not_used(tmp_path: Path) -> None:
    path = release(tmp_path, report(image={"operating_point": 0.9}), weights=b"other weights")
    assert decision_of(path, display_threshold=0.4) == Decision(display_threshold=0.4)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"model": null}', '{"model": {"sha256": null}}'])
def test_a_report_without_a_weights_hash_is_not_used(tmp_path: Path, content: str) -> None:
    assert decision_of(release(tmp_path, content), top_slices=2) == Decision(top_slices=2)


def test_without_a_report_or_weights_the_config_decides(tmp_path: Path) -> None:
    volume = {"temperature": 3.0}
    assert decision_of(tmp_path / "model.pt", volume=volume) == Decision(volume=Calibration(3.0))
    release(tmp_path, report(volume={"temperature": 2.5}))
    (tmp_path / "report.json").unlink()
    assert decision_of(tmp_path / "model.pt", volume=volume) == Decision(volume=Calibration(3.0))


def test_weights_are_described_by_version_and_hash(tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text('{"version": "7.8.9"}')
    path, digest = release(tmp_path, report()), hashlib.sha256(WEIGHTS).hexdigest()
    known = {"version": "7.8.9", "sha256": digest, "report": report_note("matching")}
    assert ModelCard(path, tmp_path / "metadata.json") == known
    path.write_bytes(WEIGHTS[:-1])
    assert ModelCard(path, tmp_path / "metadata.json")["report"] == report_note("of_other_weights"), "one byte is gone"
    path.write_bytes(WEIGHTS)
    (tmp_path / "report.json").unlink()
    alone = ModelCard(path, tmp_path / "metadata.json")
    assert alone == {**known, "report": report_note("missing")}
    path.unlink()
    assert ModelCard(path, tmp_path / "metadata.json") == {**alone, "sha256": None}


def test_the_digest_depends_on_the_decision_not_on_its_file() -> None:
    fitted = Decision(Calibration(2.0, 0.6), Calibration(1, 0.4), 0.3, 3)
    others = [
        Decision(replace(fitted.image, temperature=2.1), fitted.volume),
        Decision(replace(fitted.image, operating_point=0.61), fitted.volume),
        Decision(fitted.image, replace(fitted.volume, temperature=1.1)),
        Decision(fitted.image, replace(fitted.volume, operating_point=0.41)),
        Decision(fitted.volume, fitted.image),
        replace(fitted, display_threshold=0.2),
        replace(fitted, top_slices=4),
    ]
    assert len({decision.digest() for decision in [fitted, *others]}) == 8
    same = Decision(Calibration(2.0, 0.6, "validation", {"n": 9}), Calibration(1.0, 0.4))
    assert same.digest() == fitted.digest()


def test_weights_info_follows_its_file_unless_the_network_is_loaded(tmp_path: Path) -> None:
    path = release(tmp_path, report())
    (tmp_path / "metadata.json").write_text(json.dumps({"version": "1.2.3"}))
    following, fixed = (ModelCard(path, tmp_path / "metadata.json", follow=follow) for follow in (True, False))
    before = dict(following)
    assert before == dict(fixed) and before["report"] == report_note("matching")
    path.write_bytes(b"trained further")
    assert dict(fixed) == before
    assert following["sha256"] != before["sha256"] and following["report"] == report_note("of_other_weights")


@pytest.mark.parametrize("version", [None, 0, 2])
def test_a_report_of_another_version_is_refused_with_a_remedy(tmp_path: Path, version: int | None) -> None:
    other = report(display_threshold=0.3) | {"schema_version": version}
    model = release(tmp_path, {name: value for name, value in other.items() if value is not None})
    with pytest.raises(ValueError, match=r"report\.json: of another version of the bundle; fit it again, or remove it"):
        decision_of(model)


@pytest.mark.parametrize(
    "odd",
    [
        {"image": {"temperature": 0.0}},
        {"image": {"temperature": "warm"}},
        {"volume": {"operating_point": float("nan")}},
        {"volume": {"operating_point": 7}},
        {"patient": {"evidence": 3}},
        {"image": {"threshold": 0.5}},
        {"image": [1.0, 0.5]},
        {"display_threshold": "low"},
        {"top_slices": 0},
        {"seven": 7},
        ["image", "volume"],
        "tumor",
        7,
    ],
    ids=str,
)
def test_an_odd_decision_in_a_report_is_one_line_with_a_remedy(tmp_path: Path, odd: Any) -> None:
    model = release(tmp_path, report() | {"decision": odd})
    with pytest.raises(
        ValueError, match=r"report\.json: its decision is damaged \(.+\); fit it again, or remove it"
    ) as found:
        decision_of(model)
    assert "\n" not in str(found.value)
