"""The exported network in other runtimes, and in eight bits, against the fastest of PyTorch's own ways."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .clock import Measured
from .comparison import Benchmark, Number, Prepare, Ratio
from .material import BATCH, Material
from .scans import dice

__all__ = ["BENCHMARKS"]

EAGER = ("eager", "eager, channels_last")
FASTER = "CPU time of eager / CPU time"
CALIBRATION = 16  # slices that the range of the eight bits is measured on


def passes(material: Material) -> Mapping[str, Prepare]:
    """A batch through each runtime; the result is its packed logits."""
    return {
        "eager": lambda: laid_out(material, "contiguous_format"),
        "eager, channels_last": lambda: laid_out(material, "channels_last"),
        "ONNX Runtime": lambda: passing(exported(material, "onnx"), material.batch),
        "OpenVINO": lambda: passing(exported(material, "openvino"), material.batch),
        "int8": lambda: passing(in_eight_bits(material), material.batch),
    }


def predictions(material: Material) -> Mapping[str, Prepare]:
    """A volume predicted in 32 and in 8 bits; the result is Dice and ROC-AUC of the slices."""
    return {
        "32 bits": lambda: scoring(material, None),
        "8 bits": lambda: scoring(material, in_eight_bits(material)),
    }


def passing(network: Callable[[Any], Any], batch: Any) -> Callable[[], Any]:
    """The pass of a batch, without gradients."""
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return network(batch)

    return run


def laid_out(material: Material, layout: str) -> Callable[[], Any]:
    """The pass with a layout of PyTorch, "contiguous_format" or "channels_last"."""
    import torch

    chosen: Any = getattr(torch, layout)
    network = copy.deepcopy(material.network).to(memory_format=chosen)
    return passing(network, material.batch.contiguous(memory_format=chosen))


def exported(material: Material, name: str) -> Callable[[Any], Any]:
    """The network in another format, as `python -m bundle export` writes and opens it."""
    from bundle.packaging.export import export
    from bundle.packaging.runtimes import open_exported

    require(name)
    network: Callable[[Any], Any] = open_exported(name, export(name, material.weights))
    return network


def require(name: str) -> None:
    """Import the packages of a format, so that what is missing is named."""
    import importlib

    for package in {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}[name]:
        importlib.import_module(package)


def in_eight_bits(material: Material) -> Callable[[Any], Any]:
    """The exported network with weights and activations of eight bits, calibrated on slices of another volume."""
    require("onnx")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from bundle.packaging.export import export
    from bundle.packaging.runtimes import open_exported

    class Slices(CalibrationDataReader):
        def __init__(self, slices: Any) -> None:
            self.rows = iter(slices.split(BATCH))

        def get_next(self) -> dict[str, Any] | None:
            rows = next(self.rows, None)
            return None if rows is None else {"image": rows.numpy()}

    target = material.folder / "int8.onnx"
    if not target.is_file():
        whole, prepared = export("onnx", material.weights), material.folder / "prepared.onnx"
        quant_pre_process(str(whole), str(prepared), skip_symbolic_shape=True)
        kinds = {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8, "per_channel": True}
        convolutions = ["Conv", "ConvTranspose"]
        reader = Slices(other_slices(material)[:CALIBRATION])
        quantize_static(str(prepared), str(target), reader, QuantFormat.QDQ, op_types_to_quantize=convolutions, **kinds)
    network: Callable[[Any], Any] = open_exported("onnx", Path(target))
    return network


def other_slices(material: Material) -> Any:
    """Network input of another phantom, (N, 1, 256, 256)."""
    folder = material.volumes(2, material.slices)
    scan = sorted(folder.rglob("*_flair.nii.gz"))[1]
    other = material.predictor.parts["preprocessing"]({"image": material.predictor.read(scan)}, start=1)
    slices = other["image"].as_tensor().permute(3, 0, 1, 2)
    return slices[(slices > -3.95).sum(dim=(1, 2, 3)) >= 1500].contiguous()


def scoring(material: Material, network: Callable[[Any], Any] | None) -> Callable[[], Any]:
    """Predict the volume; returns Dice of its mask and ROC-AUC of its slices."""
    from sklearn.metrics import roc_auc_score

    predictor = copy.copy(material.predictor)
    predictor.exported = network

    def run() -> tuple[float, float]:
        prediction = predictor.predict(material.volume)
        given = np.array([np.nan if p is None else p for p in prediction["result"]["slice_probabilities"]])
        known = np.isfinite(given)
        tumor: Any = material.reference.any(axis=(0, 1))
        score = roc_auc_score(tumor[known], given[known])
        return dice(prediction["pred"][0].numpy() > 0, material.reference), float(score)

    return run


def difference(name: str) -> Callable[[Mapping[str, Measured]], float]:
    """Largest difference of a logit to eager's."""
    return lambda found: float((found["eager"].result - found[name].result).abs().max())


def drop(index: int) -> Callable[[Mapping[str, Measured]], float]:
    """How much lower one of the two scores is in eight bits."""
    return lambda found: float(found["32 bits"].result[index] - found["8 bits"].result[index])


def faster(name: str) -> Callable[[Mapping[str, Measured]], list[float]]:
    """How many times the CPU time of the fastest eager pass is that of a runtime, in each round."""
    ratio = Ratio("", name, EAGER, 0.0)
    return lambda found: [1 / value for value in ratio.values(found)]


BENCHMARKS = [
    Benchmark(
        "runtimes",
        passes,
        [
            *(
                Number(f"best eager pass / {name}", [*EAGER, name], faster(name), goal, FASTER, "at least")
                for name, goal in {"ONNX Runtime": 1.2, "OpenVINO": 1.2, "int8": 2.0}.items()
            ),
            *(
                Number(f"largest difference of a logit, {name}", ["eager", name], difference(name), 1e-4, "logit")
                for name in ("ONNX Runtime", "OpenVINO")
            ),
        ],
        rounds=9,
    ),
    Benchmark(
        "int8",
        predictions,
        [
            Number("drop of a volume's Dice by int8", ["32 bits", "8 bits"], drop(0), 0.005, "Dice"),
            Number("drop of its slices' ROC-AUC by int8", ["32 bits", "8 bits"], drop(1), 0.005, "ROC-AUC"),
        ],
        rounds=1,
    ),
]
