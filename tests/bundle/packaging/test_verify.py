"""The packed bundle passes every check, and each fault is found by its check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundle.command_line.cli import main
from bundle.loading import BUNDLE_ROOT, suppress_monai_warnings
from bundle.manifest import read_json
from bundle.packaging.pack import pack
from bundle.packaging.static_checks import NAMESPACE, SIGNATURE, CheckError, CheckSkipped, Given
from bundle.packaging.verify import CHECKS, CODE_CHECKS, NOT_ASKED, verify

SLOW = ("training on random files",)
NEED_MORE = ("exact pins", "metadata schema", "signature", "model signature")


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


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in (*SLOW, *NEED_MORE)])
def test_the_packed_bundle_passes(name: str, packed: Path) -> None:
    CHECKS[name](packed, Given())


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
        CHECKS[check](copy, Given())


def test_a_wrong_network_shape_is_found(copy: Path) -> None:
    edit(copy, lambda content: content["network_data_format"]["outputs"]["pred"].update(num_channels=3))
    with pytest.raises(ValueError, match="output channel number `2` doesn't match: `3`"):
        CHECKS["network in and out"](copy, Given())


def test_all_checks_run_and_skipped_ones_give_a_reason(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, given: Given) -> None:
        raise ValueError("for this reason")

    monkeypatch.setattr(
        "bundle.packaging.verify.STATIC_CHECKS", {"a": fail, "metadata schema": CHECKS["metadata schema"]}
    )
    monkeypatch.setattr("bundle.packaging.verify.CODE_CHECKS", {"c": fail})
    results = list(verify(copy))
    assert [result.passed for result in results] == [False, None, None]
    assert results[0].reason == "for this reason" and "--schema" in results[1].reason
    assert results[2].reason == NOT_ASKED
    assert "a check before failed" in list(verify(copy, run_code=True))[2].reason


MARK = "import pathlib\npathlib.Path({mark!r}).touch()\n"


def test_without_being_asked_nothing_of_the_folder_is_run(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its Python, nor an expression in a config; and asked, not before the folder is as it was packed."""
    mark = tmp_path / "was here"
    for name in ("scripts/__init__.py", "scripts/core/__init__.py", "scripts/networks/__init__.py"):
        path = copy / name
        path.write_text(path.read_text() + MARK.format(mark=str(mark)))
    config = copy / "configs" / "inference.yaml"
    config.write_text(f"imports: [\"$open('{mark}', 'w')\"]\n" + config.read_text())
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert main(["verify", str(copy)]) == 2
    output = capsys.readouterr().out
    assert not mark.exists() and "was changed after the folder was packed" in output
    assert output.count(NOT_ASKED) == len(CODE_CHECKS)
    assert main(["verify", "--run-code", str(copy)]) == 2 and not mark.exists()
    output = capsys.readouterr()
    assert "its code is run here, with your rights" in output.err and "its code is not run" in output.out


def test_asked_the_code_is_run_after_all_other_checks(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundle.packaging.verify.CODE_CHECKS", {"properties": CHECKS["properties"]})
    assert list(verify(copy, run_code=True))[-1].passed


@pytest.mark.parametrize("foreign", [True, False])
def test_of_a_foreign_folder_the_warning_of_monai_is_shown(foreign: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with suppress_monai_warnings(tmp_path if foreign else BUNDLE_ROOT):
            warnings.warn("parsing config_file: any value can be code", UserWarning, stacklevel=1)
    assert bool(shown) is foreign


def test_help_says_what_runs_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["verify", "--help"])
    assert "only if you trust its author" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "LICENSE").write_text("mine"), "LICENSE: is missing, or was changed"),
        (lambda folder: (folder / "scripts" / "more.py").write_text(""), "scripts/more.py: is not in sha256sums.txt"),
        (lambda folder: (folder / "sha256sums.txt").write_text("x"), "a line is no hash with a name"),
        (
            lambda folder: (folder / "sha256sums.txt").write_text(f"{'0' * 64}  ../../etc/hosts\n"),
            "names a file outside the folder",
        ),
    ],
    ids=["changed", "added", "no hash", "outside"],
)
def test_changes_after_packing_are_found(change: Callable[[Path], object], reason: str, copy: Path) -> None:
    change(copy)
    with pytest.raises(CheckError, match=re.escape(reason)):
        CHECKS["hashes"](copy, Given())


def test_links_and_broken_files_are_found(copy: Path) -> None:
    (copy / "docs" / "more.md").symlink_to("/etc/hosts")
    with pytest.raises(CheckError, match=r"docs/more\.md: a link"):
        CHECKS["files can be parsed"](copy, Given())
    (copy / "docs" / "more.md").unlink()
    (copy / "scripts" / "more.py").write_text("def")
    with pytest.raises(CheckError, match=r"scripts/more\.py: cannot be parsed"):
        CHECKS["files can be parsed"](copy, Given())


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
def test_a_signature_is_checked_against_accepted_keys(copy: Path, tmp_path: Path) -> None:
    signers, check = tmp_path / "signers", CHECKS["signature"]
    with pytest.raises(CheckSkipped):
        check(copy, Given())
    for name in ("key", "other"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name))
    signers.write_text(f"us@here.example {(tmp_path / 'key.pub').read_text()}")
    with pytest.raises(CheckError, match="nobody signed"):
        check(copy, Given(signers=signers))
    run("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(tmp_path / "key"), str(copy / "sha256sums.txt"))
    assert (copy / SIGNATURE).is_file()
    CHECKS["hashes"](copy, Given())
    check(copy, Given(signers=signers))
    with pytest.raises(CheckSkipped, match="--signers"):
        check(copy, Given())
    (copy / "sha256sums.txt").write_text((copy / "sha256sums.txt").read_text() + "\n")
    with pytest.raises(CheckError, match="not by an accepted key"):
        check(copy, Given(signers=signers))
    signers.write_text(f"us@here.example {(tmp_path / 'other.pub').read_text()}")
    with pytest.raises(CheckError, match="not by an accepted key"):
        check(copy, Given(signers=signers))


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def test_the_command_fails_when_a_check_fails(copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(
        "bundle.packaging.verify.STATIC_CHECKS", {name: CHECKS[name] for name in ("structure", "version in changelog")}
    )
    assert main(["verify", str(copy)]) == 0
    assert capsys.readouterr().out.split("\n")[0].split() == ["pass", "structure"]
    (copy / "LICENSE").unlink()
    assert main(["verify", str(copy)]) == 2
    assert "FAIL      structure: missing: LICENSE" in capsys.readouterr().out


def test_a_missing_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    output = capsys.readouterr()
    told = f"error: {tmp_path / 'nothing'}: no such folder; name one that `pack` wrote\n"
    assert output.err == told and not output.out


@pytest.mark.session
def test_it_trains_on_random_files(packed: Path) -> None:
    CHECKS["training on random files"](packed, Given())
