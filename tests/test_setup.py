"""The package's requirements: each written once, extras refer to each other, versions and hashes are locked; `make`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from configparser import ConfigParser
from functools import cache
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
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


HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


@cache
def in_file(name: str) -> dict[Requirement, list[str]]:
    """Requirements of one of the files of locked versions, with their hashes."""
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {Requirement(line.partition(" --hash")[0]): HASH.findall(line) for line in lines}


def locked(system: dict[str, str], *names: str) -> dict[str, str]:
    """Locked versions for a system, by name; of the files for developers if none is named."""
    found = [one for name in names or ("torch.txt", "dev.txt") for one in in_file(name)]
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


@pytest.mark.parametrize("name", ["torch.txt", "app.txt", "dev.txt"])
def test_every_locked_version_has_its_hashes(name: str) -> None:
    """pip then installs nothing else; no address of an index is in the file."""
    found = in_file(name)
    assert found and all(hashes and str(one.specifier).startswith("==") for one, hashes in found.items())
    text = (ROOT / "requirements" / name).read_text()
    assert text.count("--hash=") == sum(map(len, found.values())) and "://" not in text


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: f"{system['sys_platform']}-{system['python_version']}")
def test_the_container_gets_all_that_the_application_requires(system: dict[str, str]) -> None:
    """In the versions that developers have, without CUDA beside PyTorch's CPU build, and what builds the bundle."""
    name, always, extras = requirements()
    versions, developers = locked(system, "torch.txt", "app.txt"), locked(system)
    assert versions.items() <= developers.items()
    for wanted in (*always, *extras["dicom"], *extras["app"], Requirement("setuptools>=77")):
        if wanted.name != name and (wanted.marker is None or wanted.marker.evaluate(system)):
            assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), f"{wanted}: make lock"
    apart = {canonicalize_name(one.name) for one in in_file("torch.txt")}
    assert apart >= {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"}
    assert not apart & {canonicalize_name(one.name) for file in ("app.txt", "dev.txt") for one in in_file(file)}


def test_what_is_installed_for_the_application_is_closed() -> None:
    """Of what is installed here: each locked package's requirements are locked too, so pip asks for nothing else."""
    system = next(one for one in SYSTEMS if one["python_version"] == "3.11" and one["sys_platform"] == sys.platform)
    versions = locked(system, "torch.txt", "app.txt")
    here = {**default_environment(), "extra": ""}
    for name in versions:
        for text in requires(name) or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate(here):
                assert canonicalize_name(wanted.name) in versions, f"{name} requires {wanted}: make lock"


def setup(tmp_path: Path, gpu: bool, cpu_build: bool, target: str) -> tuple[list[str], str]:
    """What a target asks pip for, with a pip that only notes it, and what it prints."""
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
    here = [f"{name}={tmp_path / 'venv'}" for name in ("VENV", "APP")]
    command = ["make", "--no-print-directory", *here, "PYTHON=true", target]
    environment = {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = log.read_text().splitlines()
    if target == "setup":
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        assert log.read_text().splitlines() == asked, "a second setup does nothing"
    return asked, done.stdout


@pytest.mark.parametrize(("target", "file"), [("setup", "dev.txt"), ("install", "app.txt")])
@pytest.mark.parametrize(("gpu", "cpu_build"), [(True, True), (False, True), (False, False)])
def test_everything_but_the_cpu_build_has_a_hash(
    tmp_path: Path, gpu: bool, cpu_build: bool, target: str, file: str
) -> None:
    """The CPU build is taken where there is no GPU; the bundle comes last and brings nothing with it."""
    asked, said = setup(tmp_path, gpu, cpu_build, target)
    with_cuda = gpu or not cpu_build
    *of_torch, packages, bundle = asked
    assert packages.endswith(f" --require-hashes --requirement requirements/{file}")
    assert bundle.endswith(" --no-deps --no-build-isolation --editable .")
    versions = [f"{name}=={locked(SYSTEMS[0])[name]}" for name in ("torch", "torchvision")]
    of_cpu = " ".join(["--index-url https://download.pytorch.org/whl/cpu", *versions])
    hashed = " --require-hashes --requirement requirements/torch.txt --no-deps"
    assert len(of_torch) == (not gpu) + with_cuda
    assert gpu or of_torch[0].endswith(of_cpu)
    assert not with_cuda or of_torch[-1].endswith(hashed)
    assert ("no CPU build at" in said) == with_cuda


def test_pin_writes_the_digest_of_the_base_image_and_replaces_it(tmp_path: Path) -> None:
    """With a docker that knows a digest for one name."""
    name, _, _ = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[0].partition("@")
    for file in ("Dockerfile", "Makefile"):
        shutil.copy(ROOT / file, tmp_path)
    docker, path = tmp_path / "docker", {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for digest in ("sha256:" + "0" * 64, "sha256:" + "1" * 64):
        docker.write_text(f'#!/bin/sh\ncase "$*" in *" {name}") echo {digest};; *) exit 1;; esac\n')
        docker.chmod(0o755)
        command = ["make", "--no-print-directory", "pin"]
        subprocess.run(command, cwd=tmp_path, env={**os.environ, **path}, check=True)
        assert f"FROM {name}@{digest}\n" in (tmp_path / "Dockerfile").read_text()
    docker.write_text("#!/bin/sh\nexit 1\n")
    before = (tmp_path / "Dockerfile").read_text()
    failed = subprocess.run(command, cwd=tmp_path, env={**os.environ, **path}, check=False)
    assert failed.returncode and (tmp_path / "Dockerfile").read_text() == before
