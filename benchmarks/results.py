"""The file of results: rows by benchmark, and the machine that they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bundle import __version__
from bundle.core import files
from bundle.manifest import read_json

__all__ = ["machine", "merged", "write_results"]

PACKAGES = (
    *("torch", "monai", "numpy", "scipy", "segmentation-models-pytorch", "torchvision", "grad-cam", "onnxruntime"),
    *("openvino", "uvicorn"),
)
CPUINFO = Path("/proc/cpuinfo")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")  # that decide about speed


def machine() -> dict[str, Any]:
    """Processor, its cores and instruction sets, system, and versions of what is compared."""
    model, found = processor()
    return {
        "processor": model,
        "instructions": found,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {"bundle": __version__, "python": platform.python_version(), **versions()},
    }


def processor() -> tuple[str, list[str]]:
    """Name of the processor, and its instruction sets among `INSTRUCTIONS`."""
    if not CPUINFO.is_file():
        return platform.processor() or platform.machine(), []
    fields = [line.partition(":") for line in CPUINFO.read_text().splitlines()]
    names = {name.strip(): value.strip() for name, _, value in fields}
    flags = names.get("flags", names.get("Features", "")).split()
    return names.get("model name", platform.machine()), [name for name in INSTRUCTIONS if name in flags]


def versions() -> dict[str, str]:
    """Installed versions of `PACKAGES`, without those that are not there."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            continue
    return found


def merged(before: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Results with new rows in the place of those of the same benchmarks and number of threads.

    Args:
        before: content of the file, empty if there is none.
        rows: of the benchmarks that ran now.
        order: names of all benchmarks, in the order of the file; rows of others are left out.
    """
    new = {(row["benchmark"], row["threads"]) for row in rows}
    kept = [row for row in before.get("rows", []) if (row["benchmark"], row["threads"]) not in new]
    known = [row for row in [*kept, *rows] if row["benchmark"] in order]
    known.sort(key=lambda row: (row["threads"], order.index(row["benchmark"])))
    return {"machine": machine(), "rows": known}


def write_results(path: Path, rows: Sequence[Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """Merge rows into a file; return its content. See `merged`."""
    content = merged(read_json(path) if path.is_file() else {}, rows, order)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, content)
    return content
