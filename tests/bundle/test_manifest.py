"""What a step costs, also when it was stopped in between."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bundle.command_line.cli import main
from bundle.errors import UserError
from bundle.manifest import Manifest, lock_folder, read_json, require_no_other_results
from bundle.workflows.pipeline import run_pipeline
from bundle.workflows.plans import Plan, Variant
from bundle.workflows.run_plan import release_reference, run_plan
from scripts.core.files import write_json

ROOT = Path(__file__).resolve().parents[2]


def work_until_killed(output: Path, seconds: float) -> None:
    """One attempt that leaves a checkpoint `seconds` after it began, and dies without a word."""

    def attempt() -> None:
        checkpoint = output / "stage1" / "checkpoint"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        os.utime(checkpoint, (time.time() + seconds,) * 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Manifest(output, {}).step("stage1", attempt, makes=["model.pt"])


def cost(output: Path) -> float:
    return float(read_json(output / "manifest.json")["steps"]["stage1"]["seconds"])


def finish(output: Path) -> None:
    (output / "stage1").mkdir(exist_ok=True)
    (output / "stage1" / "model.pt").write_bytes(b"weights")


@contextmanager
def another_run(output: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a folder of results."""
    code = "import pathlib, sys; from bundle.manifest import lock_folder\n"
    code += f"with lock_folder(pathlib.Path({str(output)!r})):"
    code += " print('here', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None and other.stdout.readline() == "here\n"
        try:
            yield other
        finally:
            other.kill()


def test_a_second_run_in_one_folder_is_refused_while_the_first_is_active(tmp_path: Path) -> None:
    output, images = tmp_path / "out", tmp_path / "images"
    images.mkdir()
    plan = Plan(3, {}, {"a": {"overlays": [], "settings": {}}}, {"recipe": Variant(("a",), 1, "")})
    (output / "report.json").parent.mkdir()
    (output / "report.json").write_text("{}")
    runs: list[Callable[[], object]] = [
        lambda: run_plan(plan, output, None, [str(images)]),
        lambda: release_reference(plan, output, tmp_path / "models"),
        lambda: run_pipeline(output, images, [str(images)]),
    ]
    with another_run(output) as other:
        for run in runs:
            with pytest.raises(ValueError, match=r"out: another run is active here, wait for it or choose another"):
                run()
        with lock_folder(tmp_path / "elsewhere"):
            pass
        other.kill()
        other.wait()
        with lock_folder(output):
            pass


COMMANDS = {
    "demo": ["demo"],
    "finetune": ["finetune", "DATA"],
    "pipeline": ["pipeline", "--images", "DATA"],
    "crossvalidate": ["crossvalidate", "--images", "DATA"],
    "ablate": ["ablate", "--images", "DATA"],
    "evaluate": ["evaluate", "--images", "DATA"],
    "audit": ["audit", "--images", "DATA"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("held", ["index.json", "manifest.json"])
def test_a_folder_with_other_results_is_refused_and_left_as_it_was(
    command: str, held: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    output = tmp_path / "out"
    write_json(output / held, {"settings": {"preset": "quick"}, "steps": {}})
    arguments = [str(tmp_path / "data") if word == "DATA" else word for word in COMMANDS[command]]
    assert main([*arguments, "--output", str(output)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {output}: holds ") and line.endswith("choose another folder")
    assert [path.name for path in output.iterdir()] == [held]


def test_a_run_goes_on_where_its_split_or_its_phantoms_wait(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "phantoms").mkdir()
    (tmp_path / ".lock").touch()
    Manifest(tmp_path, {})
    require_no_other_results(tmp_path, ["data", "phantoms"])
    with pytest.raises(UserError, match="holds other files, such as data"):
        require_no_other_results(tmp_path)


def test_a_file_system_without_locks_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with lock_folder(tmp_path):
        pass


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and read_json(tmp_path / "a.json") == {"old": 1}


def test_time_of_killed_runs_is_counted(tmp_path: Path) -> None:
    for _ in range(2):
        work_until_killed(tmp_path, 100)
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    assert 200 <= cost(tmp_path) < 210


def test_time_of_repeated_steps_is_not_counted_twice(tmp_path: Path) -> None:
    work_until_killed(tmp_path, 100)
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    (tmp_path / "stage1" / "model.pt").unlink()
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    assert cost(tmp_path) < 10


def test_what_a_step_does_is_said_before_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"says": "train the segmentation, about 2 min on 1 core"}
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"], **said)
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"], **said)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["stage1: train the segmentation, about 2 min on 1 core ...", "stage1: done before"]


def test_a_removed_setting_is_a_changed_setting(tmp_path: Path) -> None:
    Manifest(tmp_path, {"folds": 3, "image_folds": 5}).step("data", lambda: None)
    with pytest.raises(UserError, match="image_folds"):
        Manifest(tmp_path, {"folds": 3})
