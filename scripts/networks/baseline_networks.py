"""Baseline networks of other libraries with our network's interface, for comparison on the same splits.

python -m monai.bundle run training --config_file configs/train.yaml \
      --network_def#_target_ scripts.networks.baseline_networks.monai_unet
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.networks.nets import DynUNet, UNet
from torch import Tensor, nn

from .multitask_unet import NETWORKS

__all__ = ["BaselineNetwork", "dyn_unet", "monai_unet", "smp_unet"]


class BaselineNetwork(nn.Module):
    """Another network with the outputs of `MultiTaskUNet`: a dict in training, packed in inference.

    Args:
        encoder: the whole network: images (B, C, H, W) to mask logits (B, 1, H, W), or to a pair of these and class
            logits (B, 1). It is called encoder since all of it uses the encoder's learning rate.
        packed: return one packed tensor.
    """

    def __init__(self, encoder: Callable[[Tensor], Any], packed: bool) -> None:
        super().__init__()
        self.encoder, self.packed = encoder, packed

    def forward(
        self, image: Tensor, do_seg: bool = True, do_cls: bool = True, seg_rows: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Outputs as of `MultiTaskUNet` or `PackedMultiTaskUNet`; without a classification head class logits are 0."""
        found = self.encoder(image)
        mask, classes = found if isinstance(found, tuple) else (found, found.new_zeros(len(found), 1))
        if self.packed:
            return torch.cat([mask, classes[:, :, None, None].expand(-1, -1, *mask.shape[2:])], dim=1)
        rows = slice(None) if seg_rows is None else seg_rows
        return {**({"seg": mask[rows]} if do_seg else {}), **({"cls": classes} if do_cls else {})}


def monai_unet(in_channels: int = 1, packed: bool = False, name: str = "cpu") -> BaselineNetwork:
    """MONAI's U-Net with residual units, segmentation only; with the width of "cpu" it costs as much as ours.

    Args:
        in_channels: modalities.
        packed: see `BaselineNetwork`.
        name: network in `NETWORKS` with the same width.
    """
    channels = NETWORKS[name]["channels"]
    return BaselineNetwork(UNet(2, in_channels, 1, channels, (2,) * (len(channels) - 1), num_res_units=2), packed)


def dyn_unet(in_channels: int = 1, packed: bool = False, name: str = "cpu") -> BaselineNetwork:
    """nnU-Net's 2-D U-Net as MONAI has it, segmentation only: full resolution, one level more, instance normalization.

    With half the width of "cpu" it has as many weights as ours, and costs a quarter more.

    Args:
        in_channels: modalities.
        packed: see `BaselineNetwork`.
        name: network in `NETWORKS` with twice the width.

    Reference:
        Isensee et al., nnU-Net, Nature Methods 18, 2021.
    """
    widths = NETWORKS[name]["channels"]
    filters = (widths[0] // 2, *widths)
    kernels, strides = [3] * len(filters), [1] + [2] * len(widths)
    norm = ("INSTANCE", {"affine": True})
    unet = DynUNet(2, in_channels, 1, kernels, strides, strides[1:], filters=filters, norm_name=norm)
    return BaselineNetwork(unet, packed)


def smp_unet(in_channels: int = 1, packed: bool = False, name: str = "resnet18") -> BaselineNetwork:
    """segmentation_models_pytorch's U-Net with its classification head, from random weights.

    Args:
        in_channels: modalities.
        packed: see `BaselineNetwork`.
        name: of its encoder; a name in `NETWORKS` means resnet18.

    Raises:
        ImportError: when the package is not installed; it is in the extra "references".
    """
    import segmentation_models_pytorch as smp

    encoder = "resnet18" if name in NETWORKS else name
    head = {"classes": 1, "pooling": "avg", "dropout": 0.2}
    unet = smp.Unet(encoder, encoder_weights=None, in_channels=in_channels, classes=1, aux_params=head)
    return BaselineNetwork(unet, packed)
