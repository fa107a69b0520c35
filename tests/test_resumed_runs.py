"""A run ends with the same weights, whatever happens to it; five of each kind. `nox -s survive` has many of each."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.survival.faults import (
    AtWrite,
    LimitedSize,
    damage,
    finish,
    kill_at_random,
    result,
    seconds_of,
    start,
)
from tests.survival.runs import toy


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, float]:
    """Hash of the weights of an uninterrupted run, and its seconds."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert finish(toy, folder, log=folder / "start.log") == 0  # the first start imports everything
    (folder / "model.pt").unlink()
    again = folder / "again"
    seconds = seconds_of(lambda: finish(toy, again, log=folder / "again.log"))
    return result(again), seconds


def resumed(folder: Path) -> str:
    """Hash of the weights after another start."""
    log = folder / "resumed.log"
    assert finish(toy, folder, log=log) == 0, log.read_text()
    return result(folder)


def test_five_kills_at_random_times(expected: tuple[str, float], tmp_path: Path) -> None:
    killed = 0
    for number in range(10):  # a run can end before it is killed, on a machine that was busy at first
        folder = tmp_path / str(number)
        folder.mkdir()
        killed += kill_at_random(toy, folder, log=tmp_path / "log", kills=5, within=expected[1], seed=number)
        assert resumed(folder) == expected[0]
        if killed:
            return
    assert killed


@pytest.mark.parametrize("k", range(41, 46))
def test_a_kill_inside_the_save(k: int, expected: tuple[str, float], tmp_path: Path) -> None:
    assert finish(toy, tmp_path, log=tmp_path / "log", trouble=AtWrite(k, kill=True)) == -signal.SIGKILL
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    assert resumed(tmp_path) == expected[0]


@pytest.mark.parametrize("k", [1, 12, 23, 34, 45])
def test_a_write_that_fails(k: int, expected: tuple[str, float], tmp_path: Path) -> None:
    assert finish(toy, tmp_path, log=tmp_path / "log", trouble=AtWrite(k)) == 2
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-1].startswith(f"error: {tmp_path}/") and "No space left on device; free some space" in lines[-1]
    assert resumed(tmp_path) == expected[0]


@pytest.mark.parametrize("size", [0, 100, 500, 1500, 3000])
def test_a_file_that_does_not_fit(size: int, expected: tuple[str, float], tmp_path: Path) -> None:
    assert finish(toy, tmp_path, log=tmp_path / "log", trouble=LimitedSize(size)) != 0
    assert not list(tmp_path.rglob("*.tmp")) and resumed(tmp_path) == expected[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_checkpoint(seed: int, expected: tuple[str, float], tmp_path: Path) -> None:
    finish(toy, tmp_path, log=tmp_path / "log", trouble=AtWrite(70, kill=True))
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    damage(newest, seed)
    assert resumed(tmp_path) == expected[0]
    assert f"{newest.name}: damaged or incomplete, resuming from" in (tmp_path / "resumed.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint_and_one_line(
    number: signal.Signals, expected: tuple[str, float], tmp_path: Path
) -> None:
    process = start(toy, tmp_path, 0.1, log=tmp_path / "log")
    while not list(tmp_path.rglob("epoch_*.pt")):
        time.sleep(0.02)
    os.kill(process.pid, number)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 128 + number and time.monotonic() - began < 5
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-1].startswith(f"{number.name}: saved after step ") and lines[-1].endswith(
        " of 15; run the same command again to resume"
    )
    assert resumed(tmp_path) == expected[0]


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    first = start(toy, tmp_path, 0.2, log=tmp_path / "first.log")
    while not (tmp_path / ".lock").exists():
        time.sleep(0.02)
    assert finish(toy, tmp_path, log=tmp_path / "log") == 2
    reason = "another run is active here, wait for it or choose another folder"
    assert (tmp_path / "log").read_text().splitlines()[-1] == f"error: {tmp_path}: {reason}"
    first.kill()
    first.join()
    assert finish(toy, tmp_path, log=tmp_path / "log") == 0
