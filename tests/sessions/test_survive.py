"""Kills, failing writes, full disks and damaged checkpoints: every run ends with the weights of an uninterrupted one.

`BUNDLE_SURVIVE_PART=2/4` runs the second quarter of the repetitions.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.core.files import sha256_of
from tests.survival.faults import AtWrite, damage, finish, kill_at_random, result, seconds_of
from tests.survival.runs import pipeline, preprocessing, training, write_data

pytestmark = [pytest.mark.session, pytest.mark.timeout(1800)]

PART, PARTS = map(int, os.environ.get("BUNDLE_SURVIVE_PART", "1/1").split("/"))
PIPELINES, KILLS = 3, 10  # kills of each
RESULTS = ("models/model.pt", "stage1/model.pt", "stage2/model.pt", "evaluation/predictions.json", "data/splits.json")


def part(repetitions: range) -> range:
    """The repetitions of this part."""
    return repetitions[PART - 1 :: PARTS]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    assert finish(preprocessing, folder, data, log=folder / "log") == 0, (folder / "log").read_text()
    return folder / "data"


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert finish(training, folder, store, log=folder / "log") == 0, (folder / "log").read_text()
    return folder


def resumed(folder: Path, store: Path) -> str:
    """Hash of a training's weights after another start."""
    log = folder.with_name(f"{folder.name}.log")
    assert finish(training, folder, store, log=log) == 0, log.read_text()
    return result(folder)


@pytest.mark.parametrize("seed", part(range(PIPELINES)))
def test_a_pipeline_that_is_killed_at_random_times(
    seed: int, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, killed = (tmp_path_factory.mktemp(name) for name in ("whole", "killed"))
    log, kills = killed.with_name(f"{killed.name}.log"), 0  # a pipeline refuses a folder with files of others
    seconds = seconds_of(lambda: finish(pipeline, whole, data, log=whole.with_name(f"{whole.name}.log")))
    assert (whole / "models" / "model.pt").is_file()
    while kills < KILLS:
        kills += kill_at_random(
            pipeline, killed, data, log=log, kills=KILLS - kills, within=0.6 * seconds, seed=seed + kills
        )
        if kills < KILLS:  # finished before
            shutil.rmtree(killed)
            killed.mkdir()
    assert finish(pipeline, killed, data, log=log) == 0, log.read_text()
    assert [sha256_of(killed / name) for name in RESULTS] == [sha256_of(whole / name) for name in RESULTS]
    assert not list(killed.rglob(".*.tmp")) and not list(killed.rglob(".writing-*"))
    print(f"{kills} kills")


@pytest.mark.parametrize("k", part(range(41, 51)))
def test_a_kill_inside_the_save(k: int, store: Path, trained: Path, tmp_path: Path) -> None:
    trouble = AtWrite(k, kill=True)
    assert finish(training, tmp_path / "run", store, log=tmp_path / "log", trouble=trouble) == -signal.SIGKILL
    assert resumed(tmp_path / "run", store) == result(trained)


@pytest.mark.parametrize("k", part(range(1, 41)))
def test_a_write_that_fails(k: int, store: Path, trained: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert finish(training, tmp_path / "run", store, log=log, trouble=AtWrite(k)) == 2, log.read_text()
    told = log.read_text()
    last = told.splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/run/") and last.endswith(
        "free some space, then run the same command again"
    )
    assert "Traceback" not in told and resumed(tmp_path / "run", store) == result(trained)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of this size, in bytes, at a folder."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs more rights")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("twelfth", part(range(12)))
def test_a_disk_that_is_full(twelfth: int, store: Path, trained: Path, tmp_path: Path) -> None:
    needed = sum(path.stat().st_size for path in trained.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", 4096 * (4 + twelfth * needed // 12 // 4096)):
        folder, log = tmp_path / "disk" / "run", tmp_path / "log"
        assert finish(training, folder, store, log=log) == 2, log.read_text()
        told = log.read_text()
        assert "free some space, then run the same command again" in told.splitlines()[-1] and "Traceback" not in told
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "disk")], check=True)
        assert resumed(folder, store) == result(trained)


@pytest.mark.parametrize("seed", part(range(24)))
def test_a_damaged_checkpoint(seed: int, store: Path, trained: Path, tmp_path: Path) -> None:
    trouble = AtWrite(41 + seed % 8, kill=True)
    finish(training, tmp_path / "run", store, log=tmp_path / "log", trouble=trouble)
    newest = sorted((tmp_path / "run" / "checkpoints").glob("epoch_*"))[-1 - seed // 2 % 2]  # it, or the hash beside it
    damage(newest, seed)
    assert resumed(tmp_path / "run", store) == result(trained)
