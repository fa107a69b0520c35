from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.evaluation.segmentation_scores import overlap_scores
from scripts.training.metrics import CaseDice, MeanMetric, SourceAUC


def made_slices() -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """Case, logits and mask of 33 slices: three cases with tumor in some slices, one without any."""
    generator = torch.Generator().manual_seed(5)
    slices = []
    for case, level in (("a", 0.2), ("b", 0.5), ("c", 0.02), ("none", 0.0)):
        for index in range({"a": 3, "b": 10, "c": 16, "none": 4}[case]):
            mask = (torch.rand(1, 6, 6, generator=generator) < level * (index % 3 > 0)).float()
            slices.append((case, 2 * mask - 1 + torch.randn(1, 6, 6, generator=generator), mask))
    return slices


def run(metric: Any, outputs: Sequence[dict[str, Any]]) -> float:
    metric.reset()
    for output in outputs:
        metric.update((output["pred"], output["label"]))
    return float(metric.compute())


def case_dice(slices: list[tuple[str, torch.Tensor, torch.Tensor]], batch_size: int) -> float:
    batches = [slices[i : i + batch_size] for i in range(0, len(slices), batch_size)]
    outputs = [
        {
            "pred": {"seg": torch.stack([logits for _, logits, _ in batch])},
            "label": {
                "mask": torch.stack([mask for *_, mask in batch]),
                "case": [case for case, *_ in batch],
                "kind": ["volume"] * len(batch),
            },
        }
        for batch in batches
    ]
    return run(CaseDice(), outputs)


def volumetric_dice() -> float:
    """Dice of each case's slices put together, by `overlap_scores`; the case without tumor is left out."""
    values = []
    for case in "abc":
        masks = [(logits > 0, mask) for name, logits, mask in made_slices() if name == case]
        values.append(overlap_scores(*(torch.stack(m).numpy() for m in zip(*masks, strict=True)))["dice"])
    return float(np.mean(values))


@pytest.mark.parametrize("batch_size", [1, 3, 16, 100])
def test_case_dice_is_volumetric_whatever_the_batch_size(batch_size: int) -> None:
    assert case_dice(made_slices(), batch_size) == pytest.approx(volumetric_dice())


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(range(33)), batch_size=st.integers(1, 33))
def test_case_dice_does_not_depend_on_the_order_of_slices(order: list[int], batch_size: int) -> None:
    slices = made_slices()
    assert case_dice([slices[i] for i in order], batch_size) == pytest.approx(volumetric_dice())


def test_case_dice_is_not_the_mean_over_slices() -> None:
    empty, full = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    slices = [("a", 2 * full - 1, full), ("a", 2 * full - 1, empty)]  # all is drawn, half of it is tumor
    assert case_dice(slices, 2) == pytest.approx(2 / 3)


def test_case_dice_ignores_images_and_is_undefined_without_cases() -> None:
    images = {"pred": {"cls": torch.zeros(2, 1)}, "label": {"cls": torch.ones(2), "case": ["k/1", "k/2"]}}
    assert math.isnan(run(CaseDice(), [images]))
    assert math.isnan(case_dice([s for s in made_slices() if s[0] == "none"], 4))


def test_case_dice_leaves_out_a_picture_with_a_mask() -> None:
    volume, picture = made_slices()[1], made_slices()[2]
    metric = CaseDice()
    for kind, (_, logits, mask) in (("volume", volume), ("image", picture)):
        metric.update(({"seg": logits[None]}, {"mask": mask[None], "case": [f"{kind}/a"], "kind": [kind]}))
    assert metric.compute() == pytest.approx(case_dice([volume], 1))


def test_case_dice_starts_afresh_after_a_reset() -> None:
    metric, (case, logits, mask) = CaseDice(), made_slices()[1]
    target = {"mask": mask[None], "case": [case], "kind": ["volume"]}
    output = {"pred": {"seg": logits[None]}, "label": target}
    first = run(metric, [output])
    metric.update(({"seg": -logits[None]}, target))
    assert run(metric, [output]) == first


@pytest.mark.parametrize(
    ("dice", "auc", "mean"), [(0.5, 0.9, 0.7), (math.nan, 0.9, 0.9), (math.nan, math.nan, math.nan)]
)
def test_a_mean_of_metrics_ignores_undefined_ones(dice: float, auc: float, mean: float) -> None:
    class Told(CaseDice):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def compute(self) -> float:
            return self.value

    images = {"pred": {}, "label": {}}
    assert run(MeanMetric([Told(dice), Told(auc)]), [images]) == pytest.approx(mean, nan_ok=True)


def predictions(*rows: tuple[str, float, float]) -> list[dict[str, Any]]:
    """Engine outputs of one row each: source, class, logit."""
    return [
        {"pred": {"cls": torch.tensor([[logit]])}, "label": {"cls": torch.tensor([cls]), "source": [source]}}
        for source, cls, logit in rows
    ]


def test_auc_is_taken_within_each_source() -> None:
    """A detector of the source alone: pooled it would score well, within each source it is worth nothing."""
    rows = [("k", float(cls), 5.0) for cls in (1, 1, 1, 0)] + [("b", float(cls), -5.0) for cls in (0, 0, 0, 1)]
    assert run(SourceAUC(), predictions(*rows)) == 0.5


def test_auc_is_the_mean_over_sources() -> None:
    rows = predictions(("k", 1.0, 2.0), ("k", 0.0, 1.0), ("b", 1.0, 11.0), ("b", 0.0, 12.0))
    assert run(SourceAUC(), rows) == 0.5


def test_auc_ignores_unknown_classes_and_sources_of_one_class() -> None:
    rows = [("k", 1.0, 2.0), ("k", 0.0, 1.0), ("k", math.nan, 9.0), ("b", 1.0, 0.0), ("b", 1.0, 0.0)]
    assert run(SourceAUC(), predictions(*rows)) == 1.0
    assert math.isnan(run(SourceAUC(), predictions(*rows[3:]))), "where nothing is known"


def test_auc_does_not_depend_on_batches() -> None:
    rows = [("k", float(n % 2), float(n * n % 7)) for n in range(12)]
    whole = {
        "pred": {"cls": torch.tensor([[logit] for *_, logit in rows])},
        "label": {"cls": torch.tensor([cls for _, cls, _ in rows]), "source": [source for source, *_ in rows]},
    }
    orders = itertools.islice(itertools.permutations(predictions(*rows)), 0, 1000, 250)
    values = {run(SourceAUC(), order) for order in orders}
    assert values == {run(SourceAUC(), [whole])}
