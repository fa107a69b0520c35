"""Run the exported network: images (B, C, H, W) in, packed logits (B, K, H, W) out, as the bundle's own network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .core import files
from .errors import UserError
from .manifest import read_json

if TYPE_CHECKING:
    from torch import Tensor

    Network = Callable[[Tensor], Tensor]

__all__ = ["FORMATS", "exported_beside", "files_of", "load_exported", "note_beside"]

FORMATS = {"ts": "TorchScript", "pt2": "torch.export", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
SUFFIXES = {"ts": ".ts", "pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml"}


def exported_beside(weights: Path, name: str) -> Path:
    """Path of the network of these weights, exported to a format."""
    return weights.with_suffix(SUFFIXES[name])


def files_of(exported: Path) -> list[Path]:
    """The files of an exported network: OpenVINO has a second one with the weights."""
    return [exported, exported.with_suffix(".bin")] if exported.suffix == SUFFIXES["openvino"] else [exported]


def note_beside(exported: Path) -> Path:
    """Path of the note beside an exported network: hash of its weights, difference of its logits."""
    return exported.with_name(f"{exported.name}.json")


def load_exported(name: str, weights: Path) -> Network:
    """Load the exported network of these weights.

    Args:
        name: one of `FORMATS`.
        weights: file of the weights; the exported network is beside it.

    Raises:
        UserError: when it is missing, was exported from other weights, or its runtime is not installed.
    """
    path = exported_beside(weights, name)
    if not all(file.is_file() for file in (*files_of(path), note_beside(path))):
        raise UserError(f"{path}: no such file; export it first (python -m bundle export --format {name})")
    note = read_json(note_beside(path))
    found = {file.name: files.sha256_of(file) for file in files_of(path)}
    if note.get("weights_sha256") != files.sha256_of(weights):
        raise UserError(f"{path}: exported from other weights than {weights.name}; export it again")
    if note.get("sha256") != found:
        raise UserError(f"{path}: changed since it was exported; export it again")
    return open_exported(name, path)


def open_exported(name: str, path: Path) -> Network:
    """Open a file in a format, for the CPU."""
    opened: Network
    try:
        opened = OPENERS[name](path)
    except ImportError as error:
        raise UserError(f"{FORMATS[name]} needs the package {error.name}") from None
    return opened


def _torchscript(path: Path) -> Network:
    import torch

    network: Network = torch.jit.load(str(path), map_location="cpu").eval()
    return network


def _torch_export(path: Path) -> Network:
    import torch

    network: Network = torch.export.load(str(path)).module()
    return network


def _onnx(path: Path) -> Network:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def network(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.cpu().numpy()})[0])

    return network


def _openvino(path: Path) -> Network:
    import openvino
    import torch

    core = openvino.Core()
    precise = {"INFERENCE_PRECISION_HINT": "f32"}  # the default may use lower precision
    compiled = core.compile_model(str(path), "CPU", precise)

    def network(image: Tensor) -> Tensor:
        return torch.from_numpy(compiled(image.cpu().numpy())[0].copy())

    return network


OPENERS: dict[str, Callable[[Path], Network]] = {
    "ts": _torchscript,
    "pt2": _torch_export,
    "onnx": _onnx,
    "openvino": _openvino,
}
