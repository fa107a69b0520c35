"""DICOM files over DICOMweb: to Debian's Orthanc and back unchanged; each refusal is one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from hostile.dicoms import head, mr_dataset, written
from pydicom import dcmread

pytest.importorskip("dicomweb_client", reason="pip install -e '.[exchange]'")

from bundle.command_line.cli import main
from bundle.errors import UserError
from bundle.exchange.send import send
from scripts.dicom.segmentation import segmentation_of
from scripts.dicom.structure_set import structure_set_of
from scripts.dicom.structured_report import report_of
from tests.sessions.serving import free_port, running

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
GRAY = head(64, 56).astype(np.uint16)
MODEL = {"version": "1.2.3", "sha256": "ab" * 32}
REFERENCES = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `predict --dicom-seg --dicom-sr --rtstruct` writes it."""
    place = tmp_path_factory.mktemp("exchange")
    (place / "series").mkdir()
    for index in range(4):
        (place / "series" / f"{index}").write_bytes(written(mr_dataset(GRAY, position=index * 3.0, **REFERENCES)))
    mask = np.zeros((*GRAY.shape, 4))
    mask[20:30, 15:25, 1:3] = 1
    result = {"tumor_probability": 0.75, "threshold": 0.4, "state": "tumor", "volume_ml": 1.25, "model": MODEL}
    drawn = segmentation_of(place / "series", mask, MODEL)
    folder = place / "predictions"
    folder.mkdir()
    (folder / "x_seg.dcm").write_bytes(drawn)
    (folder / "x_sr.dcm").write_bytes(report_of(place / "series", drawn, result))
    (folder / "x_rtstruct.dcm").write_bytes(structure_set_of(place / "series", mask, MODEL))
    (folder / "x.json").write_text(json.dumps(result))
    kinds = {kind: f"x_{kind}.dcm" for kind in ("seg", "sr", "rtstruct")}
    scans = {"series": {"state": "tumor", "json": "x.json", **kinds}, "bad": {"error": "bad: no"}}
    (folder / "index.json").write_text(json.dumps({"schema_version": 1, "scans": scans}))
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's Orthanc, empty; the address of its DICOMweb service."""
    if not shutil.which("Orthanc") or not PLUGIN.is_file():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    place, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        **{"StorageDirectory": str(place), "IndexDirectory": str(place), "HttpPort": port, "DicomServerEnabled": False},
        **{"AuthenticationEnabled": False, "RemoteAccessAllowed": False, "Plugins": [str(PLUGIN)]},
    }
    (place / "orthanc.json").write_text(json.dumps(settings))
    address = f"http://127.0.0.1:{port}"
    with running(["Orthanc", str(place / "orthanc.json")], place, dict(os.environ), f"{address}/system"):
        yield address


@pytest.mark.session
def test_an_archive_has_the_files_as_they_were_sent(
    archive: str, predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", str(predictions), "--to", f"{archive}/dicom-web"]) == 0
    assert "3 files stored and read back unchanged" in capsys.readouterr().out
    stored = httpx2.get(f"{archive}/instances").json()
    assert len(stored) == 3
    by_kind = {}
    for name in stored:
        content = httpx2.get(f"{archive}/instances/{name}/file").content
        (predictions.parent / name).write_bytes(content)
        dataset = dcmread(predictions.parent / name)
        by_kind[dataset.Modality] = dataset
    assert by_kind.keys() == {"SEG", "SR", "RTSTRUCT"}
    for kind, file in {"SEG": "x_seg.dcm", "SR": "x_sr.dcm", "RTSTRUCT": "x_rtstruct.dcm"}.items():
        assert by_kind[kind] == dcmread(predictions / file)
    assert main(["send", str(predictions), "--to", f"{archive}/dicom-web"]) == 0  # again: they are there already


@pytest.mark.session
def test_an_address_without_dicomweb_is_refused(archive: str, predictions: Path) -> None:
    with pytest.raises(UserError, match=r"refused x_seg.dcm, HTTP status 404"):
        send(predictions, f"{archive}/nothing")


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="needs Debian's dicom3tools")
def test_a_validator_finds_no_error_in_what_is_sent(predictions: Path) -> None:
    for file in predictions.glob("*.dcm"):
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
        assert not [line for line in done.stderr.splitlines() if line.startswith("Error")], done.stderr


def test_an_archive_that_does_not_run_is_named(predictions: Path) -> None:
    with pytest.raises(UserError, match=r"^http://127\.0\.0\.1:\d+/x: cannot be reached; check the address"):
        send(predictions, f"http://127.0.0.1:{free_port()}/x")


def test_folders_and_addresses_that_cannot_be_used_are_refused(predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no predictions here"):
        send(tmp_path, "http://127.0.0.1:1/x")
    with pytest.raises(UserError, match="not the address of a DICOMweb service"):
        send(predictions, "archive:104")
    without = {"schema_version": 1, "scans": {"a": {"state": "tumor", "json": "a.json"}}}
    (tmp_path / "index.json").write_text(json.dumps(without))
    with pytest.raises(UserError, match=r"no DICOM files of predictions; predict DICOM series with --dicom-seg"):
        send(tmp_path, "http://127.0.0.1:1/x")
