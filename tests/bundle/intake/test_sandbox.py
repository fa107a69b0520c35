"""What the decoding process may say, and what becomes of it when it says anything else."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import as_file
from bundle.core.messages import REMEDIES
from bundle.intake import STATUS, Intake, IntakeError

PNG = as_file(np.eye(8))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "scan.png").write_bytes(PNG)
    return tmp_path / "scan.png"


@pytest.fixture
def intake() -> Iterator[Intake]:
    """A door whose process starts with the first scan."""
    intake = Intake()
    yield intake
    intake.close()


def head(**changes: object) -> bytes:
    """The line before the array of one pixel."""
    meta = {"affine": np.eye(4).tolist(), "original_channel_dim": 0, "space": "RAS"}
    return json.dumps({"shape": [1, 1, 1, 1], "meta": meta, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "said",
    [
        b"soon\n",
        b"1.0\n" + b"[" * 60000,
        b"1.0\n" + head(code="damaged", reason="of another file", file=1),
        b"1.0\n" + head(code="damaged", reason="of no file", file=float("inf")),
        b"1.0\n" + head(shape=[float("inf"), 1, 1, 1]),
        b"1.0\n" + head(shape=[2**40, 1, 1, 1]),
        b"1.0\n" + head(meta={}) + bytes(4),
        b"1.0\n" + head(meta={"affine": "none"}) + bytes(4),
        b"1.0\n" + head() + bytes(3),
    ],
    ids=["clock", "deep", "file", "no number", "endless", "huge", "no affine", "words", "cut"],
)
def test_invalid_output_of_the_process_is_an_error(
    said: bytes, intake: Intake, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(intake._sandbox, "_hand_over", lambda kind: ours)
    with theirs:
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(IntakeError) as refused:
            intake.read(picture)
    assert refused.value.code == "worker_died"
    assert str(refused.value) == f"{picture}: the decoding process ended unexpectedly; try again"


def test_an_empty_list_of_files_is_refused(intake: Intake) -> None:
    with pytest.raises(IntakeError, match="no file was given"):
        intake.read([])


def test_a_process_that_does_not_start_says_why(
    intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('numpy is broken here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(IntakeError, match="the decoding process does not start"):
        intake.read(PNG)
    assert "ImportError: numpy is broken here" in capfd.readouterr().err


def test_a_working_process_prints_nothing(
    intake: Intake, picture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not of what it decodes either: a warning may hold a part of it."""
    (tmp_path / "cut.png").write_bytes(PNG[:-20])
    assert intake.read(picture).shape == (1, 8, 8, 1)
    with pytest.raises(IntakeError, match="cut short"):
        intake.read(tmp_path / "cut.png")
    intake.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("code", sorted(STATUS))
def test_every_refusal_has_a_remedy(code: str) -> None:
    error = IntakeError(code, "this is wrong", "scan.png")
    assert str(error) == f"scan.png: this is wrong; {REMEDIES[code]}" and error.reason == "this is wrong"
    assert str(IntakeError(code, "this is wrong; do that")) == "this is wrong; do that"
