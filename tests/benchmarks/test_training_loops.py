from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import training
from benchmarks.clock import Measured
from benchmarks.comparison import MissingError
from benchmarks.material import Material


def test_a_worker_is_compared_by_the_clock_on_the_wall() -> None:
    fixed, loop = Measured(cpu=[1.0, 1.0], wall=[3.0, 2.0]), Measured(cpu=[9.0, 9.0], wall=[4.0, 2.0])
    assert training.wall_ratios(fixed, loop) == [0.75, 1.0]


def test_a_worker_needs_another_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(MissingError, match="one core"):
        training.epoch(Material(tmp_path), fixed=False, workers=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="needs two cores")
def test_processes_started_in_the_block_have_all_cores_and_this_one_has_its_own_again() -> None:
    asked = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with training.on_cores({0, 1}):
            inside = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert int(inside) >= 2 and os.sched_getaffinity(0) == {min(before)}
    finally:
        os.sched_setaffinity(0, before)
