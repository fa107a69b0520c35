"""What is told of a scan's sequence, what is flagged, and what gets no prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.inference.check_sequence import CheckSequenced, assess_sequence
from scripts.inference.decision import Decision
from scripts.inference.look_features import FEATURES, features_of, slices_to_look_at
from scripts.inference.postprocessing import SummarizePredictiond
from scripts.inference.sequence_by_look import SequenceClassifier, sequence_classifier_of

SURE = {"flair": 0.9, "t1": 0.05, "t1ce": 0.05}
NOT_SURE = {"flair": 0.4, "t1": 0.5, "t1ce": 0.1}
ANOTHER = {"flair": 0.05, "t1": 0.15, "t1ce": 0.8}


@pytest.fixture
def classifier() -> SequenceClassifier:
    """Takes everything for the first class; volumes below 0.2 are not taken for FLAIR, those below 0.5 with doubt."""
    layer = [np.zeros((FEATURES, 2)), np.zeros(2), np.zeros((2, 3)), np.array([9.0, 0.0, 0.0])]
    limits: dict[str, Any] = {"least": {"flair": 0.2}, "doubt": {"flair": 0.5}}
    return SequenceClassifier(
        ["flair", "t1", "t1ce"], np.zeros(FEATURES).tolist(), np.ones(FEATURES).tolist(), [layer], **limits
    )


@pytest.mark.parametrize(
    ("told", "looks", "kind", "code", "withheld"),
    [
        ("flair", SURE, "volume", None, False),
        ("flair", ANOTHER, "volume", "sequence_contradicted", False),  # the name comes first, and the doubt is said
        ("t1ce", SURE, "volume", "other_sequence", True),
        ("seg", None, "volume", "other_sequence", True),
        ("", SURE, "volume", None, False),
        ("", NOT_SURE, "volume", "sequence_doubtful", False),
        ("", ANOTHER, "volume", "other_sequence_by_look", False),
        ("", None, "volume", "sequence_unchecked", False),
        ("flair", None, "volume", None, False),
        ("", ANOTHER, "image", None, False),  # pictures of any sequence are classified
        ("t2", SURE, "image", None, False),
        ("other", SURE, "image", "other_sequence", False),
    ],
)
def test_the_sequence_and_flags_of_a_scan(
    told: str, looks: Any, kind: Any, code: str | None, withheld: bool, classifier: SequenceClassifier
) -> None:
    found, flags, taken_back = assess_sequence(told, looks, kind, ["flair"], classifier)
    assert [flag["code"] for flag in flags] == ([code] if code else [])
    assert taken_back == withheld
    assert found["by"] == ("name" if told else "look" if looks else None)
    assert found["sequence"] == (told or (max(looks, key=looks.get) if looks else None))


def scan(told: str = "", slices: int = 6) -> dict[Any, Any]:
    """A smooth round head as the network is served it, and a prediction that marks a part of it."""
    rows, columns = np.mgrid[-1:1:128j, -1:1:128j]
    plane = np.where(np.hypot(rows, columns) < 0.8, 1 - np.hypot(rows, columns) + 0.2 * np.sin(9 * rows), -4.0)
    image = MetaTensor(torch.from_numpy(np.repeat(plane[None, :, :, None], slices, 3)).float())
    image.meta["sequence_told"] = told
    return {"image": image, "pred": MetaTensor(torch.ones(1, 128, 128, slices)), "slice_logits": np.ones(slices)}


@pytest.mark.parametrize(("told", "empty"), [("flair", False), ("t1ce", True)])
def test_a_volume_of_another_sequence_gets_no_mask_and_no_probability(told: str, empty: bool, tmp_path: Path) -> None:
    found = CheckSequenced("pred", ["flair"], tmp_path / "none.json")(scan(told))
    assert (not found["pred"].any()) == np.isnan(found["slice_logits"]).all() == found["withheld"] == empty
    assert isinstance(found["pred"], MetaTensor)


def test_weights_of_several_channels_are_not_checked(tmp_path: Path) -> None:
    data = scan("t1ce")
    assert CheckSequenced("pred", ["flair", "t1"], tmp_path / "none.json")(data).keys() == data.keys()


def test_features_do_not_change_with_brightness_and_contrast() -> None:
    plane = scan()["image"][0, :, :, 0]
    other = torch.where(plane > -4, (plane * 0.7 + 0.3), plane)
    first, second = features_of(plane), features_of(other)
    assert first is not None and second is not None and first.shape == (FEATURES,)
    assert np.isfinite(first).all() and np.allclose(first, second, atol=0.02)


def test_empty_and_tiny_planes_have_no_features() -> None:
    assert features_of(torch.full((64, 64), -4.0)) is None
    dot = torch.full((64, 64), -4.0)
    dot[30:35, 30:35] = 1.0
    assert features_of(dot) is None
    assert slices_to_look_at(np.zeros(5)).size == 0


def test_the_released_classifier_is_there_with_its_evidence(root: Path) -> None:
    found = sequence_classifier_of(root / "models" / "sequences.json")
    assert found is not None and len(found.classes) == 7
    volumes = np.array(found.evidence["volumes"])
    assert np.diag(volumes)[0] >= 0.9 * volumes[0].sum()
    below, count = found.evidence["below"]["doubt"]["flair"]["t1ce"]
    assert below >= 0.9 * count  # of the volumes after contrast that were left out, nearly all are flagged


@pytest.mark.parametrize(("told", "flags"), [("", ["sequence_unchecked"]), ("flair", ["sequence_unchecked"])])
def test_a_volume_whose_look_cannot_be_checked_says_so(told: str, flags: list[str], tmp_path: Path) -> None:
    found = CheckSequenced("pred", ["flair"], tmp_path / "none.json")(scan(told))
    assert [flag["code"] for flag in found["sequence_flags"]] == flags


def test_a_classifier_without_a_limit_for_the_sequence_checks_nothing(classifier: SequenceClassifier) -> None:
    unlimited = replace(classifier, least={})
    assert [flag["code"] for flag in assess_sequence("", ANOTHER, "volume", ["flair"], unlimited)[1]] == [
        "sequence_unchecked"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": []},
        {"mean": [0.0]},
        {"scale": [0.0] * FEATURES},
        {"scale": [float("nan")] * FEATURES},
        {"classes": ["flair", "t1", "cat"]},
        {"least": {"flair": 0.0}},
        {"least": {"flair": "low"}},
        {"layers": [[[[0.0]], [0.0], [[0.0]], [0.0]]]},
        {"layers": None},
    ],
    ids=["none", "short", "zero", "nan", "class", "no limit", "text", "shape", "null"],
)
def test_an_odd_file_is_named_and_not_used(
    changes: dict[str, Any], classifier: SequenceClassifier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layers = [[np.asarray(values).tolist() for values in layer] for layer in classifier.layers]
    content = {"classes": classifier.classes, "mean": classifier.mean, "scale": classifier.scale, "layers": layers}
    content |= {"least": classifier.least, "doubt": classifier.doubt}
    (tmp_path / "s.json").write_text(json.dumps(content))
    assert sequence_classifier_of(tmp_path / "s.json") is not None and not caplog.text
    (tmp_path / "s.json").write_text(json.dumps({**content, **changes}))
    assert sequence_classifier_of(tmp_path / "s.json") is None and "s.json: not used" in caplog.text


def test_a_damaged_classifier_file_is_ignored(tmp_path: Path) -> None:
    for content in ("", "[]", '{"classes": []}', json.dumps({"mean": [0.0]})):
        (tmp_path / "s.json").write_text(content)
        assert sequence_classifier_of(tmp_path / "s.json") is None


def test_phantoms_are_recognized_by_their_sequence(root: Path, tmp_path: Path) -> None:
    from bundle.datasets.phantoms import write_volumes
    from scripts.core.configs import components_of

    found = sequence_classifier_of(root / "models" / "sequences.json")
    write_volumes(tmp_path, 2, slices=12, side=160, seed=9, modalities=["flair", "t1", "t1ce", "t2"])
    read = components_of(root, "inference.yaml", ["preprocessing"])["preprocessing"]
    for file in tmp_path.rglob("*_[ft]*.nii.gz"):
        looks = found.look(read({"image": str(file)})["image"]) if found else None
        assert looks is not None
        assert (max(looks, key=lambda name: looks[name]) == "flair") == ("flair" in file.name), (file.name, looks)


@pytest.mark.parametrize(
    ("flags", "state"), [([], "no_tumor"), ([{"code": "sequence_doubtful", "text": ""}], "uncertain")]
)
def test_a_volume_of_doubtful_sequence_is_never_no_tumor(flags: list[Any], state: str) -> None:
    data = {"slice_logits": np.full(6, -9.0), "pred": MetaTensor(torch.zeros(1, 8, 8, 6)), "sequence_flags": flags}
    data["pred"].meta |= {"spatial_shape": np.array([8, 8, 6]), "original_affine": np.eye(4), "spacing_used": True}
    assert SummarizePredictiond("pred", Decision())(data)["result"]["state"] == state
