"""A bundle of weights that segment BraTS's regions: its metadata follow the config, and the pack passes its checks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle.errors import UserError
from bundle.packaging.pack import pack
from bundle.packaging.static_checks import Given
from bundle.packaging.verify import CHECKS
from bundle.weights import release
from tests.other_bundles import (
    REGIONS,
    REGIONS_OF_SEQUENCES,
    REPORT,
    copied_bundle,
    serve,
    with_two_output_channels,
)

CHECKED = ("network in and out", "TorchScript", "properties", "inference on random files")


@pytest.fixture(scope="module", autouse=True)
def own_components() -> Iterator[None]:
    """Other folders' `scripts` are loaded here; afterwards everybody finds the ones that were there before."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "scripts"}
    path = list(sys.path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        del sys.modules[name]
    sys.modules.update(before)
    sys.path[:] = path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with weights of several sequences and regions released; before, its config serves others."""
    folder = tmp_path_factory.mktemp("bundle")
    trained = copied_bundle(folder, REGIONS_OF_SEQUENCES)
    with pytest.raises(UserError, match="serves"):
        release(trained, REPORT, folder / "models")
    serve(folder, REGIONS_OF_SEQUENCES)
    release(trained, REPORT, folder / "models")
    return folder


def test_a_release_describes_masks_and_codes(root: Path) -> None:
    metadata = json.loads((root / "configs" / "metadata.json").read_text())
    packed = metadata["network_data_format"]["outputs"]["pred"]
    assert packed["num_channels"] == 4
    assert packed["channel_def"] == {
        "0": "background",
        "1": "necrotic or non-enhancing core",
        "2": "edema",
        "4": "enhancing tumor",
    }
    assert metadata["pred_classes"].startswith("4 channels: logits of the masks of whole tumor, tumor core, enhancing")
    assert json.loads((root / "models" / "report.json").read_text())["model"]["regions"] == REGIONS


def test_the_pack_passes_the_checks_that_run_it(root: Path, tmp_path: Path) -> None:
    folder, _ = pack(tmp_path, root=root)
    for name in CHECKED:
        CHECKS[name](folder, Given())


def test_metadata_of_another_network_are_refused(root: Path, tmp_path: Path) -> None:
    copy = with_two_output_channels(root, tmp_path / "copy")
    with pytest.raises(UserError, match="2 output channels, the weights segment wt,tc,et"):
        pack(tmp_path / "dist", root=copy)
