"""Freed memory is kept for the next pass, where the C library can."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from bundle import allocation

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, sys
import numpy as np
from bundle.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(8):
    np.ones(2**23)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_system_is_not_asked_again_for_the_memory_of_a_pass() -> None:
    def faults(how: str) -> int:
        words = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 0.2 * faults("leave")


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        pass

    monkeypatch.setattr(allocation.ctypes, "CDLL", lambda name: Library())
    allocation.keep_freed_memory()
