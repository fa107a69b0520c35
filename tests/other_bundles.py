"""Bundles of untrained weights that read other sequences, segment other regions or tell types of tumors apart."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.packaging.pack import WEIGHTS
from bundle.weights import release
from scripts.core.files import sha256_of, write_json
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights

Served = Mapping[str, Sequence[str]]

ROOT = Path(__file__).resolve().parents[1]
SEQUENCES, REGIONS = ["flair", "t1", "t1ce", "t2"], ["wt", "tc", "et"]
REGIONS_OF_SEQUENCES: Served = {"modalities": SEQUENCES, "regions": REGIONS}  # all of BraTS
AS_RELEASED: Served = {"modalities": ["flair"], "regions": ["wt"], "tumor_types": []}  # in configs/inference.yaml
REPORT: dict[str, Any] = {"schema_version": 1, "decision": {}}


def other_bundle(folder: Path, served: Served) -> Path:
    """The bundle in this folder, with such weights released."""
    trained = copied_bundle(folder, served)
    serve(folder, served)
    release(trained, REPORT, folder / "models")
    return folder


def copied_bundle(folder: Path, served: Served) -> Path:
    """Copy the bundle without weights to a folder; return another folder, of what a training of such weights leaves."""
    for name in ("configs", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    trained, chosen = folder / "runs", {**AS_RELEASED, **served}
    trained.mkdir()
    read, regions, types = (len(chosen[name]) for name in AS_RELEASED)
    save_weights(multi_task_unet(in_channels=read, mask_channels=regions, tumor_types=types), trained / "model.pt")
    write_json(trained / "config.json", {"network_name": "cpu", **chosen})
    write_json(trained / "model.json", {"learned": ["segmentation", "classification"], "trained_on": {}})
    return trained


def serve(folder: Path, served: Served) -> None:
    """Let the inference config of a bundle serve such weights."""
    config = folder / "configs" / "inference.yaml"
    text = config.read_text()
    for name, chosen in served.items():
        text = text.replace(f"{name}: [{', '.join(AS_RELEASED[name])}] ", f"{name}: [{', '.join(chosen)}] ")
    config.write_text(text)


def with_two_output_channels(root: Path, copy: Path) -> Path:
    """A copy of a bundle whose metadata describe a network of two output channels."""
    shutil.copytree(root, copy)
    file = copy / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    file.write_text(json.dumps({**metadata, "weights_sha256": {WEIGHTS: sha256_of(copy / WEIGHTS)}}))
    return copy
