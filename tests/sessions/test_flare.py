"""The FLARE job in FLARE's real simulator: two sites with phantoms of their own, two rounds, one model.

The simulator needs an environment of its own, see docs/how-to/other_tools.md; FLARE_PYTHON is its interpreter.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import nibabel as nib
import pytest
import torch

from bundle.datasets.phantoms import write_volumes
from bundle.packaging.pack import pack
from bundle.predictor import Predictor
from scripts.core.files import sha256_of
from scripts.core.messages import report_note
from tests.federated_sites import FLARE, ROUNDS, SHORT, STEPS, flare_config, write_store

PYTHON = os.environ.get("FLARE_PYTHON", "")
pytestmark = [pytest.mark.session, pytest.mark.skipif(not PYTHON, reason="needs FLARE_PYTHON, see other_tools.md")]
ECOSYSTEM = FLARE.parents[1] / "docs" / "how-to" / "other_tools.md"
SITES = ("site-1", "site-2")
LONGEST_S = 600.0


def write_job(folder: Path) -> None:
    """The job, with little to do."""
    shutil.copytree(FLARE / "job", folder)
    for side, changes in (("client", {"settings": SHORT}), ("server", {"rounds": ROUNDS})):
        name = f"app/config/config_fed_{side}.json"
        config = flare_config(f"job/{name}")
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        (folder / name).write_text(json.dumps(config))


def simulate(job: Path, workspace: Path, **environment: str) -> int:
    """Run the simulator to its end, or to ours; its exit code. What it says is in the workspace's `log.txt`."""
    command = [str(Path(PYTHON).with_name("nvflare")), "simulator", str(job), "-w", str(workspace)]
    command += ["-n", str(len(SITES)), "-t", str(len(SITES))]
    found = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    with workspace.with_suffix(".txt").open("wb") as log:
        simulator = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=found, start_new_session=True
        )
        try:
            return simulator.wait(LONGEST_S)
        finally:
            if simulator.poll() is None:
                os.killpg(simulator.pid, signal.SIGKILL)  # the sites' processes end when their parent is gone
                simulator.wait()


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packed bundle: a site needs nothing of the application."""
    return pack(tmp_path_factory.mktemp("dist"))[0]


@pytest.fixture(scope="module")
def workspace(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the simulator leaves."""
    place = tmp_path_factory.mktemp("flare")
    for seed, site in enumerate(SITES):
        write_store(place / "data" / site, seed)
    write_job(place / "job")
    shutil.copytree(FLARE / "local", place / "workspace" / "local")
    places = {"BUNDLE_ROOT": str(bundle_folder), "PYTHONPATH": str(bundle_folder), "BUNDLE_DATA": str(place / "data")}
    code = simulate(place / "job", place / "workspace", **places)
    assert code == 0, (place / "workspace.txt").read_text()[-3000:]
    return place / "workspace"


@pytest.fixture(scope="module")
def model(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The global model as plain weights, by the command of the documentation."""
    folder = tmp_path_factory.mktemp("model")
    (line,) = [line for line in ECOSYSTEM.read_text().splitlines() if "FL_global_model.pt" in line and "python" in line]
    words = shlex.split(line.replace("WORKSPACE", str(workspace)))
    subprocess.run([PYTHON, *words[1:]], cwd=folder, check=True, stdin=subprocess.DEVNULL)
    return folder / "model.pt"


def test_each_site_takes_part_in_each_round(workspace: Path) -> None:
    said = (workspace / "server" / "log.txt").read_text()
    accepted = re.findall(r"Contribution from (\S+) ACCEPTED by the aggregator at round (\d+)", said)
    assert sorted(accepted) == [(site, str(number)) for site in SITES for number in range(ROUNDS)]


def test_every_part_of_the_global_model_is_trained(model: Path, bundle_folder: Path) -> None:
    before = torch.load(bundle_folder / "models" / "model.pt", weights_only=True)
    after = torch.load(model, weights_only=True)
    assert {name: value.shape for name, value in after.items()} == {k: v.shape for k, v in before.items()}
    assert all(bool(torch.isfinite(value).all()) for value in after.values())
    for part in ("encoder.", "decoder.", "head."):
        names = [name for name in before if name.startswith(part) and name.endswith(("weight", "bias"))]
        assert any(not torch.equal(before[name], after[name]) for name in names), f"{part} did not learn"
    counter = "encoder.levels.0.conv_0.adn.N.num_batches_tracked"
    assert int(after[counter] - before[counter]) == ROUNDS * STEPS  # each round went on from the shared weights


def test_the_global_model_predicts(model: Path, tmp_path: Path) -> None:
    write_volumes(tmp_path, 1, slices=12, side=128, seed=31)
    scan = next(tmp_path.rglob("*_flair.nii.gz"))
    predictor = Predictor(model)
    for name, value in torch.load(model, weights_only=True).items():
        loaded = predictor.network.state_dict()[name]
        assert torch.equal(loaded, value.to(loaded)), f"{name} is not the global model's"
    prediction = predictor.predict(scan)
    assert 0 < prediction["result"]["tumor_probability"] < 1 and prediction["pred"].any()
    assert prediction["pred"].shape[1:] == nib.load(scan).shape
    assert prediction["result"]["model"]["sha256"] == sha256_of(model)
    assert prediction["result"]["model"]["report"] == report_note("missing")
