"""More of the one pass: map and deviations beside mask and probability."""

from __future__ import annotations

import pytest
import torch

from scripts.inference.extended_network import ExtendedNetwork
from scripts.inference.inferers import BrainSliceInferer
from scripts.networks.cam import predict_with_cam
from scripts.networks.multitask_unet import PackedMultiTaskUNet, multi_task_unet
from scripts.transforms.preprocessing import BACKGROUND


@pytest.fixture(scope="module")
def network() -> PackedMultiTaskUNet:
    torch.manual_seed(0)
    made = multi_task_unet("cpu", packed=True).eval()
    assert isinstance(made, PackedMultiTaskUNet)
    return made


def heads(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    images = torch.full((count, 1, 64, 64), BACKGROUND)
    images[:, :, 8:56, 8:56] = torch.randn(count, 1, 48, 48, generator=generator).clamp(-3, 3)
    return images


def test_outputs_are_the_networks_and_further_ones_by_name(network: PackedMultiTaskUNet) -> None:
    images = heads()
    with torch.inference_mode():
        expected, plain = network(images), ExtendedNetwork(network)
        full = ExtendedNetwork(network, include_cam=True, include_uncertainty=True, mc_samples=4)
        assert plain.planes == ["mask", "tumor"] and torch.allclose(plain(images), expected, atol=1e-5)
        found = full(images)
    assert full.planes == ["mask", "tumor", "cam", "mask_deviation", "tumor_deviation"]
    assert found.shape == (3, 5, 64, 64) and torch.allclose(found[:, :2], expected, atol=1e-5)
    assert torch.allclose(found[:, 2:3], predict_with_cam(network, images)["cam"], atol=1e-5)
    assert not found.isnan().any() and found[:, 3:].max() < 0.5 + 1e-6


@pytest.mark.parametrize("part", ["encoder", "decoder.levels.0", "decoder.levels.3"])
def test_each_slice_passes_the_network_once_for_all_outputs(part: str, network: PackedMultiTaskUNet) -> None:
    slices = []
    module = network.get_submodule(part)
    hook = module.register_forward_hook(lambda module, inputs, output: slices.append(len(inputs[0])))
    try:
        volume = heads(5).permute(1, 2, 3, 0)[None]  # (1, 1, H, W, 5)
        BrainSliceInferer(batch_size=2)(
            volume, ExtendedNetwork(network, include_cam=True, include_uncertainty=True, mc_samples=3)
        )
    finally:
        hook.remove()
    assert sum(slices) == 5


def test_deviations_are_reproducible_and_keep_normalization_statistics(network: PackedMultiTaskUNet) -> None:
    """Dropout has an effect, batch normalization does not change, and a seed reproduces it."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, again, other = (
        ExtendedNetwork(network, include_uncertainty=True, mc_samples=4, seed=seed)(heads()) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first[:, 2], other[:, 2])
    assert (first[:, 2].amax(dim=(1, 2)) > 0).all() and (first[:, 3] > 0).all()
    assert not network.training and all(
        torch.equal(before[name], value) for name, value in network.state_dict().items()
    )


def test_deviations_are_those_of_passes_with_dropped_features(network: PackedMultiTaskUNet) -> None:
    """The same samples one at a time, with the dropped features set to 0."""
    images, samples = heads(), 7
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        features = network.encoder(images)
        decoded = network.decoder.expand(features)[-1]
        of_mask, of_head = (
            (torch.rand(samples, part.shape[1], generator=generator) >= 0.2).float()[:, :, None, None] / 0.8
            for part in (decoded, features[-1])
        )
        masks = [network.decoder.to_image(network.decoder.final(decoded * kept)).sigmoid() for kept in of_mask]
        classes = [network.head(features[-1] * kept, network.foreground(images)).sigmoid() for kept in of_head]
    found = ExtendedNetwork(network, include_uncertainty=True, mc_samples=samples)(images)
    assert torch.allclose(found[:, 2:3], torch.stack(masks).std(dim=0, correction=0), atol=1e-5)
    assert torch.allclose(found[:, 3, 0, 0], torch.stack(classes).std(dim=0, correction=0)[:, 0], atol=1e-5)


def test_deviations_depend_only_on_the_slice(network: PackedMultiTaskUNet) -> None:
    extended_network = ExtendedNetwork(network, include_uncertainty=True, mc_samples=4)
    together, alone = extended_network(heads()), torch.cat([extended_network(image[None]) for image in heads()])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_network_in_training_is_refused(network: PackedMultiTaskUNet) -> None:
    network.train()
    try:
        with pytest.raises(ValueError, match="training mode"):
            ExtendedNetwork(network, include_uncertainty=True, mc_samples=2)(heads())
    finally:
        network.eval()
