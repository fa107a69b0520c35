"""Components that are made without MONAI are those that MONAI makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.loading import load_workflow
from bundle.plain_config import NotPlainError, components

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
side: 3
shape: ["@side", 4]
dice: {_target_: fractions.Fraction, numerator: "@side", denominator: 4}
twice: {first: "@dice", second: "@dice"}
made: {_target_: fractions.Fraction, _mode_: callable, numerator: 1}
plain: {_target_: fractions.Fraction, _mode_: callable}
off: {_target_: fractions.Fraction, _disabled_: true}
expression: "$1 + 1"
named: {_target_: Compose, transforms: []}
needs: ["@expression"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "x.yaml").write_text(CONFIG)
    return tmp_path / "x.yaml"


def test_references_are_replaced_and_components_are_made_once(file: Path) -> None:
    from fractions import Fraction

    found = components(file, ["shape", "twice", "shape#0", "made", "plain"], {})
    assert found["shape"] == [3, 4] and found["shape#0"] == 3
    assert found["twice"]["first"] == Fraction(3, 4) and found["twice"]["first"] is found["twice"]["second"]
    assert found["made"](denominator=5) == Fraction(1, 5) and found["plain"] is Fraction


def test_overrides_come_before_the_config(file: Path) -> None:
    found = components(file, ["dice"], {"side": 1, "dice#denominator": 8, "new": "x"})
    assert str(found["dice"]) == "1/8"


@pytest.mark.parametrize("id", ["expression", "named", "needs", "off", "absent", "shape#7"])
def test_other_parts_are_left_to_monai(file: Path, id: str) -> None:
    with pytest.raises(NotPlainError):
        components(file, [id], {})


def test_an_override_that_is_an_expression_is_left_to_monai(file: Path) -> None:
    with pytest.raises(NotPlainError):
        components(file, ["dice"], {"side": "$1 + 1"})


def test_the_decision_is_the_one_that_monai_makes() -> None:
    (found,) = components(ROOT / "configs" / "inference.yaml", ["decision"], {"model_path": "models/model.pt"}).values()
    workflow = load_workflow(["inference.yaml"], model_path="models/model.pt")
    assert found == workflow.parser.get_parsed_content("decision")
