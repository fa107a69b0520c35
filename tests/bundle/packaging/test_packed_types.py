"""A bundle of weights that tell types of tumors apart: its metadata follow the config, the pack passes its checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle.errors import UserError
from bundle.packaging.pack import WEIGHTS, pack
from bundle.packaging.static_checks import Given
from bundle.packaging.verify import CHECKS
from bundle.weights import release, trained_as
from tests.bundle.packaging.test_packed_regions import own_components
from tests.other_bundles import REPORT, copied_bundle, serve, with_two_output_channels

__all__ = ["own_components"]

TYPES = ["glioma", "meningioma", "pituitary"]
CHECKED = ("network in and out", "TorchScript", "inference on random files")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with weights with types released; before, its config serves others."""
    folder = tmp_path_factory.mktemp("bundle")
    trained = copied_bundle(folder, {"tumor_types": TYPES})
    with pytest.raises(UserError, match=r"serves tumor_types \[\], not"):
        release(trained, REPORT, folder / "models")
    serve(folder, {"tumor_types": TYPES})
    release(trained, REPORT, folder / "models")
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
    copy = with_two_output_channels(root, tmp_path / "copy")
    with pytest.raises(UserError, match="2 output channels, the weights segment wt and tell glioma,"):
        pack(tmp_path / "dist", root=copy)
