"""Export the network to other formats; keep an export only if it predicts like the original."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import files
from ..errors import UserError
from ..loading import BUNDLE_ROOT, parse, suppress_monai_warnings
from ..manifest import read_json
from ..weights import find_weights, trained_as
from .export_formats import FORMATS
from .pack import NAME
from .runtimes import exported_beside, files_of, note_beside, open_exported

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["export", "write_triton_model"]

TOLERANCE = 1e-4  # of a logit
BATCH = 8  # slices of the image on which both are compared


def export(name: str, model: str | Path | None = None, network: str | None = None, root: Path = BUNDLE_ROOT) -> Path:
    """Write the network of some weights in another format beside them, with a note of the difference of its logits.

    Args:
        name: one of `FORMATS`.
        model: weights (default: the bundle's).
        network: the network's name, if no report beside the weights names it.
        root: the bundle's folder.

    Returns:
        The file.

    Raises:
        UserError: when a logit differs by more than `TOLERANCE` (the export is removed), or a package is missing.
    """
    weights = find_weights(model, root)
    settings = {"model_path": str(weights), "device": "$torch.device('cpu')", **trained_as(weights, network)}
    original = parse("inference.yaml", ["loaded"], root, **settings)["loaded"].eval()
    target = exported_beside(weights, name)
    image = example(root, len(settings.get("modalities", ["flair"])))
    try:
        with suppress_monai_warnings(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn of their own internals
            FORMATS[name].write(original, image, target, settings, root)
    except ImportError as error:
        raise UserError(f"exporting to {FORMATS[name].title} needs the package {error.name}") from None
    difference = largest_difference(original, open_exported(name, target), image)
    if not difference <= TOLERANCE:  # true for NaN too
        for path in files_of(target):
            path.unlink(missing_ok=True)
        raise UserError(f"{target}: removed, its logits differ by {difference:.2g} from the network's")
    note = {
        "format": FORMATS[name].title,
        "sha256": {path.name: files.sha256_of(path) for path in files_of(target)},
        "weights_sha256": files.sha256_of(weights),
        "largest_difference": difference,
        "versions": {package: version(package) for package in sorted({"torch", FORMATS[name].package})},
    }
    files.write_json(note_beside(target), note)
    return target


def example(root: Path, channels: int) -> Tensor:
    """Heads of noise in the network's input size, (BATCH, C, H, W), with its background value."""
    import torch

    served = read_json(root / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]
    (height, width), (background, _) = served["spatial_shape"], served["value_range"]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    noise = torch.randn(BATCH, channels, height, width, generator=torch.Generator().manual_seed(0))
    return torch.where(x**2 + y**2 < 0.6, noise.clamp(-3, 3), torch.tensor(float(background)))


def largest_difference(original: nn.Module, exported: Callable[[Tensor], Tensor], image: Tensor) -> float:
    """Largest difference between the logits of both, for the whole batch and for one slice of it."""
    import torch

    with torch.inference_mode():
        return float(torch.stack([(original(part) - exported(part)).abs().max() for part in (image, image[:1])]).max())


def write_triton_model(name: str, exported: Path, repository: Path, root: Path = BUNDLE_ROOT) -> Path:
    """Write an exported network to a model repository of Triton Inference Server: MODEL/config.pbtxt and MODEL/1/.

    Args:
        name: ts, onnx or openvino.
        exported: file written by `export`.
        repository: Triton's model repository.
        root: the bundle's folder.

    Raises:
        UserError: when Triton has no backend for the format.
    """
    import shutil

    triton = FORMATS[name].triton
    if triton is None:
        others = ", ".join(name for name, known in FORMATS.items() if known.triton)
        raise UserError(f"Triton has no backend for {FORMATS[name].title}; it has backends for {others}")
    folder = repository / NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    for part in files_of(exported):
        place = folder / "1" / triton.file
        shutil.copyfile(part, place if part == exported else place.with_suffix(part.suffix))
    formats = read_json(root / "configs" / "metadata.json")["network_data_format"]
    image, packed = formats["inputs"]["image"], formats["outputs"]["pred"]
    dims = [", ".join(str(n) for n in (form["num_channels"], *form["spatial_shape"])) for form in (image, packed)]
    config = f"""name: "{NAME}"
backend: "{triton.backend}"
max_batch_size: 32
input [{{ name: "{triton.tensors[0]}" data_type: TYPE_FP32 dims: [ {dims[0]} ] }}]
output [{{ name: "{triton.tensors[1]}" data_type: TYPE_FP32 dims: [ {dims[1]} ] }}]
dynamic_batching {{ }}
"""
    (folder / "config.pbtxt").write_text(config)
    return folder
