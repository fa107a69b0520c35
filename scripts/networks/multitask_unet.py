"""The multi-task U-Net: one encoder, a decoder for segmentation, a head for classification."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Dict, Optional

import torch
from torch import Tensor, nn

from ..transforms.preprocessing import TISSUE
from .unet import UNetDecoder, UNetEncoder

__all__ = [
    "NETWORKS",
    "POOLING",
    "ClassificationHead",
    "MultiTaskUNet",
    "PackedMultiTaskUNet",
    "evaluating",
    "freeze",
    "multi_task_unet",
]

# TorchScript reads these annotations and needs typing's names
# ruff: noqa: UP006, UP035, UP045

NETWORKS: dict[str, dict[str, Any]] = {
    # half-resolution stem: 1.5 GFLOP per slice, three stages within an hour on two cores
    "cpu": {"channels": (16, 32, 64, 128, 256), "stem": 2, "hidden": (64,)},
    "base": {"channels": (32, 64, 128, 256, 512), "stem": 1, "hidden": (256, 128)},
    "large": {"channels": (64, 128, 256, 512, 1024), "stem": 1, "hidden": (512, 256)},
}

POOLING = {
    "average": "mean of the features, then the perceptron",
    "average_and_peak": "mean and maximum of the features, then the perceptron; the maximum reacts to small lesions",
    "patches": "the perceptron at each patch (cell of the bottleneck), then a smooth maximum of the patches' logits",
}


class ClassificationHead(nn.Module):
    """A small perceptron on the bottleneck, pooled over the foreground (the head).

    Pooling over the foreground makes the prediction independent of the size of the background.

    Args:
        in_features: channels of the bottleneck.
        hidden: sizes of the hidden layers.
        dropout: before every layer but the last.
        pooling: see `POOLING`.
        types: T, number of types of tumors; 0: types are not told apart.

    Raises:
        ValueError: for an unknown pooling.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int], dropout: float, pooling: str = "average", types: int = 0
    ) -> None:
        super().__init__()
        if pooling not in POOLING:
            raise ValueError(f"unknown pooling '{pooling}', choose one of {', '.join(POOLING)}")
        self.types = types
        self.peak, self.by_patch = pooling == "average_and_peak", pooling == "patches"
        layers: list[nn.Module] = []
        sizes = [in_features * (2 if self.peak else 1), *hidden]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.mlp = nn.Sequential(nn.Dropout(dropout), *layers, nn.Linear(sizes[-1], 1 + types))

    def forward(self, bottleneck: Tensor, foreground: Tensor) -> Tensor:
        """(B, F, h, w) and foreground (B, 1, H, W) of 0 and 1 -> the tumor's logit, then those of types (B, 1 + T)."""
        return (
            self.pool(self.patch_logits(bottleneck), foreground)
            if self.by_patch
            else self.classify(bottleneck, foreground)
        )

    def patch_logits(self, bottleneck: Tensor) -> Tensor:
        """(B, F, h, w) -> logits of each patch, (B, 1 + T, h, w)."""
        return self.mlp(bottleneck.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def pool(self, patches: Tensor, foreground: Tensor) -> Tensor:
        """Logits of patches (B, 1 + T, h, w) -> of the slice, (B, 1 + T): log of the mean of exponentials.

        Multiple-instance learning: one patch with a tumor is sufficient, the number of other patches matters little.
        The types' logits are means over the patches, weighted by the exponentials of the tumor's logits, so that those
        of the tumor count; the loss of the types does not train these weights.
        """
        weight = self.share(patches, foreground)  # (B, 1, h, w)
        logarithm = (weight / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)).clamp_min(1e-6).log()
        tumor = patches if self.types == 0 else patches[:, :1]
        inside = (tumor + logarithm).masked_fill(weight == 0, -1.0e4)  # patches of the background have no weight
        logit = torch.logsumexp(inside.flatten(2), dim=2).clamp_min(-30.0)  # without foreground: no tumor
        if self.types == 0:
            return logit
        shares = inside.detach().flatten(2).softmax(dim=2)  # (B, 1, h * w)
        return torch.cat([logit, (patches[:, 1:].flatten(2) * shares).sum(dim=2)], dim=1)

    def classify(self, bottleneck: Tensor, foreground: Tensor) -> Tensor:
        """(B, F, h, w) and foreground (B, 1, H, W) -> logits (B, 1 + T) of the pooled features."""
        pooled = self.average(bottleneck, foreground)
        if self.peak:
            weight = self.share(bottleneck, foreground)  # (B, 1, h, w)
            inside = bottleneck.masked_fill(weight == 0, -1.0e4).amax(dim=(2, 3)).clamp_min(-1.0)
            pooled = torch.cat([pooled, inside], dim=1)
        return self.mlp(pooled)

    def average(self, bottleneck: Tensor, foreground: Tensor) -> Tensor:
        """(B, F, h, w) and foreground (B, 1, H, W) -> mean of the features over the foreground (B, F)."""
        weight = self.share(bottleneck, foreground)  # (B, 1, h, w)
        return (bottleneck * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3)).clamp_min(1e-6)

    def share(self, features: Tensor, foreground: Tensor) -> Tensor:
        """Share of foreground in each patch: (B, _, h, w) and (B, 1, H, W) -> (B, 1, h, w)."""
        return nn.functional.adaptive_avg_pool2d(foreground, (features.shape[2], features.shape[3]))


