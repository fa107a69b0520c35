"""Other libraries' networks prediction as ours does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scripts.networks.baseline_networks import BaselineNetwork, dyn_unet, monai_unet, smp_unet
from scripts.networks.multitask_unet import freeze, multi_task_unet

NETWORKS = [monai_unet, dyn_unet, smp_unet]


@pytest.mark.parametrize("make", NETWORKS)
def test_baseline_outputs_are_named_or_packed(make: type[BaselineNetwork]) -> None:
    image, rows = torch.randn(3, 1, 64, 64), torch.tensor([True, False, True])
    network = freeze(make(), []).eval()
    with torch.no_grad():
        both, packed = network(image), make(packed=True).eval()(image)
        assert both["seg"].shape == (3, 1, 64, 64) and both["cls"].shape == (3, 1)
        assert packed.shape == (3, 2, 64, 64) and torch.equal(packed[:, 1], packed[:, 1, :1, :1].expand(-1, 64, 64))
        assert torch.equal(network(image, seg_rows=rows)["seg"], both["seg"][rows])
        assert set(network(image, do_seg=False)) == {"cls"} and set(network(image, do_cls=False)) == {"seg"}


@pytest.mark.parametrize("make", NETWORKS)
def test_packed_and_named_share_their_weights(make: type[BaselineNetwork]) -> None:
    named, packed = make().eval(), make(packed=True).eval()
    packed.load_state_dict(named.state_dict())
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(packed(image)[:, :1], named(image)["seg"])
        assert torch.equal(packed(image)[:, 1, 0, 0], named(image)["cls"][:, 0])


def test_a_network_without_a_head_has_no_class_output() -> None:
    for make in (monai_unet, dyn_unet):
        assert make().eval()(torch.randn(2, 1, 64, 64))["cls"].tolist() == [[0.0], [0.0]]


def test_modalities_are_channels() -> None:
    for make in NETWORKS:
        assert make(in_channels=4).eval()(torch.randn(1, 4, 64, 64))["seg"].shape == (1, 1, 64, 64)


def test_the_baseline_unet_has_a_similar_cost() -> None:
    """What `bundle/workflows/networks.yaml` says of it: floating-point operations of one slice."""
    costs = []
    for network in (multi_task_unet("cpu"), monai_unet()):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(torch.zeros(1, 1, 256, 256))
        costs.append(counter.get_total_flops())
    assert costs[1] == pytest.approx(costs[0], rel=0.05)
    sizes = [sum(p.numel() for p in network.parameters()) for network in (multi_task_unet("cpu"), dyn_unet())]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
