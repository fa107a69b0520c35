"""Federated learning by MONAI's own client: two hospitals, two rounds, the bundle's training config as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.loading import BUNDLE_ROOT, make_importable, run_workflow, trusting
from bundle.phantoms import write_images, write_volumes
from scripts.networks import multi_task_unet

ROUNDS, STEPS = 2, 2


def client(name: str, seed: int, place: Path) -> MonaiAlgo:
    """A hospital with data of its own."""
    data = place / name
    write_volumes(data / "brats", 3, slices=10, side=96, seed=seed)
    write_images(data / "kaggle", 6, seed=seed)
    sources = {"brats_dir": str(data / "brats"), "kaggle_dir": str(data / "kaggle")}
    run_workflow("preprocessing", ["preprocess.yaml"], dataset_dir=str(data / "store"), folds=3, **sources)
    settings: dict[str, Any] = {"dataset_dir": str(data / "store"), "output_dir": str(data / "run"), "resume": False}
    settings |= {"kinds": ["volume", "image"], "do_cls": True, "samples_per_epoch": 8 * STEPS, "num_workers": 0}
    algorithm = MonaiAlgo(
        bundle_root=str(BUNDLE_ROOT),
        local_epochs=1,
        send_weight_diff=False,
        config_train_filename="configs/train.yaml",
        train_kwargs=settings,
        config_evaluate_filename="configs/train.yaml",
        eval_kwargs=settings,
    )
    make_importable(BUNDLE_ROOT)
    with trusting():
        algorithm.initialize(extra={ExtraItems.CLIENT_NAME: name})
    return algorithm


def mean(exchanged: list[ExchangeObject]) -> dict[str, torch.Tensor]:
    """What a server makes of its clients' weights."""
    weights = [{name: torch.as_tensor(value) for name, value in one.weights.items()} for one in exchanged]
    return {
        name: torch.stack([one[name].float() for one in weights]).mean(0).to(weights[0][name]) for name in weights[0]
    }


@pytest.mark.filterwarnings("ignore:executing the bundle config")
def test_two_hospitals_learn_together_for_two_rounds(tmp_path: Path) -> None:
    clients = [client(name, seed, tmp_path) for seed, name in enumerate(("north", "south"))]
    torch.manual_seed(0)
    shared = {name: value.clone() for name, value in multi_task_unet("cpu").state_dict().items()}
    for _ in range(ROUNDS):
        before = shared
        answers = []
        for one in clients:
            one.train(ExchangeObject(weights=shared))
            answers.append(one.get_weights())
        shared = mean(answers)
        for part in ("encoder.", "decoder.", "head."):
            names = [name for name in shared if name.startswith(part) and shared[name].is_floating_point()]
            assert any(not torch.equal(shared[name], before[name]) for name in names), f"{part} did not learn"
        assert all(bool(torch.isfinite(value).all()) for value in shared.values() if value.is_floating_point())
    steps = [int(one.get_weights().weights["encoder.levels.0.conv_0.adn.N.num_batches_tracked"]) for one in clients]
    assert steps == [ROUNDS * STEPS] * 2  # each round went on from the shared weights
    metrics = [one.evaluate(ExchangeObject(weights=shared)).metrics for one in clients]
    assert all({"mean_dice", "roc_auc"} <= set(found) for found in metrics)
    for one in clients:
        one.finalize()
