"""Training on volumes of several sequences, of which some cases lack one, together with images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.loading import BUNDLE_ROOT, parse, run_workflow
from scripts.dataset.slice_store import SliceStore
from scripts.transforms.preprocessing import BACKGROUND

READ = ["flair", "t1"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes, one without a T1, and images."""
    root = tmp_path_factory.mktemp("mixed")
    write_volumes(root / "brats", 3, slices=8, side=96, modalities=READ)
    for case in ("PHANTOM_001", "PHANTOM_002"):
        (root / "brats" / case / f"{case}_t1.nii.gz").unlink()
    write_images(root / "kaggle", 12)
    sources = {"volumes": str(root / "brats"), "images": str(root / "kaggle"), "modalities": READ, "folds": 3}
    run_workflow("preprocessing", ["preprocess.yaml"], dataset_dir=str(root / "data"), **sources)
    return root / "data"


def test_a_store_holds_what_each_case_has(store: Path) -> None:
    for case in SliceStore(store).cases():
        image, _ = SliceStore(store).read(case["id"], len(case["slices"]) // 2)
        if case["kind"] == "image":
            assert len(image) == 1 and np.isfinite(image).all()
            continue
        assert len(image) == 2 and (image[0] > BACKGROUND).any()
        assert case.get("missing_sequences", []) == ([] if case["id"].endswith("3") else ["t1"])
        assert bool((image[1] == BACKGROUND).all()) is ("missing_sequences" in case)


def parts_of(store: Path, **settings: Any) -> dict[str, Any]:
    told = {
        "dataset_dir": str(store),
        "modalities": READ,
        "kinds": ["volume", "image"],
        "do_cls": True,
        "batch_size": 4,
    }
    told |= {"samples_per_epoch": 8, "num_workers": 0, "validation": False, "device": "cpu", "max_epochs": 1}
    ids = ["train#dataloader", "train#prepare_batch", "network", "loss"]
    return parse("train.yaml", ids, BUNDLE_ROOT, **told, **settings)


def test_a_batch_of_volumes_and_images_trains_all_parts(store: Path) -> None:
    parts = parts_of(store, dropped_modalities=1.0)
    image, target, _, flags = parts["train#prepare_batch"](next(iter(parts["train#dataloader"])))
    kinds = np.array(target["kind"])
    unknown = torch.isnan(image[:, 1]).flatten(1).all(dim=1).numpy()
    assert (unknown == (kinds == "image")).all() and not bool(torch.isnan(image[:, 0]).any())
    shown = ~(image[kinds == "volume"] == BACKGROUND).flatten(2).all(dim=2)
    assert shown.sum(dim=1).tolist() == [1] * 4, "of two sequences one is left out, or missing"
    loss = parts["loss"](parts["network"].train()(image, **flags), target)
    loss.backward()
    gradients = [parameter.grad for parameter in parts["network"].parameters()]
    assert bool(loss.isfinite()) and all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert bool(parts["network"].encoder.projection.weight.grad.any())


def test_weights_note_what_they_were_trained_with(store: Path, tmp_path: Path) -> None:
    short = {"max_epochs": 1, "samples_per_epoch": 8, "num_workers": 0, "kinds": ["volume", "image"], "do_cls": True}
    data = {
        "dataset_dir": str(store),
        "modalities": READ,
        "output_dir": str(tmp_path),
        "train_size": 96,
        "batch_size": 4,
    }
    run_workflow("training", ["train.yaml"], **short, **data)
    notes = json.loads((tmp_path / "model.json").read_text())
    assert notes["trained_with"] == {"missing_sequences": True, "unknown_sequences": True}
    assert "encoder.projection.weight" in torch.load(tmp_path / "model.pt", weights_only=True)
