"""From a model zoo's server to a prediction, by MONAI's own commands and nothing of the application."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import monai.bundle
import pytest
import torch

from bundle.datasets.phantoms import write_images
from bundle.packaging.pack import NAME, pack
from bundle.predictor import Predictor
from scripts.networks.multitask_unet import multi_task_unet


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundle as `monai.bundle download` leaves it, from a server on this machine."""
    place = tmp_path_factory.mktemp("zoo")
    _, archive = pack(place / "dist")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    monai.bundle.download(name=NAME, url=url, bundle_dir=str(place / "bundles"), progress=False)
    yield place / "bundles"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_weights_load_into_the_network(downloaded: Path) -> None:
    weights = downloaded / NAME / "models" / "model.pt"
    with pytest.warns(UserWarning, match="return state dict"):  # MONAI looks for a train.json; ours is YAML
        state = monai.bundle.load(NAME, bundle_dir=str(downloaded))
    multi_task_unet("cpu").load_state_dict(state)
    network = monai.bundle.load(NAME, model=multi_task_unet("cpu", packed=True), bundle_dir=str(downloaded))
    expected = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_monais_command_predicts_without_the_application(downloaded: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "scans", 2, seed=1)
    picture = sorted((tmp_path / "scans" / "yes").iterdir())[0]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.yaml"]
    command += ["--dataset_dir", str(picture), "--output_dir", str(tmp_path / "predictions")]
    done = subprocess.run(command, cwd=downloaded / NAME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    prediction = json.loads((tmp_path / "predictions" / f"{picture.stem}.json").read_text())
    expected = Predictor().predict(picture)["result"]
    assert prediction["tumor_probability"] == pytest.approx(expected["tumor_probability"], abs=1e-6)
    assert not (downloaded / NAME / "bundle").exists()
