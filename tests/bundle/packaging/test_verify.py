"""The packed bundle passes every check, and each fault is found by its check."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.cli import main
from bundle.manifest import read_json
from bundle.packaging.pack import pack
from bundle.packaging.verify import CHECKS, CheckError, verify

SLOW = ("training on random files",)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(tmp_path_factory.mktemp("dist"))[0]


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(packed, tmp_path / packed.name))


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    metadata = folder / "configs" / "metadata.json"
    content = read_json(metadata)
    change(content)
    metadata.write_text(json.dumps(content))


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in (*SLOW, "exact pins", "metadata schema")])
def test_the_packed_bundle_passes(name: str, packed: Path) -> None:
    CHECKS[name](packed, None)


@pytest.mark.parametrize(
    ("check", "change", "reason"),
    [
        ("structure", lambda folder: (folder / "LICENSE").unlink(), "missing: LICENSE"),
        ("structure", lambda folder: (folder / "models" / "model.pt").unlink(), "missing: weights, or large_files.yml"),
        (
            "structure",
            lambda folder: (folder / "docs" / "README.md").write_text("# Overview\n"),
            "no section about data",
        ),
        (
            "structure",
            lambda folder: (folder / "scripts" / "core" / "files.py").write_text('PLACE = "/home/somebody/data"\n'),
            "scripts/core/files.py: holds a path of a personal machine",
        ),
        (
            "version in changelog",
            lambda folder: edit(folder, lambda content: content.update(version="9.9.9")),
            "version 9.9.9 is not in the changelog",
        ),
        (
            "exact pins",
            lambda folder: edit(folder, lambda content: content["required_packages_version"].update(itk=">=5.4")),
            "itk: '>=5.4' is not an exact version",
        ),
        (
            "exact pins",
            lambda folder: edit(folder, lambda content: content.update(monai_version="0.0.1")),
            "is installed here, the metadata names 0.0.1",
        ),
        (
            "inference on random files",
            lambda folder: edit(
                folder,
                lambda content: content["network_data_format"]["outputs"]["pred"].update(channel_def={"1": "tumor"}),
            ),
            "which are not in its channel_def",
        ),
    ],
)
def test_faults_are_found(check: str, change: Callable[[Path], object], reason: str, copy: Path) -> None:
    change(copy)
    with pytest.raises(CheckError, match=re.escape(reason)):
        CHECKS[check](copy, None)


def test_a_wrong_network_shape_is_found(copy: Path) -> None:
    edit(copy, lambda content: content["network_data_format"]["outputs"]["pred"].update(num_channels=3))
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `3`"):
        CHECKS["network in and out"](copy, None)


def test_all_checks_run_and_skipped_ones_give_a_reason(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, schema: Path | None) -> None:
        raise ValueError("for this reason")

    monkeypatch.setattr(
        "bundle.packaging.verify.CHECKS", {"a": fail, "metadata schema": CHECKS["metadata schema"], "c": fail}
    )
    results = list(verify(copy))
    assert [result.passed for result in results] == [False, None, False]
    assert results[0].reason == "for this reason" and "--schema" in results[1].reason


def test_the_command_fails_when_a_check_fails(copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "bundle.packaging.verify.CHECKS", {name: CHECKS[name] for name in ("structure", "version in changelog")}
    )
    assert main(["verify", str(copy)]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["pass", "structure"]
    (copy / "LICENSE").unlink()
    assert main(["verify", str(copy)]) == 2
    assert "FAIL      structure: missing: LICENSE" in capsys.readouterr().out


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    output = capsys.readouterr()
    assert output.err == f"error: {tmp_path / 'nothing'}: no such folder\n" and not output.out


@pytest.mark.session
def test_it_trains_on_random_files(packed: Path) -> None:
    CHECKS["training on random files"](packed, None)