class MultiTaskUNet(nn.Module):
    """Segmentation and classification with one pass through the encoder.

    Args:
        in_channels: modalities.
        channels: features of each level, finest first.
        stem: 1, or 2 for half resolution inside the network (space-to-depth).
        norm: normalization layer, MONAI's name.
        act: activation, MONAI's name.
        hidden: sizes of the head's hidden layers.
        dropout: of the head.
        pooling: of the head, see `POOLING`.
        mask_channels: R, number of masks, of nested regions; the first is the whole tumor.
        tumor_types: T, number of types of tumors that the head tells apart; 0: none.

    Raises:
        ValueError: when an image's side is not a multiple of `size_divisor`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        stem: int = 2,
        norm: Any = "batch",
        act: Any = ("leakyrelu", {"negative_slope": 0.01, "inplace": True}),
        hidden: Sequence[int] = (64,),
        dropout: float = 0.2,
        pooling: str = "patches",
        mask_channels: int = 1,
        tumor_types: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = UNetEncoder(in_channels, channels, stem, norm, act)
        self.decoder = UNetDecoder(channels, stem, norm, act, mask_channels)
        self.head = ClassificationHead(channels[-1], hidden, dropout, pooling, tumor_types)
        self.mask_channels, self.tumor_types = mask_channels, tumor_types
        self.size_divisor = stem * 2 ** (len(channels) - 1)
        self.tissue = TISSUE
        self.frozen: list[str] = []

    def forward(
        self, image: Tensor, do_seg: bool = True, do_cls: bool = True, seg_rows: Optional[Tensor] = None
    ) -> Dict[str, Tensor]:
        """Segment, classify, or both.

        Args:
            image: (B, C, H, W) float, background at -4 as from `NormalizeForegroundd`; the channel of a missing
                sequence is background, those of an image of unknown sequence are NaN but for the first.
            do_seg: predict masks.
            do_cls: predict classes.
            seg_rows: boolean (B,), rows of the batch to segment (those with a mask); None: all.

        Returns:
            "seg": mask logits (B or chosen rows, R, H, W), in training (.., levels, R, H, W), as MONAI's DynUNet does;
            "cls": tumor logits (B, 1); with the pooling "patches" also "patches": class logits of the patches
            (B, 1, h, w); with types of tumors "types": their logits (B, T), whose softmax is given a tumor.
        """
        features = self.encoder(self._checked(image))
        output: Dict[str, Tensor] = {}
        if do_cls and self.head.by_patch:
            patches = self.head.patch_logits(features[-1])
            output["patches"] = patches if self.tumor_types == 0 else patches[:, :1]
            output["cls"] = self.head.pool(patches, self.foreground(image))
        elif do_cls:
            output["cls"] = self.head(features[-1], self.foreground(image))
        if do_cls and self.tumor_types > 0:
            output["types"] = output["cls"][:, 1:]
            output["cls"] = output["cls"][:, :1]
        if do_seg:
            if seg_rows is not None:
                features = [level[seg_rows] for level in features]
            output["seg"] = (
                self.decoder.at_several_levels(features) if self.decoder.training else self.decoder(features)
            )
        return output

    def foreground(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W): 1 where any channel is tissue, else 0."""
        return (image > self.tissue).any(dim=1, keepdim=True).to(image.dtype)

    def _checked(self, image: Tensor) -> Tensor:
        if image.shape[-1] % self.size_divisor != 0 or image.shape[-2] % self.size_divisor != 0:
            raise ValueError(
                f"image sides {image.shape[-2]}x{image.shape[-1]} are not multiples of {self.size_divisor}"
            )
        return image

    @torch.jit.unused
    def train(self, mode: bool = True) -> "MultiTaskUNet":
        """Switch to training mode, except the frozen parts: their normalization keeps its statistics."""
        super().train(mode)
        for part in self.frozen:
            self.get_submodule(part).eval()
        return self


