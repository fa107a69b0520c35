"""Preprocessing of scans that lack sequences, or whose sequence is unknown."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from bundle.datasets.phantoms import write_volumes
from bundle.loading import BUNDLE_ROOT as ROOT
from scripts.core.configs import components_of
from scripts.core.filenames import ABSENT
from scripts.transforms.channels import filled, known_channels, missing_channels, shown_channel
from scripts.transforms.preprocessing import BACKGROUND, tissue_of

READ = ["flair", "t1", "t2"]
SUBSETS = [subset for size in (1, 2) for subset in combinations(range(3), size)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("case")
    (case,) = write_volumes(folder, 1, slices=8, side=96, modalities=READ)
    return [str(case / f"{case.name}_{name}.nii.gz") for name in READ]


@pytest.fixture(scope="module")
def preprocessing() -> Any:
    return components_of(ROOT, "inference.yaml", ["preprocessing"], modalities=READ)["preprocessing"]


@pytest.mark.parametrize("subset", SUBSETS)
def test_missing_sequences_are_background_and_the_others_as_with_all(
    subset: tuple[int, ...], files: list[str], preprocessing: Any
) -> None:
    whole = preprocessing({"image": files})["image"]
    part = preprocessing({"image": [file if n in subset else ABSENT for n, file in enumerate(files)]})["image"]
    assert part.shape == whole.shape
    assert missing_channels(part[..., 2]).tolist() == [n not in subset for n in range(3)]
    assert all(bool((part[n] == BACKGROUND).all()) for n in range(3) if n not in subset)
    for n in subset:  # the phantom's sequences show one head, so that it is placed alike
        assert torch.equal(part[n], whole[n])
    assert torch.equal(shown_channel(part), part[subset[0]])


def test_a_volume_of_unknown_sequence_is_followed_by_unknown_channels(
    files: list[str], preprocessing: Any, tmp_path: Path
) -> None:
    (tmp_path / "scan.nii.gz").write_bytes(Path(files[1]).read_bytes())
    found = preprocessing({"image": str(tmp_path / "scan.nii.gz")})["image"]
    alone = components_of(ROOT, "inference.yaml", ["preprocessing"], modalities=["t1"])["preprocessing"]
    assert found.shape[0] == 3 and bool(torch.isnan(found[1:]).all())
    assert torch.equal(known_channels(found.as_tensor()), alone({"image": files[1]})["image"].as_tensor())
    assert torch.equal(tissue_of(found.as_tensor()[..., 2]), found.as_tensor()[0, ..., 2] > BACKGROUND)


def test_an_item_of_one_channel_is_filled_and_another_stays() -> None:
    item = filled({"image": torch.zeros(1, 4, 4), "statistics": torch.tensor([[0.5], [2.0]]).numpy()}, 3)
    assert item["image"].shape == (3, 4, 4) and bool(torch.isnan(item["image"][1:]).all())
    assert item["statistics"].tolist() == [[0.5, 0, 0], [2, 1, 1]]
    whole = {"image": torch.zeros(3, 4, 4), "statistics": torch.zeros(2, 3).numpy()}
    assert filled(dict(whole), 3)["image"] is whole["image"]
