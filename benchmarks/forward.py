"""One pass of the network over a batch: what its second task, a CAM and Monte-Carlo dropout add, and other networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .comparison import Benchmark, Prepare, Ratio
from .material import Material

__all__ = ["BENCHMARKS"]

NNUNET = (32, 64, 128, 256, 512, 512)  # filters of nnU-Net's plan for slices of this size
MC_SAMPLES = 10


def passes(material: Material) -> Mapping[str, Prepare]:
    """Passes of a batch through the released network and through others, which have random weights."""
    return {
        "multi-task": lambda: inferring(material.network, material),
        "segmentation": lambda: inferring(segmentation_of(material), material),
        "segmentation and ResNet18": lambda: inferring(both(segmentation_of(material), laid_out(resnet18())), material),
        "smp U-Net": lambda: inferring(laid_out(smp_unet()), material),
        "nnU-Net's shape": lambda: inferring(laid_out(nnunet_shape()), material),
        "MONAI UNet": lambda: inferring(laid_out(monai_unet()), material),
    }


def explained(material: Material) -> Mapping[str, Prepare]:
    """A batch with and without its class activation map, and the same map by other libraries."""
    return {
        "plain": lambda: inferring(extended(material), material),
        "CAM": lambda: inferring(extended(material, include_cam=True), material),
        "monai GradCAM": lambda: monai_cam(material),
        "grad-cam HiResCAM": lambda: library_cam(material),
    }


def uncertain(material: Material) -> Mapping[str, Prepare]:
    """A batch with and without Monte-Carlo dropout."""
    return {
        "plain": lambda: inferring(extended(material), material),
        "Monte Carlo": lambda: inferring(extended(material, include_uncertainty=True), material),
    }


def inferring(network: Callable[[Any], Any], material: Material) -> Callable[[], Any]:
    """The pass of the shared batch through a network, without gradients."""
    import torch

    batch = material.batch

    def run() -> Any:
        with torch.inference_mode():
            return network(batch)

    return run


def laid_out(network: Any) -> Any:
    """Another network in evaluation mode and with the released network's layout in memory."""
    import torch

    return network.eval().to(memory_format=torch.channels_last)


def segmentation_of(material: Material) -> Callable[[Any], Any]:
    """The released network without its head."""
    return lambda image: material.network.decoder(material.network.encoder(image))


def both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Two networks on the same images."""
    return lambda image: (first(image), second(image))


def extended(material: Material, **settings: Any) -> Callable[[Any], Any]:
    """The network as predictions use it."""
    make = material.predictor.parts["extended_network"]
    network: Callable[[Any], Any] = make(material.network, mc_samples=MC_SAMPLES, **settings)
    return network


def resnet18() -> Any:
    """A classifier of its own."""
    import torch
    from torchvision.models import resnet18

    network = resnet18(num_classes=1)
    network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def smp_unet() -> Any:
    """The U-Net of segmentation_models_pytorch with ResNet18 as encoder and a classification head."""
    from scripts.networks.baseline_networks import smp_unet

    return smp_unet(packed=True)


def nnunet_shape() -> Any:
    """nnU-Net's network for slices, as MONAI has it."""
    from monai.networks.nets import DynUNet

    strides = [1, *[2] * (len(NNUNET) - 1)]
    norm = ("INSTANCE", {"affine": True})
    return DynUNet(2, 1, 1, [3] * len(NNUNET), strides, strides[1:], filters=NNUNET, norm_name=norm)


def monai_unet() -> Any:
    """MONAI's U-Net of the same width."""
    from scripts.networks.baseline_networks import monai_unet

    return monai_unet(packed=True)


def monai_cam(material: Material) -> Callable[[], Any]:
    """MONAI's map of the tumor logit at the same layer."""
    from monai.visualize import GradCAM

    cam = GradCAM(nn_module=as_classifier(material), target_layers=bottleneck(material))
    return lambda: cam(x=material.batch, class_idx=0)


def library_cam(material: Material) -> Callable[[], Any]:
    """grad-cam's HiResCAM of the tumor logit at the same layer."""
    from pytorch_grad_cam import HiResCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = as_classifier(material)
    cam = HiResCAM(model=network, target_layers=[network.get_submodule(bottleneck(material))])
    targets = [ClassifierOutputTarget(0)] * len(material.batch)
    return lambda: cam(input_tensor=material.batch.clone(), targets=targets)


def as_classifier(material: Material) -> Any:
    """A copy of the network with (B, 1) class logits as its output, differentiable."""
    import copy

    from torch import nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(material.network)

        def forward(self, image: Any) -> Any:
            packed = self.network(image)
            return packed[:, 1:, 0, 0]

    return Classifier().eval()


def bottleneck(material: Material) -> str:
    """Name of the encoder's last level in `as_classifier`."""
    return f"network.encoder.levels.{len(material.network.encoder.levels) - 1}"


BENCHMARKS = [
    Benchmark(
        "forward",
        passes,
        [
            Ratio("multi-task pass / segmentation alone", "multi-task", "segmentation", 1.05),
            Ratio(
                "multi-task pass / segmentation and a separate ResNet18",
                *("multi-task", "segmentation and ResNet18", 0.6),
            ),
            Ratio(
                "multi-task pass / segmentation_models_pytorch's U-Net (ResNet18, class head)",
                *("multi-task", "smp U-Net", 0.2),
            ),
            Ratio(
                "multi-task pass / nnU-Net's shape (MONAI's DynUNet, 32 to 512)", "multi-task", "nnU-Net's shape", 0.1
            ),
            Ratio("multi-task pass / MONAI's UNet (16 to 256)", "multi-task", "MONAI UNet", 1.0),
        ],
        rounds=9,
    ),
    Benchmark(
        "cam",
        explained,
        [
            Ratio("pass with CAM / without", "CAM", "plain", 1.05),
            Ratio("pass with CAM / MONAI's GradCAM", "CAM", "monai GradCAM", 0.5),
            Ratio("pass with CAM / grad-cam's HiResCAM", "CAM", "grad-cam HiResCAM", 0.5),
        ],
        rounds=9,
    ),
    Benchmark(
        "uncertainty",
        uncertain,
        [Ratio(f"pass with {MC_SAMPLES} Monte-Carlo samples / without", "Monte Carlo", "plain", 1.5)],
    ),
]
