"""Images of unknown sequence in a network of several: the projection of one channel onto all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.networks.multitask_unet import freeze, multi_task_unet
from scripts.transforms.preprocessing import BACKGROUND


@settings(max_examples=4, deadline=None)
@given(unknown=st.lists(st.booleans(), min_size=1, max_size=3), channels=st.integers(2, 4))
def test_an_image_of_unknown_sequence_is_shown_in_every_channel(unknown: list[bool], channels: int) -> None:
    torch.manual_seed(0)
    network = multi_task_unet(in_channels=channels, packed=True).eval()
    image = torch.randn(len(unknown), channels, 64, 64)
    repeated = image.clone()
    for row, single in enumerate(unknown):
        if single:
            repeated[row] = image[row, :1]
            image[row, 1:] = torch.nan
    with torch.no_grad():
        assert torch.equal(network(image), network(repeated)), "before any training"
        torch.nn.init.normal_(network.encoder.projection.weight)
        found, known = network(image), network(repeated)
    assert bool(found.isfinite().all())
    for row, single in enumerate(unknown):
        assert torch.equal(found[row], known[row]) != single, "rows of known sequences do not change"


def test_the_projection_learns_from_unknown_sequences_only_and_keeps_the_background() -> None:
    network = multi_task_unet(in_channels=2).train()
    image = torch.randn(2, 2, 64, 64)
    for nan_rows, learns in (([], False), ([1], True)):
        given_image = image.clone()
        given_image[nan_rows, 1:] = torch.nan
        network.zero_grad()
        sum(value.sum() for value in network(given_image).values()).backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        assert bool(gradients["encoder.projection.weight"].any()) is learns
        assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    empty = torch.full((1, 2, 64, 64), BACKGROUND)
    blank = empty.clone()
    blank[:, 1:] = torch.nan
    network.eval()
    torch.nn.init.normal_(network.encoder.projection.weight)
    with torch.no_grad():
        assert torch.equal(network(blank)["seg"], network(empty)["seg"])


def test_a_network_of_one_sequence_has_no_projection() -> None:
    assert not [name for name in multi_task_unet().state_dict() if "projection" in name]
    assert multi_task_unet(in_channels=3).state_dict()["encoder.projection.weight"].shape == (3, 1, 1, 1)


def test_frozen_but_the_last_level_keeps_the_projection() -> None:
    network = freeze(multi_task_unet(in_channels=2), ["encoder_but_last"])
    assert not network.encoder.projection.weight.requires_grad
    assert all(parameter.requires_grad for parameter in network.encoder.levels[-1].parameters())


@pytest.mark.filterwarnings("ignore")
def test_exports_project_unknown_sequences_too(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network, image = multi_task_unet(in_channels=3, packed=True).eval(), torch.randn(2, 3, 64, 64)
    torch.nn.init.normal_(network.encoder.projection.weight)
    image[1, 1:] = torch.nan
    with torch.no_grad():
        expected = network(image)
        assert torch.allclose(torch.jit.script(network)(image), expected, atol=1e-5)
    torch.onnx.export(network, (image,), str(tmp_path / "network.onnx"), dynamo=False, input_names=["image"])
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    assert np.allclose(session.run(None, {"image": image.numpy()})[0], expected.numpy(), atol=1e-4)
