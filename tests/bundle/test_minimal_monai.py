"""`predict` starts without MONAI's optional packages, and predicts the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bundle.command_line.cli import main

ROOT = Path(__file__).resolve().parents[2]
PARTS = {"ignite.engine.engine", "matplotlib.figure", "pandas.core", "sklearn.base", "torchvision.models.resnet"}
MODEL = str(ROOT / "models" / "model.pt")


def test_monai_is_imported_without_packages_that_are_there_afterwards() -> None:
    code = """
import sys
from importlib import import_module
from bundle.minimal_monai import OPTIONAL, import_minimal_monai

import_minimal_monai(("monai",))
assert not [name for name in sys.modules if name.partition(".")[0] == "monai"], "half imported"
import_minimal_monai()
assert "monai.bundle" in sys.modules and not set(OPTIONAL) & set(sys.modules)
import_module("jsonschema")
finders = list(sys.meta_path)
import_minimal_monai(("yaml",))
assert sys.meta_path == finders and "monai.bundle" in sys.modules, "imported already: nothing is changed"
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_another_thread_finds_the_packages_meanwhile() -> None:
    code = """
import sys
import threading
from bundle.minimal_monai import _without

with _without(["jsonschema"]):
    thread = threading.Thread(target=__import__, args=["jsonschema"])
    thread.start()
    thread.join()
    assert "jsonschema" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_a_process_of_predict_predicts_the_same_without_these_packages(synthetic: Path, tmp_path: Path) -> None:
    picture = str(sorted((synthetic / "kaggle" / "yes").iterdir())[0])
    command = ["predict", picture, "--model", MODEL, "--output"]
    arguments = [sys.executable, "-X", "importtime", "-m", "bundle", *command, str(tmp_path / "process")]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "monai.bundle" in imported and not imported & PARTS, "what is not found is listed, too, but no part of it"
    assert main([*command, str(tmp_path / "here")]) == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*") if path.name != "index.json"}
        for name in ("process", "here")
    )
    assert first == second and json.loads(next(tmp_path.glob("here/[!i]*.json")).read_text())["state"]
