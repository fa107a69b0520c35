"""What the process that decodes a scan cannot do."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread

from bundle.arrays import as_file
from bundle.intake import Intake, IntakeError, MemoryFile, isolation
from bundle.intake.isolation import Isolation, missing
from tests.hostile.cases import head
from tests.hostile.dicoms import dicom

PNG = as_file(np.eye(8))
NEEDS_ALL = pytest.mark.skipif(bool(missing()), reason=f"this system does not cut off: {', '.join(missing())}")


def in_a_child(isolate: Isolation, work: Callable[[], object]) -> str:
    """What happens to some work in an isolated child."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        try:
            isolate.enter()
            found = f"did: {work()!a}"
        except BaseException as error:
            found = type(error).__name__
        os.write(theirs, found[:200].encode())
        os._exit(0)
    os.close(theirs)
    os.wait()
    with os.fdopen(ours) as reading:
        return reading.read()


@NEEDS_ALL
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tcp", "PermissionError"),
        ("udp", "PermissionError"),
        ("unix", "PermissionError"),
        ("write", "PermissionError"),
        ("remove", "PermissionError"),
        ("read of a user", "PermissionError"),
        ("read of another process", "PermissionError"),
        ("program", "PermissionError"),
        ("unnamed scan", "did: b'scan'"),
        ("own code", "did: True"),
    ],
)
def test_a_child_reads_its_scan_and_nothing_else(name: str, found: str, tmp_path: Path) -> None:
    secret, scan = tmp_path / "secret.txt", MemoryFile(b"scan")
    secret.write_text("secret")
    work: dict[str, Callable[[], object]] = {
        "tcp": lambda: socket.create_connection(("127.0.0.1", 9)),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "write": lambda: (tmp_path / "new").write_text("x"),
        "remove": secret.unlink,
        "read of a user": secret.read_text,
        "read of another process": Path(f"/proc/{os.getpid()}/environ").read_bytes,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "unnamed scan": lambda: Path(f"/proc/self/fd/{scan.descriptor}").read_bytes(),
        "own code": lambda: bool(Path(isolation.__file__).read_text()),
    }
    assert in_a_child(Isolation([Path(isolation.__file__).parent]), work[name]) == found
    assert secret.read_text() == "secret"


def test_what_a_system_lacks_is_said_and_decoding_works_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_landlock", lambda: None)
    assert len(missing()) >= 1 and "no Landlock" in missing()[0]
    monkeypatch.setattr(isolation, "_seccomp", lambda: None)
    assert len(missing()) == 2 and "no libseccomp" in missing()[1]
    assert in_a_child(Isolation([]), lambda: 7) == "did: 7"


def workers() -> list[psutil.Process]:
    """Decoding processes of this process, with all their children."""
    return [
        process for process in psutil.Process().children(recursive=True) if "bundle.intake.worker" in _line(process)
    ]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_after_all_are_killed_the_next_scan_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNDLE_TOKEN", "not for a decoding process")
    with Intake() as intake:
        assert intake.read(PNG).shape == (1, 8, 8, 1)
        found = workers()
        assert found and all("BUNDLE_TOKEN" not in process.environ() for process in found)
        for process in found:
            process.kill()
        began = time.monotonic()
        assert intake.read(PNG).shape == (1, 8, 8, 1)
        seconds = sum(sum(process.cpu_times()[:2]) for process in workers()[:1])
        print(f"after all were killed: {time.monotonic() - began:.1f} s, {seconds:.1f} s of them computing")
        assert seconds < 5


def test_a_dicom_seg_is_made_in_a_process_and_says_nothing_of_the_file() -> None:
    """Values that highdicom or pydicom would repeat."""
    model, mask = {"version": "1", "sha256": "0" * 64}, np.zeros((160, 160, 1), dtype=np.uint8)
    mask[40:60, 40:60] = 1
    plane = head(160, 160).astype(np.uint16)
    good = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    with Intake() as intake:
        content = intake.segment(dicom(plane, **good), mask, model)
        again = intake.segment(MemoryFile(dicom(plane, **good)), mask, model)
        assert dcmread(BytesIO(content)).SOPInstanceUID == dcmread(BytesIO(again)).SOPInstanceUID
        for bad in (
            {"StudyInstanceUID": "CNRY7.1"},
            {"PatientSex": "CNRY7"},
            {"PatientBirthDate": "CNRY7"},
            {"StudyDate": "CNRY7"},
            {"FrameOfReferenceUID": ""},
        ):
            try:
                intake.segment(dicom(plane, **good | bad), mask, model)
            except IntakeError as refused:
                text = json.dumps([str(refused), refused.reason, refused.code])
                assert "CNRY7" not in text and "\n" not in text
        with pytest.raises(IntakeError) as refused:
            intake.segment(b"no DICOM at all", mask, model)
        assert refused.value.code in ("damaged", "unsupported")
