"""The formats that the network can be exported to: how each is written and run, and how Triton serves it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = Callable[[Tensor], Tensor]

__all__ = ["FORMATS", "ExportFormat", "Settings", "TritonModel"]

Settings = dict[str, Any]  # of the inference config, that fit the weights


@dataclass(frozen=True)
class TritonModel:
    """How Triton Inference Server runs a format.

    Args:
        backend: its name.
        file: the model's file.
        tensors: names of input and output.
    """

    backend: str
    file: str
    tensors: tuple[str, str] = ("image", "packed")


@dataclass(frozen=True)
class ExportFormat:
    """A format of the network.

    Args:
        title: its name.
        suffix: of the file.
        package: that writes it.
        write: (network, example image, file, settings of the inference config, the bundle's folder).
        open: file -> network for the CPU, (B, C, H, W) -> packed logits (B, 2, H, W).
        weights_suffix: of another file that holds the weights.
        triton: None where Triton has no backend for it.
    """

    title: str
    suffix: str
    package: str
    write: Callable[[nn.Module, Tensor, Path, Settings, Path], None]
    open: Callable[[Path], Network]
    weights_suffix: str | None = None
    triton: TritonModel | None = None


def _write_torchscript(network: nn.Module, image: Tensor, target: Path, settings: Settings, root: Path) -> None:
    """Use MONAI's exporter, which stores metadata and config inside, as MONAI Deploy reads them."""
    from monai.bundle import ckpt_export

    configs = root / "configs"
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.yaml")}
    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
    ckpt_export("network_def", str(target), settings["model_path"], **files, bundle_root=str(root), **settings)


def _write_torch_export(network: nn.Module, image: Tensor, target: Path, settings: Settings, root: Path) -> None:
    import torch

    program = torch.export.export(network, (image,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, str(target))


def _write_onnx(network: nn.Module, image: Tensor, target: Path, settings: Settings, root: Path) -> None:
    import onnxscript  # noqa: F401  # torch's exporter needs it, and its own error is less clear
    import torch

    shapes: Any = {"image": {0: torch.export.Dim("batch")}}
    torch.onnx.export(
        network,
        (image,),
        str(target),
        input_names=["image"],
        output_names=["packed"],
        dynamic_shapes=shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _write_openvino(network: nn.Module, image: Tensor, target: Path, settings: Settings, root: Path) -> None:
    import openvino

    converted = openvino.convert_model(network, example_input=image, input=[(-1, *image.shape[1:])])
    converted.inputs[0].get_tensor().set_names({"image"})
    converted.outputs[0].get_tensor().set_names({"packed"})
    openvino.save_model(converted, str(target), compress_to_fp16=False)


def _open_torchscript(path: Path) -> Network:
    import torch

    network: Network = torch.jit.load(str(path), map_location="cpu").eval()
    return network


def _open_torch_export(path: Path) -> Network:
    import torch

    network: Network = torch.export.load(str(path)).module()
    return network


def _open_onnx(path: Path) -> Network:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep, as PyTorch's do
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def network(image: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": image.cpu().numpy()})[0])

    return network


def _open_openvino(path: Path) -> Network:
    import openvino
    import torch

    core = openvino.Core()
    precise = {"INFERENCE_PRECISION_HINT": "f32"}  # the default may use lower precision
    compiled = core.compile_model(str(path), "CPU", precise)

    def network(image: Tensor) -> Tensor:
        return torch.from_numpy(compiled(image.cpu().numpy())[0].copy())

    return network


FORMATS = {
    "ts": ExportFormat(
        *("TorchScript", ".ts", "torch", _write_torchscript, _open_torchscript),
        triton=TritonModel("pytorch", "model.pt", ("INPUT__0", "OUTPUT__0")),
    ),
    "pt2": ExportFormat("torch.export", ".pt2", "torch", _write_torch_export, _open_torch_export),
    "onnx": ExportFormat(
        *("ONNX Runtime", ".onnx", "onnx", _write_onnx, _open_onnx),
        triton=TritonModel("onnxruntime", "model.onnx"),
    ),
    "openvino": ExportFormat(
        *("OpenVINO", ".xml", "openvino", _write_openvino, _open_openvino),
        weights_suffix=".bin",
        triton=TritonModel("openvino", "model.xml"),
    ),
}
