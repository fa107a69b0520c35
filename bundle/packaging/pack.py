"""Pack the bundle as a folder and a zip: components, configs, weights and documents, without the application."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..core import files
from ..core.regions import WHOLE_TUMOR
from ..errors import UserError
from ..loading import BUNDLE_ROOT
from ..manifest import read_json
from ..weights import report_beside, require_served, trained_as
from .data_description import data_of, describe_data
from .materials import bill_of_materials
from .signing import require_key, sign

__all__ = ["NAME", "pack"]

NAME = "brain_mri_tumor_segmentation_classification"  # MONAI Label derives the task from this name
KEPT = (
    *("LICENSE", "configs/*.yaml", "configs/metadata.json", "configs/logging.conf", "scripts/**/*.py"),
    *("models/report.json", "models/ood_detector.npz", "models/sequences.json", "models/README.md"),
    *("docs/README.md", "docs/data_license.txt", "docs/MULTITASK_EVALUATION_REPORT.md", "docs/images/*.png"),
)
WEIGHTS, SUMS = "models/model.pt", "sha256sums.txt"
NEEDED = ("LICENSE", "configs/metadata.json", "configs/inference.yaml", "docs/README.md", "docs/data_license.txt")
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # two packs of the same files are the same bytes
MODE = 0o100644 << 16


def pack(
    output: Path, weights_url: str | None = None, root: Path = BUNDLE_ROOT, key: Path | None = None
) -> tuple[Path, Path]:
    """Write the folder and the zip; replace existing ones.

    Args:
        output: folder for both.
        weights_url: leave the weights out and name this address in `large_files.yml`.
        root: the bundle's folder.
        key: private key that signs the folder, see `sign`.

    Returns:
        The folder and the zip.

    Raises:
        UserError: when weights or documents are missing, metadata or inference config are of other weights, the folder
            is the bundle itself, or the key cannot sign.
    """
    missing = [name for name in (*NEEDED, WEIGHTS) if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root}: cannot be packed without {', '.join(missing)}")
    metadata, hash_value = read_json(root / "configs" / "metadata.json"), files.sha256_of(root / WEIGHTS)
    if metadata.get("weights_sha256", {}).get(WEIGHTS) != hash_value:
        raise UserError(f"{root / WEIGHTS}: not the weights that configs/metadata.json names; release them first")
    report = report_beside(root / WEIGHTS)
    require_served(report.get("model", {}), root / "models")
    _require_channels(root, metadata["network_data_format"])
    if key is not None:
        require_key(key)
    folder, archive = output / NAME, output / f"{NAME}_v{metadata['version']}.zip"
    if root.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder}: would replace the bundle that is packed, choose another folder")
    output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(
        prefix=".packing-", dir=output
    ) as place:  # the old folder stays until the new one is complete
        made = Path(place) / NAME
        for path in files_of(root):
            target = made / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        if weights_url is None:
            shutil.copyfile(root / WEIGHTS, made / WEIGHTS)
        else:
            entry = {"path": WEIGHTS, "url": weights_url, "hash_type": "sha256", "hash_val": hash_value}
            (made / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False))
        describe_data(root, report, made)
        (made / "sbom.cdx.json").write_text(bill_of_materials(NAME, metadata, report, data_of(made)))
        (made / SUMS).write_text(sums_of(made))
        if key is not None:
            sign(made, key)
        zip_folder(made, archive)
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
    return folder, archive


def _require_channels(root: Path, described: Mapping[str, Any]) -> None:
    """Refuse metadata of a network with other channels, regions or types of tumors than the weights."""
    known, file = trained_as(root / WEIGHTS), root / "configs" / "metadata.json"
    read, regions = known.get("modalities", ["flair"]), known.get("regions", WHOLE_TUMOR)
    channels, packed = described["inputs"]["image"]["num_channels"], described["outputs"]["pred"]["num_channels"]
    if channels != len(read):
        raise UserError(f"{file}: {channels} channels, the weights read {','.join(read)}")
    types = known.get("tumor_types", [])
    if packed != len(regions) + 1 + len(types):
        told = f" and tell {','.join(types)} apart" if types else ""
        raise UserError(f"{file}: {packed} output channels, the weights segment {','.join(regions)}{told}")


def files_of(root: Path) -> Iterator[Path]:
    """Files that are copied unchanged, sorted."""
    yield from sorted({path for pattern in KEPT for path in root.glob(pattern) if path.is_file()})


def sums_of(folder: Path) -> str:
    """Hashes of all files of a folder, as `sha256sum` writes them; sign this text to sign the folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return "".join(f"{files.sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths)


def zip_folder(folder: Path, archive: Path) -> None:
    """Zip a folder, with sorted names and fixed times and modes."""
    temporary = archive.with_suffix(".tmp")
    with zipfile.ZipFile(temporary, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), FIXED_TIME)
                entry.external_attr, entry.compress_type = MODE, zipfile.ZIP_DEFLATED
                made.writestr(entry, path.read_bytes())
    temporary.replace(archive)
