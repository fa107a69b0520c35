"""The wheel, away from the repository: it holds configs, components and weights, and predictions."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bundle.datasets.phantoms import write_images
from bundle.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
TOP = ("bundle", "configs", "docs", "models", "scripts", "LICENSE", "README.md", "setup.cfg", "pyproject.toml")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as pip lays them out in site-packages."""
    place = tmp_path_factory.mktemp("wheel")
    (place / "source").mkdir()
    for name in TOP:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, place / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(place), str(place / "source")], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            files.extract(name, place / "site-packages")
    return place / "site-packages"


def test_the_wheel_contains_every_package_and_no_top_level_scripts(installed: Path) -> None:
    tops = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"bundle"}
    for folder in ("configs", "scripts", "models"):
        here = {path.name for path in (ROOT / folder).iterdir() if path.suffix in (".py", ".yaml", ".pt")}
        assert here <= {path.name for path in (installed / "bundle" / "packed" / folder).iterdir()}
    beside = {path.name for path in (ROOT / "bundle").iterdir() if path.is_file()}
    assert beside <= {path.name for path in (installed / "bundle").iterdir()}
    listed = configparser.ConfigParser()
    listed.read(ROOT / "setup.cfg")
    packages = set(listed["options"]["packages"].split())
    assert {f"bundle.{path.parent.name}" for path in (ROOT / "bundle").glob("*/*.py")} <= packages


def test_the_installed_wheel_predicts_from_any_folder(installed: Path, tmp_path: Path) -> None:
    write_images(tmp_path, 2, seed=1)
    picture = sorted((tmp_path / "yes").iterdir())[0]
    command = [sys.executable, "-m", "bundle", "predict", str(picture), "--output", str(tmp_path / "predictions")]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    prediction = json.loads((tmp_path / "predictions" / f"{picture.stem}.json").read_text())
    expected = Predictor().predict(picture)["result"]
    assert prediction["tumor_probability"] == pytest.approx(expected["tumor_probability"], abs=1e-6)
    assert prediction["model"] == expected["model"]


@pytest.mark.session
def test_pip_installs_it_into_an_empty_environment(installed: Path, tmp_path: Path) -> None:
    (wheel,) = installed.parent.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True)
    python = tmp_path / "empty" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=1500)
    write_images(tmp_path, 2, seed=1)
    picture = sorted((tmp_path / "yes").iterdir())[0]
    command = [python, "-m", "bundle", "predict", str(picture), "--output", str(tmp_path / "predictions")]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "predictions" / f"{picture.stem}.json").is_file()
