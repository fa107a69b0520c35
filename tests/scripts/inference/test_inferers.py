"""Slice by slice: every slice that shows brain passes through the network once, the others not at all."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from scripts.inference.inferers import BrainSliceInferer, PrecisionInferer
from scripts.networks.multitask_unet import multi_task_unet
from scripts.transforms.preprocessing import BACKGROUND

PROPERTY = settings(max_examples=30, deadline=None, derandomize=True)


class FakeNetwork:
    """Logits that tell slices apart; counts how often it sees each one, and how many at a time."""

    def __init__(self, classes: int = 1) -> None:
        self.classes = classes
        self.passes: list[int] = []
        self.seen: list[float] = []

    def __call__(self, x: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
        self.passes.append(len(x))
        self.seen += [float(name) for name in x[:, 0, 0, 0]]
        mask = x.sum(dim=1, keepdim=True) + shift
        logits = [(k + 1) * mask.mean(dim=(2, 3), keepdim=True).expand_as(mask) for k in range(self.classes)]
        return torch.cat([mask, *logits], dim=1)


def volumes(batch: int = 1, channels: int = 1, depth: int = 7, side: int = 12) -> torch.Tensor:
    """(B, C, H, W, D), brain everywhere; the first pixel of a slice is its name."""
    image = torch.randn(batch, channels, side, side, depth, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    image[:, 0, 0, 0] = torch.arange(batch * depth).reshape(batch, depth) / 8
    return image


@PROPERTY
@given(batch_size=st.integers(1, 9), batch=st.integers(1, 3), channels=st.integers(1, 3), depth=st.integers(1, 9))
def test_batched_prediction_equals_slice_by_slice(batch_size: int, batch: int, channels: int, depth: int) -> None:
    image, network = volumes(batch, channels, depth), FakeNetwork(classes=2)
    packed = BrainSliceInferer(batch_size)(image, network)
    assert torch.allclose(packed, torch.stack([network(plane) for plane in image.unbind(-1)], dim=-1), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_slice_passes_through_the_network_exactly_once(batch_size: int) -> None:
    network = FakeNetwork()
    BrainSliceInferer(batch_size)(volumes(batch=2), network)
    assert sorted(network.seen) == [n / 8 for n in range(14)]
    assert max(network.passes) <= batch_size and len(network.passes) == -(-14 // batch_size)


def test_slices_with_too_little_brain_are_skipped() -> None:
    image, network = volumes(), FakeNetwork()
    image[..., 0] = BACKGROUND  # nothing
    image[:, :, 3:, :, 2] = BACKGROUND  # 36 pixels
    image[:, :, 4:, :, 5] = BACKGROUND  # 48 pixels
    packed = BrainSliceInferer(batch_size=2, min_brain_pixels=40)(image, network)
    predicted = [1, 3, 4, 5, 6]
    assert sorted(network.seen) == [n / 8 for n in predicted]
    assert torch.isfinite(packed[0, 1, 0, 0]).nonzero().flatten().tolist() == predicted
    assert torch.isnan(packed[0, 1, :, :, [0, 2]]).all()
    assert (packed[0, 0, :, :, [0, 2]].sigmoid() < 1e-6).all()


def test_the_mean_with_the_mirrored_slice_has_no_preferred_side() -> None:
    image = volumes(depth=5)
    weights = torch.linspace(0.5, 1.5, image.shape[3])

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x * weights, (x * weights).mean(dim=(2, 3), keepdim=True).expand_as(x)], dim=1)

    inferer = BrainSliceInferer(batch_size=2, mirrored=True)
    packed = inferer(image, network)
    assert torch.allclose(packed[:, :1], image, atol=1e-6)  # the weights of both sides have the mean 1
    assert torch.allclose(inferer(image.flip(3), network), packed.flip(3), atol=1e-6)
    assert not torch.allclose(BrainSliceInferer()(image, network)[:, :1], image, atol=0.1)


def test_empty_slices_are_always_skipped() -> None:
    image, network = volumes(), FakeNetwork()
    image[..., 4] = BACKGROUND
    assert torch.isnan(BrainSliceInferer()(image, network)[0, 1, 0, 0, 4]) and len(network.seen) == 6


def test_brain_in_any_channel_counts() -> None:
    image, network = volumes(channels=2), FakeNetwork()
    image[:, 0, :, :, 2] = BACKGROUND
    BrainSliceInferer(min_brain_pixels=144)(image, network)
    assert len(network.seen) == 7


def test_the_other_slices_do_not_change_a_prediction() -> None:
    image = volumes()
    reference = BrainSliceInferer(batch_size=3)(image, FakeNetwork())
    image[..., :3] = BACKGROUND
    assert torch.equal(BrainSliceInferer(batch_size=3)(image, FakeNetwork())[..., 3:], reference[..., 3:])


@pytest.mark.parametrize("spatial", [(12, 12), (12, 12, 5)])
def test_a_scan_without_brain_has_no_tumor_and_no_prediction(spatial: tuple[int, ...]) -> None:
    network = FakeNetwork()
    packed = BrainSliceInferer()(torch.full((2, 1, *spatial), BACKGROUND), network)
    assert packed.shape == (2, 2, *spatial) and not network.passes
    assert (packed[:, 0].sigmoid() < 1e-6).all() and torch.isnan(packed[:, 1]).all()


def test_single_slices_are_predicted_in_their_own_shape() -> None:
    image, network = volumes(depth=1)[..., 0].repeat(3, 1, 1, 1), FakeNetwork()
    packed = BrainSliceInferer(batch_size=2)(image, network)
    assert packed.shape == (3, 2, 12, 12) and torch.allclose(packed, network(image), atol=1e-6)


def test_the_networks_own_arguments_are_passed_on() -> None:
    image, network = volumes(), FakeNetwork()
    difference = BrainSliceInferer()(image, network, shift=5.0) - BrainSliceInferer()(image, network)
    assert torch.allclose(difference, torch.tensor(5.0), atol=1e-4)


def test_a_monai_tensor_is_predicted_like_a_plain_one() -> None:
    image = volumes()
    packed = BrainSliceInferer()(MetaTensor(image), FakeNetwork())
    assert torch.equal(torch.as_tensor(packed), BrainSliceInferer()(image, FakeNetwork()))


def test_half_precision_outputs_keep_their_type() -> None:
    packed = BrainSliceInferer()(volumes(), lambda x: torch.cat([x, x], dim=1).half())
    assert packed.dtype == torch.float16


def test_half_precision_is_close_to_full_precision() -> None:
    torch.manual_seed(0)
    network, image = multi_task_unet("cpu").eval(), torch.randn(2, 1, 64, 64)
    exact, half = (PrecisionInferer(precision)(image, network) for precision in ("float32", "bfloat16"))
    for name, prediction in exact.items():
        assert half[name].dtype == torch.float32 and not torch.equal(half[name], prediction)
        assert torch.allclose(half[name], prediction, atol=0.05 * float(prediction.abs().max()))


def test_half_precision_trains_weights_of_full_precision() -> None:
    network = multi_task_unet("cpu")
    predictions = PrecisionInferer("bfloat16")(torch.randn(2, 1, 64, 64), network)
    (predictions["seg"].mean() + predictions["cls"].mean()).backward()
    gradients = [weight.grad for weight in network.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and torch.isfinite(g).all() for g in gradients)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision is 'float16', choose one of float32, bfloat16"):
        PrecisionInferer("float16")


def test_without_brain_the_output_has_the_networks_channels() -> None:
    class Named:
        planes = ("mask", "tumor", "cam", "distance")

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            raise AssertionError("there is nothing to look at")

    packed = BrainSliceInferer(min_brain_pixels=1)(torch.full((1, 1, 8, 8, 3), -4.0), Named())
    assert packed.shape == (1, 4, 8, 8, 3) and bool(packed[:, 1:].isnan().all()) and float(packed[:, 0].max()) == -20.0
