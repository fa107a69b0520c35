"""`torch.hub` on the repository's folder: the network with its weights, and the predictor."""

from __future__ import annotations

from pathlib import Path

import torch

from bundle.datasets.phantoms import write_images
from bundle.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]


def test_the_network_comes_with_its_weights() -> None:
    network = torch.hub.load(str(ROOT), "multi_task_unet", source="local", packed=True)
    network.to(memory_format=torch.channels_last)  # as configs/inference.yaml has it
    image = torch.full((2, 1, 256, 256), -4.0)
    image[:, :, 60:200, 60:200] = 0.5
    with torch.inference_mode():
        prediction = network(image)
        assert prediction.shape == (2, 2, 256, 256) and torch.equal(prediction, Predictor().network(image))


def test_the_predictor_of_the_hub_predicts_the_same(tmp_path: Path) -> None:
    write_images(tmp_path, 2, seed=1)
    picture = sorted((tmp_path / "yes").iterdir())[0]
    found = torch.hub.load(str(ROOT), "predictor", source="local").predict(picture)
    assert found["result"] == Predictor().predict(picture)["result"]
