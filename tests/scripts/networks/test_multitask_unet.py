"""The network: shapes, switches, freezing, packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scripts.networks.multitask_unet import NETWORKS, POOLING, MultiTaskUNet, freeze, multi_task_unet
from scripts.transforms.preprocessing import BACKGROUND


def head_image(batch: int = 2, side: int = 64) -> torch.Tensor:
    """Random tissue in the middle, background around."""
    image = torch.full((batch, 1, side, side), BACKGROUND)
    image[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = torch.randn(batch, 1, side // 2, side // 2).clamp(
        -3, 3
    )
    return image


@pytest.fixture
def network() -> MultiTaskUNet:
    torch.manual_seed(0)
    return multi_task_unet("cpu")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_encoder_returns_four_levels_and_the_bottleneck(name: str) -> None:
    network = multi_task_unet(name).eval()
    x1, x2, x3, x4, bottleneck = network.encoder(head_image(1))
    stem, channels = NETWORKS[name]["stem"], NETWORKS[name]["channels"]
    for level, features in enumerate([x1, x2, x3, x4, bottleneck]):
        side = 64 // stem // 2**level
        assert features.shape == (1, channels[level], side, side)


def test_the_large_network_has_the_original_width() -> None:
    assert NETWORKS["large"]["channels"] == (64, 128, 256, 512, 1024)


def test_both_tasks_or_one_are_predicted(network: MultiTaskUNet) -> None:
    image = head_image(3)
    both = network.eval()(image)
    assert both["seg"].shape == (3, 1, 64, 64) and both["cls"].shape == (3, 1)
    assert set(network(image, do_cls=False)) == {"seg"}
    assert set(network(image, do_seg=False)) == {"cls", "patches"}
    assert set(multi_task_unet("cpu", pooling="average")(image, do_seg=False)) == {"cls"}
    rows = torch.tensor([True, False, True])
    assert network(image, seg_rows=rows)["seg"].shape[0] == 2


def test_the_decoder_has_three_outputs_in_training(network: MultiTaskUNet) -> None:
    """Each level gets a gradient of its own; the finest is what evaluation shows."""
    image, rows = head_image(), torch.tensor([True, False])
    assert network(image, seg_rows=rows)["seg"].shape == (1, 3, 1, 64, 64)
    for level in range(3):
        network.zero_grad(set_to_none=True)
        network(image)["seg"][:, level].square().mean().backward()
        drawn_by = [network.decoder.final, *network.decoder.coarser]
        assert [part.weight.grad is not None and bool(part.weight.grad.any()) for part in drawn_by] == [
            part is drawn_by[level] for part in drawn_by
        ]
    freeze(network, ["decoder"])
    assert network(image)["seg"].shape == (2, 1, 64, 64), "what does not learn is not supervised"
    features = network.eval().encoder(image)
    assert torch.equal(network(image)["seg"], network.decoder.at_several_levels(features)[:, 0])


@pytest.mark.parametrize("overrides", [{"norm": "instance"}, {"channels": (8, 16, 32)}, {"stem": 1}, {"hidden": ()}])
def test_width_depth_stem_norm_and_head_come_from_the_config(overrides: dict[str, object]) -> None:
    network = multi_task_unet("cpu", **overrides).eval()
    assert network(head_image(1))["seg"].shape == (1, 1, 64, 64)


def test_four_channels_by_config() -> None:
    assert multi_task_unet("cpu", in_channels=4).eval()(torch.zeros(1, 4, 64, 64))["cls"].shape == (1, 1)


def test_unknown_name_and_odd_sizes_are_refused(network: MultiTaskUNet) -> None:
    with pytest.raises(ValueError, match="unknown network 'tiny', choose one of cpu, base, large"):
        multi_task_unet("tiny")
    with pytest.raises(ValueError, match="60x64 are not multiples of 32"):
        network(torch.zeros(1, 1, 60, 64))


@pytest.mark.parametrize("pooling", sorted(POOLING))
def test_packed_prediction_is_the_dict_prediction_with_the_same_weights(pooling: str) -> None:
    network, packed = (multi_task_unet("cpu", packed=packed, pooling=pooling) for packed in (False, True))
    packed.load_state_dict(network.state_dict(), strict=True)
    image = head_image()
    prediction, tensor = network.eval()(image), packed.eval()(image)
    assert torch.equal(tensor[:, :1], prediction["seg"])
    assert torch.equal(tensor[:, 1:], prediction["cls"][:, :, None, None].expand(-1, -1, 64, 64))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("pooling", sorted(POOLING))
def test_packed_network_scripts_and_exports(pooling: str) -> None:
    network = multi_task_unet("cpu", packed=True, pooling=pooling).eval()
    image = head_image(1)
    expected = network(image)
    assert torch.allclose(torch.jit.script(network)(image), expected, atol=1e-5)
    exported = torch.export.export(network, (image,)).module()
    assert torch.allclose(exported(image), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", sorted(POOLING))
def test_the_prediction_does_not_depend_on_the_padding(pooling: str) -> None:
    """A wider margin of background around the same head, as training crops and serving differ."""
    torch.manual_seed(0)
    network = multi_task_unet("cpu", pooling=pooling).eval()
    image = head_image(2, 96)
    wide = torch.nn.functional.pad(image, (64, 64, 64, 64), value=BACKGROUND)
    narrow_prediction, wide_prediction = (torch.sigmoid(network(x, do_seg=False)["cls"]) for x in (image, wide))
    assert torch.allclose(narrow_prediction, wide_prediction, atol=0.01)


def test_constant_patch_logits_are_kept_and_those_outside_the_head_ignored() -> None:
    """Patches outside the head have no influence, also where the others have very low logits."""
    head, foreground = multi_task_unet("cpu").head, torch.zeros(1, 1, 96, 96)
    foreground[..., :32, :32] = 1.0
    assert head.pool(torch.full((1, 1, 3, 3), -14.0), foreground).item() == pytest.approx(-14.0, abs=1e-4)
    assert head.pool(torch.full((1, 1, 3, 3), 14.0), torch.zeros(1, 1, 96, 96)).item() == -30.0, "nothing is inside"


def test_one_encoder_pass_predicts_both_tasks(network: MultiTaskUNet) -> None:
    calls = []
    network.encoder.register_forward_hook(lambda *_: calls.append(1))
    network(head_image())
    assert len(calls) == 1


def test_frozen_parts_stay_frozen_in_training_mode(network: MultiTaskUNet) -> None:
    """The batch normalization of a frozen part keeps its running statistics."""
    freeze(network, ["encoder", "decoder"])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        network.train()  # what MONAI's trainer does before each iteration
        prediction = network(head_image())
        (prediction["cls"].sum() + prediction["seg"].mean()).backward()
        optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith("head.") for name in moved)


def test_encoder_but_last_trains_only_the_last_block(network: MultiTaskUNet) -> None:
    freeze(network, ["encoder_but_last"])
    learning = {name.split(".")[1] for name, p in network.encoder.named_parameters() if p.requires_grad}
    assert learning == {"4"}


def test_a_slice_without_any_tissue_gives_a_finite_prediction(network: MultiTaskUNet) -> None:
    prediction = network.eval()(torch.full((1, 1, 64, 64), BACKGROUND))
    assert torch.isfinite(prediction["cls"]).all() and torch.isfinite(prediction["seg"]).all()


def test_max_pooling_detects_a_small_lesion_anywhere() -> None:
    torch.manual_seed(0)
    network = multi_task_unet("cpu", pooling="average_and_peak").eval()
    bottleneck, foreground = torch.rand(1, 256, 8, 8), torch.ones(1, 1, 64, 64)
    foreground[..., 32:] = 0.0  # the right half is empty
    with torch.no_grad():
        plain = network.head(bottleneck, foreground)
        for column, seen in ((0, True), (7, False)):
            changed = bottleneck.clone()
            changed[..., 3, column] += 5.0
            assert torch.equal(network.head(changed, foreground), plain) is not seen
    assert network(head_image(2))["cls"].isfinite().all()


def test_patch_pooling_of_equal_and_of_one_high_logit() -> None:
    head = multi_task_unet("cpu", pooling="patches").head
    foreground = torch.ones(1, 1, 64, 64)
    patches = torch.full((1, 1, 8, 8), -1.5)
    assert torch.allclose(head.pool(patches, foreground), torch.tensor([[-1.5]]), atol=1e-4)
    patches[..., 3, 3] = 20.0
    assert head.pool(patches, foreground).item() == pytest.approx(20.0 - np.log(64), abs=1e-3)
    foreground[..., 24:32, 24:32] = 0.0  # the patch with the high logit lies outside the head
    patches = torch.full((1, 1, 8, 8), -1.5)
    patches[..., 3, 3] = 5.0
    assert head.pool(patches, foreground).item() == pytest.approx(-1.5, abs=1e-3)


def test_patch_logits_are_output_in_training_and_unknown_pooling_is_refused() -> None:
    prediction = multi_task_unet("cpu", pooling="patches")(head_image(2), do_seg=False)
    assert {name: tuple(value.shape) for name, value in prediction.items()} == {"cls": (2, 1), "patches": (2, 1, 2, 2)}
    with pytest.raises(ValueError, match="unknown pooling 'best', choose one of average, average_and_peak, patches"):
        multi_task_unet("cpu", pooling="best")
