"""A bundle whose untrained weights read BraTS's four sequences and segment its three regions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from bundle.weights import release
from scripts.core.files import write_json
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]
SEQUENCES, REGIONS = ["flair", "t1", "t1ce", "t2"], ["wt", "tc", "et"]
REPORT: dict[str, Any] = {"schema_version": 1, "decision": {}}


def bundle_of_regions(folder: Path) -> Path:
    """The bundle in this folder, with these weights released."""
    trained = copied_bundle(folder)
    serve_regions(folder)
    release(trained, REPORT, folder / "models")
    return folder


def copied_bundle(folder: Path) -> Path:
    """Copy the bundle without weights to a folder; return another folder, of what a training leaves."""
    for name in ("configs", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    trained = folder / "runs"
    trained.mkdir()
    save_weights(multi_task_unet(in_channels=4, mask_channels=3), trained / "model.pt")
    write_json(trained / "config.json", {"network_name": "cpu", "modalities": SEQUENCES, "regions": REGIONS})
    write_json(trained / "model.json", {"learned": ["segmentation", "classification"], "trained_on": {}})
    return trained


def serve_regions(folder: Path) -> None:
    """Let the inference config of a bundle serve these weights."""
    config = folder / "configs" / "inference.yaml"
    served = config.read_text().replace("modalities: [flair] ", f"modalities: [{', '.join(SEQUENCES)}] ")
    config.write_text(served.replace("regions: [wt] ", f"regions: [{', '.join(REGIONS)}] "))
