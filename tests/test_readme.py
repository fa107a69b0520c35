"""All commands and Python code of the README and of four other pages run, in their order, in a copy of the bundle.

Of commands that take hours, never end or need other weights, only the options are parsed.
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

from bundle.command_line.cli import main, parser
from bundle.pictures.views import scan_line
from bundle.workflows.presets import PRESETS
from scripts.core.messages import FLAGS, flag

ROOT = Path(__file__).resolve().parent.parent
MAKE_TARGETS = {"setup", "demo", "docs", "lint", "test"}
PAGES = (
    "README.md",
    "docs/how-to/training.md",
    "docs/how-to/evaluation.md",
    "docs/reference/predictions.md",
    "AGENTS.md",
)
TEXT = "\n".join((ROOT / page).read_text() for page in PAGES)
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = [body for language, body in FENCED if language == "python"]
BLOCKS = [body for language, body in FENCED if not language]  # of the shell
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = list(dict.fromkeys(LINES))
INLINE = re.findall(r"`((?:python|make) [^`]*)`", TEXT)
SHORT = {"max_epochs": 1, "samples_per_epoch": 16}
FEWER = {"320": "32"}  # synthetic images, of which the types of tumors need many
LONG = {
    "crossvalidate",
    "ablate",
    "finetune",
    "report",
    "pipeline",
    "robustness",
    "subsets",
}  # hours; short ones: other tests
ENDLESS = {"serve", "ui", "health"}  # until they are stopped, or needs one that runs; other tests run them
IN_THE_BUNDLE = {"export", "pack"}  # write files beside the weights, or need them; tests/bundle runs them


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, synthetic: Path, unseen: Path, pipeline_run: Path) -> Path:
    """A user's folder: the bundle, data folders, a finished run and some scans."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("configs", "scripts"):
        shutil.copytree(ROOT / name, folder / name)
    data = {"VOLUMES": synthetic / "brats", "IMAGES": synthetic / "kaggle", "RUN": pipeline_run}
    data |= {"NEW_VOLUMES": unseen / "brats", "NEW_IMAGES": unseen / "kaggle"}
    for name, source in data.items():
        (folder / name).symlink_to(source)
    (folder / "CASE").symlink_to(synthetic / "brats" / "PHANTOM_001")
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
def test_commands_run(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [FEWER.get(word, word) for word in shlex.split(command)]
    if words[0] == "make":
        assert words[1] in MAKE_TARGETS and re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    monkeypatch.chdir(place)
    if words[:4] == ["python", "-m", "monai.bundle", "run"]:
        monai_run(words[4:])
    elif "pipeline" in words and {"--images", "--volumes", "--preset"} <= set(words):
        monkeypatch.setitem(PRESETS, "quick", {s: SHORT for s in ("stage1", "stage2", "stage3")})
        output = "RUN_OF_TYPES" if "--tumor-types" in words else "RUN2"
        assert main([*words[3:], "--output", output]) == 0
    elif words[3] in LONG | ENDLESS | IN_THE_BUNDLE:
        assert parser().parse_args(words[3:]).command == words[3]
    else:
        assert words[:3] == ["python", "-m", "bundle"]
        shutil.rmtree("PREDICTIONS", ignore_errors=True)  # of other weights
        assert main(words[3:]) == 0


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_code_runs(block: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    shutil.copy(next(Path("SCANS").iterdir()), "scan.nii.gz")
    found: dict[str, Any] = {}
    exec(block, found)  # the page's own code
    prediction = found["prediction"]
    assert 0.0 <= prediction["result"]["tumor_probability"] <= 1.0
    assert prediction["pred"].shape == prediction["cam"].shape and prediction["pred"].ndim == 4


@pytest.mark.parametrize("command", INLINE)
def test_commands_within_the_text_are_valid(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        assert words[1] in MAKE_TARGETS
    elif words[2] == "bundle":
        assert parser().parse_args(words[3:]).command == words[3]


def test_the_readme_shows_the_lines_of_predict() -> None:
    (block,) = re.findall(r"^```text\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    far = {"state": "no_tumor", "tumor_probability": 0.08, "flags": [flag("out_of_distribution")]}
    near = {"state": "tumor", "tumor_probability": 0.98, "volume_ml": 18.7, "flags": []}
    width = len("patient_1_flair")
    assert block.splitlines() == [scan_line("patient_1_flair", near, width), scan_line("x", far, width)]


def test_the_readme_is_short_and_shows_an_image() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160 and "![" in text


def test_all_flags_are_documented() -> None:
    page = (ROOT / "docs" / "reference" / "predictions.md").read_text()
    assert all(f"| `{code}` | {text} |" in page for code, text in FLAGS.items())
