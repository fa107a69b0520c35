"""The network with CAM, Monte-Carlo dropout and out-of-distribution score, from one pass through the encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.cam import encode
from ..networks.multitask_unet import PackedMultiTaskUNet
from .out_of_distribution import OODDetector

__all__ = ["ExtendedNetwork"]


class ExtendedNetwork:
    """A packed network that predictions with more planes; each slice still passes the encoder once.

    `planes` names the channels of its prediction:

    - "mask", "tumor": logits, as `PackedMultiTaskUNet` gives them;
    - "cam": where the tumor logit comes from, see `explain.explain`, in [0, 1];
    - "mask_deviation": standard deviation of each pixel's probability over networks of which a part is switched off;
    - "tumor_deviation": the same of the slice's probability, over the whole plane;
    - "distance": of the slice's features from those of the training slices, over the whole plane.

    Dropout acts behind the encoder, on channels of its features, the same for every slice of every scan, so that the
    prediction depends neither on the batch nor on the order. Batch normalization keeps its statistics.

    Args:
        network: in evaluation mode.
        include_cam: return the CAM as well.
        include_uncertainty: return the deviations as well.
        mc_samples: Monte-Carlo samples, networks with other channels switched off, for the deviations.
        dropout: share of the channels that are switched off.
        seed: of which.
        ood_detector: what training slices look like; None leaves the distance out.

    Reference:
        Gal and Ghahramani, Dropout as a Bayesian Approximation, ICML 2016; Ledda et al., Dropout Injection at Test Time
        for Post Hoc Uncertainty Quantification in Neural Networks, Information Sciences 645, 2023.
    """

    def __init__(
        self,
        network: PackedMultiTaskUNet,
        include_cam: bool = False,
        include_uncertainty: bool = False,
        mc_samples: int = 8,
        dropout: float = 0.2,
        seed: int = 0,
        ood_detector: OODDetector | None = None,
    ) -> None:
        self.ood_detector = ood_detector
        self.network, self.include_cam, self.include_uncertainty = network, include_cam, include_uncertainty
        self.mc_samples, self.dropout, self.seed = mc_samples, dropout, seed
        self.planes = ["mask", "tumor"]
        self.planes += ["cam"] if include_cam else []
        self.planes += ["mask_deviation", "tumor_deviation"] if include_uncertainty else []
        self.planes += ["distance"] if ood_detector is not None else []

    def __call__(self, image: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, len(planes), H, W)."""
        network = self.network
        features, cls, cam = encode(network, image)
        with torch.inference_mode(False), torch.no_grad():
            planes = [network.decoder(features), _plane(cls[:, :1], image)]
            planes += [cam] if self.include_cam else []
            planes += self._deviations(features, image) if self.include_uncertainty else []
            planes += self._distance(features[-1], image)
            return torch.cat(planes, dim=1)

    def _deviations(self, features: list[Tensor], image: Tensor) -> list[Tensor]:
        """Of the mask (B, 1, H, W), and of the class over the same plane."""
        foreground = self.network.foreground(image)
        generator = torch.Generator().manual_seed(self.seed)
        masks, classes = [], []
        for _ in range(self.mc_samples):
            thinned = [level * self._kept(level.shape[1], generator).to(level) for level in features]
            masks.append(self.network.decoder(thinned).sigmoid())
            classes.append(self.network.head(thinned[-1], foreground)[:, :1].sigmoid())
        mask, cls = (torch.stack(found).std(dim=0, correction=0) for found in (masks, classes))
        return [mask, _plane(cls, image)]

    def _distance(self, bottleneck: Tensor, image: Tensor) -> list[Tensor]:
        """Of each slice over its plane (B, 1, H, W); nothing where it is not known what is familiar."""
        if self.ood_detector is None:
            return []
        features = self.network.head.average(bottleneck, self.network.foreground(image))
        distances = torch.from_numpy(self.ood_detector.distance(features.float().cpu().numpy()))
        return [_plane(distances.to(image)[:, None], image)]

    def _kept(self, channels: int, generator: torch.Generator) -> Tensor:
        """Weights (1, channels, 1, 1): 0 for those that are switched off, the others make up for them."""
        kept = torch.rand(channels, generator=generator) >= self.dropout
        return (kept.float() / (1 - self.dropout))[None, :, None, None]


def _plane(values: Tensor, image: Tensor) -> Tensor:
    """(B, 1) over the plane of an image: (B, 1, H, W)."""
    return values[:, :, None, None].expand(-1, -1, *image.shape[-2:])
