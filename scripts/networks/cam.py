"""Where the classifier looks: Grad-CAM from the pass that predicts.

A map is as coarse as the bottleneck (8 x 8 on the cpu network's 256 x 256 pixels): it tells regions, not outlines.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .multitask_unet import MultiTaskUNet

__all__ = ["encode", "explain"]


def explain(network: MultiTaskUNet, image: Tensor) -> dict[str, Tensor]:
    """Predict, and show where in this very image the first class logit comes from; one pass through the encoder.

    The map is HiResCAM at the bottleneck: features times the logit's gradient, place by place, summed over channels,
    negative values cut, enlarged and divided by the map's own maximum. Grad-CAM averages the gradient over the plane
    first, so that features outside the head show too, although the head's pooling gives them no weight; where it pools
    the whole plane alike, both maps are the same.

    Only the head is differentiated. Parameters, their gradients and the network's mode stay as they are, and it works
    within `torch.no_grad` and `torch.inference_mode`.

    Args:
        network: in evaluation mode.
        image: (B, C, H, W) float, background at -4.

    Returns:
        "seg": mask logits (B, 1, H, W); "cls": class logits (B, classes); "cam": (B, 1, H, W) float32 in [0, 1], zero
        everywhere where nothing speaks for the class. None of them is masked by the head, so what lies outside shows.

    Raises:
        ValueError: when the network is in training mode, where dropout would explain a prediction that nobody is given,
            or an image's side is not a multiple of `size_divisor`.

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017;
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, 2020 (2011.08891).
    """
    features, cls, cam = encode(network, image)
    with torch.inference_mode(False), torch.no_grad():
        return {"seg": network.decoder(features), "cls": cls, "cam": cam}


def encode(network: MultiTaskUNet, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Everything of `explain` but the mask: features of each level, class logits (B, classes), map (B, 1, H, W)."""
    if network.training:
        raise ValueError("the network is in training mode, call its eval() before asking for explanations")
    with torch.inference_mode(False):  # what is made in inference mode cannot be differentiated
        with torch.no_grad():
            features = network.encoder(network._checked(image))
            foreground = network.foreground(image)
        with torch.enable_grad():
            bottleneck = features[-1].detach().requires_grad_()  # (B, F, h, w), a leaf: the gradient ends here
            cls = network.head(bottleneck, foreground)
            (gradient,) = torch.autograd.grad(cls[:, 0].sum(), bottleneck)  # images do not mix: a sum keeps them apart
        with torch.no_grad():
            cam = (gradient.float() * features[-1].float()).sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
            cam = interpolate(cam, size=image.shape[-2:], mode="bilinear", align_corners=False)
            highest = cam.amax(dim=(2, 3), keepdim=True)
            cam = cam / torch.where(highest > 0, highest, 1.0)
    return features, cls.detach(), cam
