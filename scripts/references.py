"""Networks to compare ours with on the same splits: of other libraries behind its interface, and it with more outputs.

python -m monai.bundle run training --config_file configs/train.yaml \
      --network_def#_target_ scripts.references.monai_unet
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from .networks import NETWORKS, MultiTaskUNet, UNetDecoder, multi_task_unet

__all__ = ["Reference", "deeply_supervised_unet", "monai_unet", "smp_unet"]


class Reference(nn.Module):
    """Another network as `MultiTaskUNet` answers: by name in training, packed in inference.

    Args:
        encoder: the whole network: images (B, C, H, W) to mask logits (B, 1, H, W), or to a pair of these and class
            logits (B, 1). It has the encoder's name because all of it learns at the encoder's rate.
        packed: answer with one packed tensor.
    """

    def __init__(self, encoder: Callable[[Tensor], Any], packed: bool) -> None:
        super().__init__()
        self.encoder, self.packed = encoder, packed

    def forward(
        self, image: Tensor, do_seg: bool = True, do_cls: bool = True, seg_rows: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Answer as `MultiTaskUNet` or `PackedMultiTaskUNet`; the class logits of a network without are zero."""
        found = self.encoder(image)
        mask, classes = found if isinstance(found, tuple) else (found, found.new_zeros(len(found), 1))
        if self.packed:
            return torch.cat([mask, classes[:, :, None, None].expand(-1, -1, *mask.shape[2:])], dim=1)
        rows = slice(None) if seg_rows is None else seg_rows
        return {**({"seg": mask[rows]} if do_seg else {}), **({"cls": classes} if do_cls else {})}


def monai_unet(in_channels: int = 1, packed: bool = False, name: str = "cpu") -> Reference:
    """MONAI's U-Net with residual units, segmentation alone; at the width of "cpu" it costs what ours does.

    Args:
        in_channels: modalities.
        packed: see `Reference`.
        name: whose width it takes, see `NETWORKS`.
    """
    channels = NETWORKS[name]["channels"]
    return Reference(UNet(2, in_channels, 1, channels, (2,) * (len(channels) - 1), num_res_units=2), packed)


def smp_unet(in_channels: int = 1, packed: bool = False, name: str = "resnet18") -> Reference:
    """segmentation_models_pytorch's U-Net with its classification head, from random weights.

    Args:
        in_channels: modalities.
        packed: see `Reference`.
        name: of its encoder; one of our names means resnet18.

    Raises:
        ImportError: where the package is not installed; it is in the extra "references".
    """
    import segmentation_models_pytorch as smp

    encoder = "resnet18" if name in NETWORKS else name
    head = {"classes": 1, "pooling": "avg", "dropout": 0.2}
    unet = smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=1, aux_params=head)
    return Reference(unet, packed)


class DeeplySupervisedDecoder(nn.Module):
    """The decoder of ours that in training draws the mask at its coarser levels too.

    Args:
        decoder: of ours.
        channels: features of each level, finest first.
        coarser: levels beside the finest one that draw.

    Reference:
        Lee et al., Deeply-Supervised Nets, AISTATS 2015.
    """

    def __init__(self, decoder: UNetDecoder, channels: Sequence[int], coarser: int = 2) -> None:
        super().__init__()
        self.decoder = decoder
        self.coarser = nn.ModuleList([nn.Conv2d(width, 1, kernel_size=1) for width in channels[1 : 1 + coarser]])

    def forward(self, features: list[Tensor]) -> Tensor:
        """[x1, ..., bottleneck] -> mask logits (B, 1, H, W); in training (B, 1 + coarser, H, W), finest first."""
        drawn = [features[-1]]  # coarsest first
        for level, skipped in zip(self.decoder.levels, reversed(features[:-1]), strict=True):
            drawn.append(level(drawn[-1], skipped))
        mask: Tensor = self.decoder.to_image(self.decoder.final(drawn[-1]))
        if not self.training:
            return mask
        coarse = [draw(x) for draw, x in zip(self.coarser, reversed(drawn[:-1]), strict=False)]
        return torch.cat([mask, *(nn.functional.interpolate(x, mask.shape[2:], mode="bilinear") for x in coarse)], 1)


def deeply_supervised_unet(in_channels: int = 1, packed: bool = False, name: str = "cpu") -> MultiTaskUNet:
    """Our network with masks at three levels of its decoder, which `losses.DeepSupervision` scores.

    Args:
        in_channels: modalities.
        packed: answer with one packed tensor (inference) instead of a dict (training).
        name: of the network, see `NETWORKS`.
    """
    network = multi_task_unet(name, packed, in_channels=in_channels)
    network.decoder = DeeplySupervisedDecoder(network.decoder, NETWORKS[name]["channels"])  # type: ignore[assignment]
    return network
