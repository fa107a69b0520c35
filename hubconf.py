"""Entry points of `torch.hub.load`; see https://pytorch.org/docs/stable/hub.html."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bundle import Predictor
    from scripts.networks.multitask_unet import MultiTaskUNet

dependencies = ["torch", "monai", "nibabel", "scipy", "sklearn", "PIL", "yaml"]
WEIGHTS = Path(__file__).resolve().parent / "models" / "model.pt"


def multi_task_unet(pretrained: bool = True, packed: bool = False) -> MultiTaskUNet:
    """The network, by default with the released weights, in evaluation mode.

    Args:
        pretrained: load the released weights.
        packed: return one tensor (B, 2, H, W) instead of a dict.

    Returns:
        A network for images (B, 1, 256, 256) float32, preprocessed as in `configs/inference.yaml`.
    """
    from scripts.networks.multitask_unet import multi_task_unet as make
    from scripts.networks.weights import load_weights

    network = make("cpu", packed=packed)
    return load_weights(network, WEIGHTS).eval() if pretrained else network.eval()


def predictor(**settings: Any) -> Predictor:
    """The predictor: `predictor().predict("scan.nii.gz")`; the arguments are those of `bundle.Predictor`."""
    from bundle import Predictor

    return Predictor(**settings)
