"""A bundle of weights that tell types of tumors apart: its metadata follow the config, the pack passes its checks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bundle.errors import UserError
from bundle.packaging.pack import WEIGHTS, pack
from bundle.packaging.static_checks import Given
from bundle.packaging.verify import CHECKS
from bundle.weights import release, trained_as
from scripts.core.files import sha256_of, write_json
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import save_weights
from tests.bundle.packaging.test_packed_regions import own_components

__all__ = ["own_components"]

ROOT = Path(__file__).resolve().parents[3]
TYPES = ["glioma", "meningioma", "pituitary"]
CHECKED = ("network in and out", "TorchScript", "inference on random files")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with untrained weights with types released."""
    trained, folder = tmp_path_factory.mktemp("trained"), tmp_path_factory.mktemp("bundle")
    save_weights(multi_task_unet(tumor_types=3), trained / "model.pt")
    config = {"network_name": "cpu", "modalities": ["flair"], "regions": ["wt"], "tumor_types": TYPES}
    write_json(trained / "config.json", config)
    write_json(trained / "model.json", {"learned": ["segmentation", "classification"], "trained_on": {}})
    for name in ("configs", "scripts", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "LICENSE", folder)
    with pytest.raises(UserError, match=r"serves tumor_types \[\], not"):
        release(trained, {"schema_version": 1, "decision": {}}, folder / "models")
    inference = folder / "configs" / "inference.yaml"
    inference.write_text(inference.read_text().replace("tumor_types: [] ", f"tumor_types: [{', '.join(TYPES)}] "))
    release(trained, {"schema_version": 1, "decision": {}}, folder / "models")
    return folder


def test_a_release_describes_the_types(root: Path) -> None:
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    packed = metadata["network_data_format"]["outputs"]["pred"]
    assert packed["num_channels"] == 5 and packed["channel_def"] == {"0": "background", "1": "whole tumor"}
    assert metadata["pred_classes"] == (
        "5 channels: logits of the masks of whole tumor, logit of the slice's class broadcast over the plane,"
        " logits of the tumor's types glioma, meningioma, pituitary, given a tumor, likewise"
    )
    assert trained_as(root / WEIGHTS)["tumor_types"] == TYPES


def test_the_pack_passes_the_checks_that_run_it(root: Path, tmp_path: Path) -> None:
    folder, _ = pack(tmp_path, root=root)
    for name in CHECKED:
        CHECKS[name](folder, Given())


def test_metadata_of_another_network_are_refused(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    file = copy / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    file.write_text(json.dumps({**metadata, "weights_sha256": {WEIGHTS: sha256_of(copy / WEIGHTS)}}))
    with pytest.raises(UserError, match="2 output channels, the weights segment wt and tell glioma,"):
        pack(tmp_path / "dist", root=copy)
