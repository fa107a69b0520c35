"""Class activation maps (HiResCAM) from the same pass that predicts.

A CAM is as coarse as the bottleneck (8 x 8 for the cpu network's 256 x 256 pixels): it shows regions, not contours.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .multitask_unet import MultiTaskUNet

__all__ = ["encode_with_cam", "predict_with_cam"]


def predict_with_cam(network: MultiTaskUNet, image: Tensor) -> dict[str, Tensor]:
    """Predict with a class activation map (CAM) of the tumor logit; one pass through the encoder.

    The CAM is HiResCAM at the bottleneck: features times the logit's gradient, elementwise, summed over channels,
    negative values set to 0, upsampled and divided by its maximum. Grad-CAM averages the gradient over the plane first,
    so that features outside the head contribute too, although the head's pooling gives them no weight; with uniform
    pooling both are equal.

    Only the classification head is differentiated. Parameters, their gradients and the network's mode are not changed,
    and it works within `torch.no_grad` and `torch.inference_mode`.

    Args:
        network: in evaluation mode.
        image: (B, C, H, W) float, background at -4.

    Returns:
        "seg": mask logits (B, 1, H, W); "cls": tumor logits (B, 1); "cam": (B, 1, H, W) float32 in [0, 1], all
        zero if no feature increases the logit. They are not masked by the head: values outside it are visible.

    Raises:
        ValueError: when the network is in training mode, where dropout changes the prediction, or an image's side is
            not a multiple of `size_divisor`.

    Reference:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017;
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations, 2020 (2011.08891).
    """
    features, cls, cam = encode_with_cam(network, image)
    with torch.inference_mode(False), torch.no_grad():
        return {"seg": network.decoder(features), "cls": cls[:, :1], "cam": cam}


def encode_with_cam(network: MultiTaskUNet, image: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """As `predict_with_cam` without the mask: features of each level, logits of tumor and types (B, 1 + T), CAM."""
    if network.training:
        raise ValueError("the network is in training mode, call its eval() before computing a CAM")
    with torch.inference_mode(False):  # tensors of inference mode cannot be differentiated
        with torch.no_grad():
            features = network.encoder(network._checked(image))
            foreground = network.foreground(image)
        with torch.enable_grad():
            bottleneck = features[-1].detach().requires_grad_()  # (B, F, h, w), a leaf: no gradient of the encoder
            cls = network.head(bottleneck, foreground)
            (gradient,) = torch.autograd.grad(cls[:, 0].sum(), bottleneck)  # the sum keeps gradients of images separate
        with torch.no_grad():
            cam = (gradient.float() * features[-1].float()).sum(dim=1, keepdim=True).relu()  # (B, 1, h, w)
            cam = interpolate(cam, size=image.shape[-2:], mode="bilinear", align_corners=False)
            highest = cam.amax(dim=(2, 3), keepdim=True)
            cam = cam / torch.where(highest > 0, highest, 1.0)
    return features, cls.detach(), cam