class PackedMultiTaskUNet(MultiTaskUNet):
    """The same network and weights with one packed tensor as output, for MONAI's exporters and Deploy."""

    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) -> (B, R + 1 + T, H, W): mask logits, then logits of tumor and types over the whole plane."""
        features = self.encoder(self._checked(image))
        seg = self.decoder(features)
        cls = self.head(features[-1], self.foreground(image))
        return torch.cat([seg, cls[:, :, None, None].expand(-1, -1, seg.shape[2], seg.shape[3])], dim=1)


def multi_task_unet(name: str = "cpu", packed: bool = False, **overrides: Any) -> MultiTaskUNet:
    """Build a network by its name in `NETWORKS`; any argument of `MultiTaskUNet` can be overridden.

    Args:
        name: cpu, base or large; large has the 64 to 1024 channels of the original U-Net.
        packed: return one packed tensor (inference) instead of a dict (training).
        overrides: arguments of `MultiTaskUNet`.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network '{name}', choose one of {', '.join(NETWORKS)}")
    kind = PackedMultiTaskUNet if packed else MultiTaskUNet
    return kind(**{**NETWORKS[name], **overrides})


def freeze(network: MultiTaskUNet, parts: Sequence[str], normalization: str = "batch") -> MultiTaskUNet:
    """Freeze parts of a network, including the running statistics of their normalization.

    Args:
        network: changed in place.
        parts: names of submodules ("encoder", "decoder", "head", "encoder.levels.0", ...); "encoder_but_last" is every
            level of the encoder but the deepest.
        normalization: "batch": by the statistics of a process's part of a batch; "synchronized": of the whole batch,
            on GPUs; "frozen": by the running statistics of the initial weights. The weights have the same form.

    Raises:
        ValueError: for another normalization.
    """
    if normalization not in ("batch", "synchronized", "frozen"):
        raise ValueError(f"normalization is '{normalization}', choose batch, synchronized or frozen")
    named = {}
    if "encoder_but_last" in parts:
        named["encoder_but_last"] = [f"encoder.levels.{index}" for index in range(len(network.encoder.levels) - 1)]
        named["encoder_but_last"].append("encoder.projection")
    network.frozen = [name for part in parts for name in named.get(part, [part])]
    for part in network.frozen:
        network.get_submodule(part).requires_grad_(False)
    if normalization == "frozen":
        network.frozen += [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if normalization == "synchronized":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network.train(network.training)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block; afterwards every module has its former mode."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
