"""Every command in the README runs, in its order, in a copy of the bundle, and so does its Python.

Of commands that take hours, never end or need weights that are elsewhere the options alone are looked at.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile.cases import head
from hostile.dicoms import mr_dataset, written

from bundle.cli import main, parser
from bundle.workflows.presets import PRESETS

ROOT = Path(__file__).resolve().parent.parent
MAKE_TARGETS = {"setup", "demo", "test"}
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
PYTHON = [body for language, body in FENCED if language == "python"]
BLOCKS = [body for language, body in FENCED if not language]  # of the shell
COMMANDS = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
INLINE = re.findall(r"`((?:python|make) [^`]*)`", (ROOT / "README.md").read_text())
SHORT = {"max_epochs": 1, "samples_per_epoch": 16}
LONG = {"crossvalidate", "ablate", "report"}  # hours; a small plan is run to its end in test_experiments
ENDLESS = {"serve", "ui"}  # until they are told to end; tests of their own run them
IN_THE_BUNDLE = {"export", "pack"}  # put files beside the weights, or need them; tests/bundle runs them elsewhere


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, synthetic: Path, unseen: Path, pipeline_run: Path) -> Path:
    """A folder as a user has it: the bundle, data folders, a finished run and some scans."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    data = {"BRATS": synthetic / "brats", "KAGGLE": synthetic / "kaggle", "RUN": pipeline_run}
    data |= {"NEW_BRATS": unseen / "brats", "NEW_KAGGLE": unseen / "kaggle"}
    for name, source in data.items():
        (folder / name).symlink_to(source)
    (folder / "SCANS").mkdir()
    shutil.copy(synthetic / "brats/PHANTOM_002/PHANTOM_002_flair.nii.gz", folder / "SCANS")
    (folder / "SERIES").mkdir()
    plane = head(160, 160).astype(np.uint16)
    for index in range(3):
        slice_ = mr_dataset(plane, position=3.0 * index, StudyInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.3.5")
        (folder / "SERIES" / str(index)).write_bytes(written(slice_))
    return folder


def monai_run(arguments: list[str]) -> None:
    """`python -m monai.bundle run`, in this process."""
    from monai.bundle import run

    run_id = None if arguments[0].startswith("--") else arguments.pop(0)
    options: dict[str, Any] = dict(zip((a[2:] for a in arguments[::2]), arguments[1::2], strict=True))
    files = options.pop("config_file")
    config_file = re.findall(r"'([^']+)'", files) if files.startswith("[") else files
    short = SHORT if run_id == "training" else {}
    run(run_id=run_id, config_file=config_file, bundle_root=".", **options, **short)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert words[1] in MAKE_TARGETS and re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    monkeypatch.chdir(place)
    if words[:4] == ["python", "-m", "monai.bundle", "run"]:
        monai_run(words[4:])
    elif "pipeline" in words:
        monkeypatch.setitem(PRESETS, "quick", {s: SHORT for s in ("stage1", "stage2", "stage3")})
        assert main([*words[3:], "--output", "RUN2"]) == 0
    elif words[3] in LONG | ENDLESS | IN_THE_BUNDLE:
        assert callable(parser().parse_args(words[3:]).run)
    else:
        assert words[:3] == ["python", "-m", "bundle"]
        shutil.rmtree("PREDICTIONS", ignore_errors=True)  # of other weights
        assert main(words[3:]) == 0


@pytest.mark.parametrize("block", PYTHON)
def test_the_readmes_python_runs(block: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    shutil.copy(next(Path("SCANS").iterdir()), "scan.nii.gz")
    *statements, prediction = block.strip().splitlines()
    found: dict[str, Any] = {}
    exec("\n".join([*statements, f"shown = {prediction}"]), found)  # the README's own
    probability, mask, heat = found["shown"]
    assert 0.0 <= probability <= 1.0 and mask.shape == heat.shape and mask.ndim == 4


@pytest.mark.parametrize("command", INLINE)
def test_a_command_within_the_readmes_text_is_understood(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert words[1] in MAKE_TARGETS
    else:
        assert callable(parser().parse_args(words[3:]).run)


def test_the_readme_shows_pictures_that_exist() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
