"""The package's requirements: each written once, extras refer to each other, versions are locked; `make setup`."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PARTIAL = {"all", "dev"}  # extras that take others together
OF_DEVELOPERS = {"docs"}  # extras that only developers need


def requirements() -> tuple[str, list[Requirement], dict[str, list[Requirement]]]:
    """Name of the package, what it always needs, and its extras."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")

    def parsed(text: str) -> list[Requirement]:
        return [Requirement(line) for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]

    extras = {name: parsed(text) for name, text in config["options.extras_require"].items()}
    return config["metadata"]["name"], parsed(config["options"]["install_requires"]), extras


def test_no_requirement_is_listed_twice() -> None:
    name, always, extras = requirements()
    written = [requirement.name for part in (always, *extras.values()) for requirement in part]
    assert not {found: n for found, n in Counter(written).items() if n > 1 and found != name}


def test_all_takes_every_extra_and_dev_takes_all() -> None:
    name, _, extras = requirements()
    taken = {
        extra: {part for found in extras[extra] if found.name == name for part in found.extras} for extra in extras
    }
    assert taken["all"] == extras.keys() - PARTIAL - OF_DEVELOPERS and taken["dev"] == {"all"} | OF_DEVELOPERS
    assert all(parts <= extras.keys() for parts in taken.values())


SYSTEMS = [
    {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": system, "platform_system": name}
    for python in ("3.11", "3.12", "3.13")
    for system, name in (("linux", "Linux"), ("darwin", "Darwin"))
]


def locked(system: dict[str, str]) -> dict[str, str]:
    """Versions in the constraints file for a system, by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    mine = [one for one in found if one.marker is None or one.marker.evaluate(system)]
    versions = {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in mine}
    assert len(versions) == len(mine), "a package has two versions"
    return versions


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system['sys_platform']}-{system['python_version']}")
def test_every_requirement_has_one_locked_version_that_it_allows(system: dict[str, str]) -> None:
    name, always, extras = requirements()
    versions = locked(system)
    for wanted in (*always, *(one for extra in extras.values() for one in extra)):
        if wanted.name != name and (wanted.marker is None or wanted.marker.evaluate(system)):
            assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{wanted}: make lock"


def setup(tmp_path: Path, gpu: bool, cpu_build: bool) -> tuple[list[str], str]:
    """What `make setup` asks pip for, with a pip that only notes it, and what it prints."""
    log, bin = tmp_path / "log", tmp_path / "venv" / "bin"
    bin.mkdir(parents=True)
    refuse = "" if cpu_build else 'case "$*" in *--index-url*) exit 1;; esac\n'
    for path, text in (
        (bin / "python", f'echo "$*" >> {log}\n{refuse}'),
        (bin / "nvidia-smi", f"exit {0 if gpu else 1}\n"),
        (bin / "uname", "echo Linux\n"),
    ):
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    command = ["make", "--no-print-directory", f"VENV={tmp_path / 'venv'}", "setup"]
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = log.read_text().splitlines()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert log.read_text().splitlines() == asked, "a second setup does nothing"
    return asked, done.stdout


@pytest.mark.parametrize(("gpu", "cpu_build"), [(True, True), (False, True), (False, False)])
def test_setup_takes_the_cpu_build_where_there_is_no_gpu(tmp_path: Path, gpu: bool, cpu_build: bool) -> None:
    asked, said = setup(tmp_path, gpu, cpu_build)
    assert asked[-1].endswith("--constraint constraints.txt --editable .[dev]")
    of_torch = [line for line in asked if "--index-url" in line]
    assert len(of_torch) == (0 if gpu else 1) and len(asked) == len(of_torch) + 1
    assert all(line.endswith("download.pytorch.org/whl/cpu torch torchvision") for line in of_torch)
    assert ("no CPU build of PyTorch" in said) == (not cpu_build)
