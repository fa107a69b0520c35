"""The network for the browser: ONNX with the features that the out-of-distribution score needs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..loading import BUNDLE_ROOT, suppress_monai_warnings
from ..packaging.export import TOLERANCE, example

if TYPE_CHECKING:
    from torch import nn

__all__ = ["write_network"]


def write_network(network: nn.Module, target: Path, channels: int = 1, root: Path = BUNDLE_ROOT) -> float:
    """Write a packed network with two outputs: "packed" (B, 2, H, W), logits, and "features" (B, F), pooled.

    Args:
        network: in evaluation mode, on the CPU.
        target: the file.
        channels: of its input.
        root: the bundle's folder.

    Returns:
        The largest difference of a logit.

    Raises:
        UserError: when a logit differs by more than `export.TOLERANCE`, or a package is missing.
    """
    import torch

    class WithFeatures(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            known: Any = self.network
            features, foreground = known.encoder(image), known.foreground(image)
            mask, tumor = known.decoder(features), known.head(features[-1], foreground)
            packed = torch.cat([mask, tumor[:, :, None, None].expand(-1, -1, *mask.shape[2:])], dim=1)
            return packed, known.head.average(features[-1], foreground)

    image = example(root, channels)
    shapes: Any = {"image": {0: torch.export.Dim("batch")}}
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["packed", "features"]}
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter needs it, and its own error is less clear

        with suppress_monai_warnings(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn of their own internals
            torch.onnx.export(
                WithFeatures().eval(),
                (image,),
                str(target),
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
                **names,
            )
    except ImportError as error:
        raise UserError(f"the network for the browser needs the package {error.name}") from None
    found = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"]).run(
        None, {"image": image.numpy()}
    )
    with torch.inference_mode():
        difference = float((network(image) - torch.from_numpy(found[0])).abs().max())
    if not difference <= TOLERANCE:  # true for NaN too
        target.unlink()
        raise UserError(f"{target}: removed, its logits differ by {difference:.2g} from the network's")
    return difference
