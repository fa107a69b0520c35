"""Write the browser app as a static folder."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..errors import UserError
from . import packages
from .network import write_network
from .settings import settings_of

if TYPE_CHECKING:
    from ..predictor import Predictor

__all__ = ["write_app", "write_site"]

HERE = Path(__file__).resolve().parent
ROOMS = ("core", "dicom", "io", "transforms", "inference")  # of scripts/, what predictions need
DISTRIBUTIONS = ("nibabel", "pydicom", "packaging", "typing_extensions")  # of Python alone, as they are installed
LEFT_OUT = {"tests", "benchmarks", "test_files", "cmdline", "__pycache__"}
BESIDE = ("ood_detector.npz", "sequences.json")  # of models/


def write_site(predictor: Predictor, output: Path, archives: Path | None = None) -> dict[str, float]:
    """Write the folder: page, worker, viewer, Pyodide, ONNX Runtime, network and Python.

    Args:
        predictor: the loaded weights, of one modality, on the CPU.
        output: a new or empty folder.
        archives: folder that keeps what is fetched from the registries; None: it is fetched anew.

    Returns:
        Size of each part in MB.

    Raises:
        UserError: when the folder has files, weights have several modalities, several regions, types or no OOD
            detector, or a package cannot be fetched.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: has files; name a new or empty folder")
    if len(predictor.parts["modalities"]) != 1:
        raise UserError("the browser app reads one file; these weights need several sequences")
    if predictor.network.mask_channels != 1:
        raise UserError("the browser app draws one mask; these weights segment several regions")
    if predictor.network.tumor_types:
        raise UserError("the browser app names no type of tumor; these weights tell types apart")
    with TemporaryDirectory() as place:
        fetched = packages.fetch(archives or Path(place))
        output.mkdir(parents=True, exist_ok=True)
        packages.unpack(fetched, output)
    for page in (HERE / "page").iterdir():
        shutil.copyfile(page, output / page.name)
    viewer = HERE.parent / "ui" / "viewer"
    shutil.copyfile(viewer / "niivue.umd.js", output / "niivue.umd.js")
    shutil.copyfile(viewer / "LICENSE", output / "niivue.LICENSE")
    write_network(predictor.network, output / "network.onnx", root=predictor.root)
    with TemporaryDirectory() as place:
        write_app(predictor, Path(place))
        _zip(Path(place) / "model", output / "model.zip", "model")
        _zip(Path(place), output / "python.zip", "", but="model")
    parts = {path.name: path for path in sorted(output.iterdir())}
    return {name: round(sum(file.stat().st_size for file in _files(path)) / 1e6, 1) for name, path in parts.items()}


def write_app(predictor: Predictor, folder: Path, third_party: bool = True) -> None:
    """Write the Python of the app: `scripts/`, `bundle_web`, pure Python packages, and `model/` with its settings.

    Raises:
        UserError: when a file of the weights is missing.
    """
    scripts = predictor.root / "scripts"
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        shutil.copytree(scripts / room, folder / "scripts" / room, ignore=ignored)
    shutil.copyfile(scripts / "__init__.py", folder / "scripts" / "__init__.py")
    shutil.copytree(HERE / "browser", folder / "bundle_web", ignore=ignored)
    for name in DISTRIBUTIONS if third_party else ():
        for file in metadata.files(name) or ():
            is_told = file.name == "METADATA" or "licenses" in file.parts  # versions are read from it
            is_used = file.suffix in (".py", ".json", ".toml") and not LEFT_OUT & set(file.parts)
            if (is_told or is_used) and ".." not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    model = folder / "model"
    model.mkdir()
    for name in BESIDE:
        path = predictor.model_path.with_name(name)
        path = path if path.is_file() else predictor.root / "models" / name
        if not path.is_file():
            raise UserError(f"{path}: no such file; the browser app needs it beside the weights")
        shutil.copyfile(path, model / name)
    (model / "settings.json").write_text(json.dumps(settings_of(predictor)))


def _files(path: Path) -> Iterator[Path]:
    return (file for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file())


def _zip(folder: Path, target: Path, above: str, but: str | None = None) -> None:
    """Zip a folder, with one time for all files, so that the same content gives the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files(folder):
            name = file.relative_to(folder)
            if name.parts[0] != but:
                info = zipfile.ZipInfo((Path(above) / name).as_posix())
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, file.read_bytes())
