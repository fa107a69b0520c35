"""Dice of each region, by patient, over the volumes whose masks and predictions tell it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from ignite.engine import Engine
from monai.data import MetaTensor

from scripts.core.regions import REGIONS, TumorRegion, codes_of
from scripts.evaluation.score_cases import ScoreCases
from scripts.evaluation.text_tables import as_text
from scripts.inference.decision import Decision

ALL: list[TumorRegion] = [
    {"name": name, "title": REGIONS[name].title, "codes": codes}  # type: ignore[typeddict-item]
    for name, codes in codes_of(list(REGIONS)).items()
]
# voxels in a row; the codes of the reference, and those of the prediction
VOLUMES = {
    "a_1": ([2, 2, 1, 4, 0, 0], [2, 1, 1, 4, 0, 0], ALL),
    "a_2": ([2, 2, 1, 1, 0, 0], [2, 2, 1, 1, 0, 0], ALL),  # no enhancing tumor
    "b": ([2, 1, 4, 4, 0, 0], [0, 2, 2, 2, 2, 0], ALL),
    "binary": ([1, 1, 1, 1, 0, 0], [2, 2, 1, 4, 0, 0], ALL),
    "part": ([2, 2, 1, 4, 0, 0], [2, 2, 2, 2, 0, 0], ALL[:1]),  # a sequence is missing
}


def report_of(folder: Path, volumes: dict[str, tuple[list[int], list[int], list[TumorRegion]]]) -> dict[str, Any]:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    cases, scored = [], []
    for name, (reference, predicted, regions) in volumes.items():
        label = folder / f"{name}_seg.nii.gz"
        nib.save(nib.Nifti1Image(np.array(reference, np.uint8).reshape(1, 6, 1), affine), label)  # type: ignore[no-untyped-call]
        patient = f"s/{name.partition('_')[0]}"
        cases.append(
            {"id": f"s/BraTS20_{name}", "source": "s", "group": patient, "kind": "volume", "label": str(label)}
        )
        mask = MetaTensor(np.array(predicted, np.float32).reshape(1, 1, 6, 1), meta={"original_affine": affine})
        scored.append((mask, np.zeros(1), affine, regions))
    scores = ScoreCases(cases, Decision(), 1, folder, {}, printed=False)
    engine = Engine(lambda engine, batch: None)
    scores.start(engine)
    for case, one in zip(cases, scored, strict=True):
        scores.score(case, *one)
    scores.finish(engine)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_dice_of_each_region_is_a_mean_over_patients_who_have_it(tmp_path: Path) -> None:
    """By hand: core of a 4/5 and 1, of b 0; enhancing tumor of a 1, of b 0."""
    found = report_of(tmp_path, VOLUMES)["segmentation"]
    regions = found["regions"]
    assert {name: one["n"] for name, one in regions.items()} == {"wt": 2, "tc": 2, "et": 2}
    assert regions["tc"]["dice"] == pytest.approx(((4 / 5 + 1) / 2 + 0) / 2)
    assert regions["et"]["dice"] == pytest.approx((1 + 0) / 2)
    assert regions["wt"]["dice"] == pytest.approx((1 + 6 / 8) / 2)
    assert regions["tc"]["ci95"][0] == 0.0 and regions["et"]["title"] == "enhancing tumor"
    rows = {row["id"].partition("_")[2]: row for row in found["patients"]}
    assert {name for name in VOLUMES if "regions" in rows[name]} == {"a_1", "a_2", "b"}
    assert rows["a_2"]["regions"]["et"] == {"dice": None, "reference_ml": 0.0, "predicted_ml": 0.0}
    assert found["patients_n"] == 4, "the whole tumor is scored in every volume"


def test_the_whole_tumor_has_the_scores_of_a_mask_without_regions(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = {name: (reference, [int(code > 0) for code in mask], []) for name, (reference, mask, _) in VOLUMES.items()}
    one, other = report_of(tmp_path, VOLUMES)["segmentation"], report_of(tmp_path / "alone", alone)["segmentation"]
    assert one["mean"] == other["mean"] and "regions" not in other
    assert "Regions" not in as_text(report_of(tmp_path / "alone", alone))


def test_the_table_names_each_region_and_its_patients(tmp_path: Path) -> None:
    lines = as_text(report_of(tmp_path, VOLUMES)).splitlines()
    row = next(line for line in lines if line.startswith("tumor core"))
    assert row.split()[2:4] == ["2", "0.450"]
