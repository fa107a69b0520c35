"""The network with CAM, Monte-Carlo dropout and out-of-distribution score, from one pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..networks.cam import encode_with_cam
from ..networks.multitask_unet import PackedMultiTaskUNet
from .out_of_distribution import OODDetector

__all__ = ["ExtendedNetwork"]


class ExtendedNetwork:
    """A packed network with further output channels; each slice passes encoder and decoder once.

    `planes` names the output channels:

    - "mask" (one for each region), "tumor", "type" (one for each type of tumors): logits, as from
      `PackedMultiTaskUNet`;
    - "cam": class activation map of the tumor logit, in [0, 1], see `predict_with_cam`;
    - "mask_deviation": standard deviation of each pixel's probability, of the first region, over Monte-Carlo dropout
      samples;
    - "tumor_deviation": the same of the slice's probability, over the whole plane;
    - "distance": out-of-distribution score of the slice's features, over the whole plane.

    Dropout is applied to channels of the decoder's last features and of the head's, so that a sample takes the last
    layer and the head again, and nothing else. The same channels are dropped for all slices and scans, so that
    predictions depend neither on the batch nor on the order. Batch normalization keeps its statistics.

    Args:
        network: in evaluation mode.
        include_cam: return the CAM.
        include_uncertainty: return the deviations.
        mc_samples: Monte-Carlo dropout samples for the deviations.
        dropout: share of dropped channels.
        seed: of the dropped channels.
        ood_detector: distribution of the training slices' features; None: no distance.
        between: called before each pass, so that other work gets its turn.

    Reference:
        Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016; Ledda et al., Dropout Injection at Test Time
        for Post Hoc Uncertainty Quantification in Neural Networks, Information Sciences 645, 2023.
    """

    def __init__(
        self,
        network: PackedMultiTaskUNet,
        include_cam: bool = False,
        include_uncertainty: bool = False,
        mc_samples: int = 20,
        dropout: float = 0.2,
        seed: int = 0,
        ood_detector: OODDetector | None = None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self.between = between
        self.ood_detector = ood_detector
        self.network, self.include_cam, self.include_uncertainty = network, include_cam, include_uncertainty
        self.mc_samples, self.dropout, self.seed = mc_samples, dropout, seed
        self.planes = [*["mask"] * network.mask_channels, "tumor", *["type"] * network.tumor_types]
        self.planes += ["cam"] if include_cam else []
        self.planes += ["mask_deviation", "tumor_deviation"] if include_uncertainty else []
        self.planes += ["distance"] if ood_detector is not None else []

    def __call__(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, len(planes), H, W)."""
        if self.network.training:
            raise ValueError("the network is in training mode, call its eval() before a prediction")
        self.between()
        features, cls, cam = self._encoded(image)
        with torch.no_grad():
            decoder = self.network.decoder
            decoded = decoder.expand(features)[-1]
            planes = [decoder.to_image(decoder.final(decoded)), _plane(cls, image), *cam]
            planes += self._deviations(decoded, features[-1], image) if self.include_uncertainty else []
            planes += self._distance(features[-1], image)
            return torch.cat(planes, dim=1)

    def _encoded(self, image: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Features of each level, logits of tumor and types (B, 1 + T), and the CAM (B, 1, H, W) if it is included."""
        if self.include_cam:
            features, cls, cam = encode_with_cam(self.network, image)
            return features, cls, [cam]
        with torch.no_grad():
            features = self.network.encoder(self.network._checked(image))
            return features, self.network.head(features[-1], self.network.foreground(image)), []

    def _deviations(self, decoded: Tensor, bottleneck: Tensor, image: Tensor) -> list[Tensor]:
        """Standard deviations of the mask (B, 1, H, W), and of the class over the same plane."""
        decoder, foreground = self.network.decoder, self.network.foreground(image)
        generator = torch.Generator().manual_seed(self.seed)
        last = decoder.final  # of 1 x 1 pixels: the samples of all pixels are one matrix product
        weights = last.weight[:, None, :, 0, 0] * self._kept(last.in_channels, generator).to(last.weight)
        biases = None if last.bias is None else last.bias.repeat_interleave(self.mc_samples)
        logits = linear(decoded.permute(0, 2, 3, 1), weights.flatten(0, 1), biases)
        mask = _deviation(logits.sigmoid_().unflatten(-1, (last.out_channels, self.mc_samples)))
        kept = self._kept(bottleneck.shape[1], generator).to(bottleneck)[:, :, None, None]
        classes = [self.network.head(bottleneck * sample, foreground)[:, :1].sigmoid() for sample in kept]
        return [
            decoder.to_image(mask.permute(0, 3, 1, 2))[:, :1],
            _plane(_deviation(torch.stack(classes, dim=-1)), image),
        ]

    def _distance(self, bottleneck: Tensor, image: Tensor) -> list[Tensor]:
        """OOD score of each slice over its plane (B, 1, H, W); empty without a detector."""
        if self.ood_detector is None:
            return []
        features = self.network.head.average(bottleneck, self.network.foreground(image))
        distances = torch.from_numpy(self.ood_detector.distance(features.float().cpu().numpy()))
        return [_plane(distances.to(image)[:, None], image)]

    def _kept(self, channels: int, generator: torch.Generator) -> Tensor:
        """Dropout weights (samples, channels): 0 for dropped channels, the others are scaled up."""
        kept = torch.rand(self.mc_samples, channels, generator=generator) >= self.dropout
        return kept.float() / (1 - self.dropout)


def _deviation(samples: Tensor) -> Tensor:
    """(..., S) -> standard deviation over the samples (...); a third of the time of `torch.std`."""
    shifted = samples - samples[..., :1]  # else the squares of equal samples would leave rounding errors
    square = torch.linalg.vector_norm(shifted, dim=-1).square() / samples.shape[-1]
    return (square - shifted.mean(dim=-1).square()).clamp_min(0.0).sqrt()


def _plane(values: Tensor, image: Tensor) -> Tensor:
    """(B, K) over the plane of an image: (B, K, H, W)."""
    return values[:, :, None, None].expand(-1, -1, *image.shape[-2:])
