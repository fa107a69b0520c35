from __future__ import annotations

from typing import Any

from bundle.reporting.comparisons import clear_differences, scored_sources


def variant(description: str, dice: tuple[float, float, float], **aucs: tuple[float, float, float] | None) -> Any:
    """A variant with differences to the reference: value and interval."""
    known = {name: {"within_folds": {"roc_auc": 0.5 if found else None}} for name, found in aucs.items()}
    differences = {
        name: {"difference": found[0] if found else None, "ci95": list(found[1:]) if found else None}
        for name, found in aucs.items()
    }
    against = {"dice": {"mean_difference": dice[0], "ci95": list(dice[1:])}, "roc_auc": differences}
    return {"description": description, "seeds": [{"classification": known}], "against_reference": against}


def test_clear_differences_are_those_whose_interval_excludes_zero() -> None:
    none = (0.0, 0.0, 0.0)
    variants = {
        "recipe": variant("as it is", none, kaggle=none, negatives=None),
        "better": variant("more data", (0.02, -0.01, 0.05), kaggle=(0.1, 0.05, 0.15), negatives=None),
        "worse": variant("less data", (-0.2, -0.3, -0.1), kaggle=(-0.1, -0.2, -0.05), negatives=None),
        "equal": variant("other seed", (0.01, -0.01, 0.03), kaggle=(0.0, 0.0, 0.0), negatives=None),
    }
    comparison = {"reference": "recipe", "variants": variants}
    assert clear_differences(comparison) == {
        "more data": ["AUC kaggle +0.100"],
        "less data": ["Dice -0.200", "AUC kaggle -0.100"],
    }
    assert scored_sources(comparison) == ["kaggle"], "a source without both classes has no column"
