"""What a step costs, also when it was stopped in between."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bundle.errors import UserError
from bundle.manifest import Manifest, alone_in, read_json


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


def test_a_second_run_in_one_folder_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        with pytest.raises(UserError, match="another run is at work here"), alone_in(tmp_path):
            pass
        with alone_in(tmp_path / "other"):
            pass
    with alone_in(tmp_path):
        pass


def test_time_of_killed_attempts_counts(tmp_path: Path) -> None:
    for _ in range(2):
        work_until_killed(tmp_path, 100)
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    assert 200 <= cost(tmp_path) < 210


def test_time_of_what_is_made_anew_does_not_count(tmp_path: Path) -> None:
    work_until_killed(tmp_path, 100)
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    (tmp_path / "stage1" / "model.pt").unlink()
    Manifest(tmp_path, {}).step("stage1", lambda: finish(tmp_path), makes=["model.pt"])
    assert cost(tmp_path) < 10


def test_a_setting_that_is_gone_is_another_setting(tmp_path: Path) -> None:
    Manifest(tmp_path, {"folds": 3, "image_folds": 5}).step("data", lambda: None)
    with pytest.raises(UserError, match="image_folds"):
        Manifest(tmp_path, {"folds": 3})
