"""Obtaining the open data sets, from a server on this machine: nothing here touches the internet.

MONAI and kagglehub are the real ones. kagglehub is led to the server by environment variables alone: its LOCALHOST
environment for plain http, and a proxy for the port.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import monai.apps  # noqa: F401  its logger keeps the stdout of its import: let that not be one test's
import nibabel as nib
import numpy as np
import pytest

with suppress(ImportError):
    import kagglehub  # noqa: F401  likewise

from bundle.datasets.download import BRATS, KAGGLE, DownloadError, fetch_brats, fetch_kaggle

TASK = "Task01_BrainTumour"
SCANS = ("BRATS_001", "BRATS_002")
KAGGLE_API = "/api/v1/datasets.DatasetApiService"


@dataclass
class Reply:
    """What the server predictions at one path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None  # bytes that Content-Length claims: the body's own by default, -1 for no such header


@dataclass
class Server:
    """Predictions on 127.0.0.1, and for every request its path and what was printed since the one before."""

    port: int
    replies: dict[str, Reply] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def prediction(self) -> None:
            path = self.path.removeprefix("http://localhost")  # a proxy is asked for whole addresses
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known.requests.append((path, capsys.readouterr().out))
            reply = known.replies.get(path, Reply(status=404))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.announced != -1:
                self.send_header("Content-Length", str(reply.announced or len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_POST = prediction

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        known = Server(listener.server_port)
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield known
        listener.shutdown()
        thread.join()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A tar archive as the Decathlon's, of two tiny scans."""
    task = tmp_path / "published" / TASK
    for folder, channels in (("imagesTr", (4,)), ("labelsTr", ())):
        (task / folder).mkdir(parents=True)
        for scan in SCANS:
            volume = nib.Nifti1Image(np.zeros((4, 4, 2, *channels), dtype=np.uint8), np.eye(4))  # type: ignore[no-untyped-call]
            nib.save(volume, task / folder / f"{scan}.nii.gz")
    pairs = [{"image": f"./imagesTr/{scan}.nii.gz", "label": f"./labelsTr/{scan}.nii.gz"} for scan in SCANS]
    (task / "dataset.json").write_text(json.dumps({"name": "BRATS", "training": pairs}))
    return _tar(lambda tar: tar.add(task, arcname=TASK))


def _tar(fill: Callable[[tarfile.TarFile], object]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        fill(tar)
    return buffer.getvalue()


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _fails_in_one_line(fetch: Callable[[], Path], root: Path, *words: str) -> None:
    """The fetch fails, says why in one line, and leaves nothing at all under the root."""
    with pytest.raises(DownloadError) as caught:
        fetch()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    for word in words:
        assert word in message
    assert not root.exists() or list(root.iterdir()) == []


# Task01_BrainTumour


def test_brats_download_is_complete(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.replies["/mirror/brain.tar"] = Reply(archive)  # a mirror may name the archive as it likes
    root = tmp_path / "new" / "root"
    folder = fetch_brats(root, url=server.url("/mirror/brain.tar"), md5=_md5(archive))
    assert folder == root / TASK
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert nib.Nifti1Image.from_filename(folder / "imagesTr" / "BRATS_001.nii.gz").shape == (4, 4, 2, 4)
    assert list(root.iterdir()) == [folder], "the archive and temporary files are gone"


def test_brats_license_is_printed_before_the_first_request(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.replies["/t.tar"] = Reply(archive)
    fetch_brats(tmp_path / "root", url=server.url("/t.tar"), md5=_md5(archive))
    _, printed = server.requests[0]
    for fact in (TASK, "CC BY-SA 4.0", "Antonelli", "13:4128", "BraTS 2016"):
        assert fact in printed


def test_brats_second_call_makes_no_request(
    server: Server, archive: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.replies["/t.tar"] = Reply(archive)
    first = fetch_brats(tmp_path / "root", url=server.url("/t.tar"), md5=_md5(archive))
    server.requests.clear()
    capsys.readouterr()
    assert fetch_brats(tmp_path / "root", url=server.url("/t.tar"), md5=_md5(archive)) == first
    assert server.requests == []
    assert BRATS.license in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["dataset.json", "imagesTr/BRATS_002.nii.gz", "labelsTr/BRATS_001.nii.gz"])
def test_brats_folder_without_a_file_is_detected(server: Server, archive: bytes, tmp_path: Path, lost: str) -> None:
    server.replies["/t.tar"] = Reply(archive)
    folder = fetch_brats(tmp_path / "root", url=server.url("/t.tar"), md5=_md5(archive))
    (folder / lost).unlink()
    with pytest.raises(DownloadError, match=rf"^{folder} is incomplete.*{lost}.*remove the folder") as caught:
        fetch_brats(tmp_path / "root", url=server.url("/t.tar"))
    assert "\n" not in str(caught.value)


def test_brats_wrong_checksum(server: Server, archive: bytes, tmp_path: Path) -> None:
    server.replies["/t.tar"] = Reply(archive)
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_brats(root, url=server.url("/t.tar"), md5="0" * 32), root, TASK, "HashCheckError")
    # Without a checksum of its own another address has to serve the archive that MONAI knows.
    _fails_in_one_line(lambda: fetch_brats(root, url=server.url("/t.tar")), root, "240a19d752f0d9e9101544901065d872")


def test_brats_not_found(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_brats(root, url=server.url("/t.tar")), root, TASK, "HTTP Error 404")


@pytest.mark.parametrize(
    ("announced", "reason"), [(10**6, "ContentTooShortError"), (-1, "HashCheckError")], ids=["length", "no-length"]
)
def test_brats_cut_short(server: Server, archive: bytes, tmp_path: Path, announced: int, reason: str) -> None:
    server.replies["/t.tar"] = Reply(archive[: len(archive) // 2], announced=announced)
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_brats(root, url=server.url("/t.tar"), md5=_md5(archive)), root, TASK, reason)
    server.replies["/t.tar"] = Reply(archive)
    assert fetch_brats(root, url=server.url("/t.tar"), md5=_md5(archive)).is_dir(), "the next try starts afresh"


def test_brats_without_network(server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/t.tar"
        root = tmp_path / "root"
        _fails_in_one_line(lambda: fetch_brats(root, url=url), root, TASK, "ConnectionError", "refused")


def test_brats_archive_without_the_task(server: Server, archive: bytes, tmp_path: Path) -> None:
    other = _tar(lambda tar: tar.addfile(tarfile.TarInfo("Task02_Heart/dataset.json")))
    lacking = _tar(lambda tar: tar.add(tmp_path / "published" / TASK / "dataset.json", f"{TASK}/dataset.json"))
    root = tmp_path / "root"
    for data, gap in ((other, "lacks dataset.json"), (lacking, "lacks ./imagesTr/BRATS_001.nii.gz")):
        server.replies["/t.tar"] = Reply(data)
        _fails_in_one_line(partial(fetch_brats, root, url=server.url("/t.tar"), md5=_md5(data)), root, gap)


@pytest.mark.parametrize("name", ["../../evil.txt", "Task01_BrainTumour/../../../evil.txt", "/{tmp}/evil.txt"])
def test_brats_archive_with_paths_outside_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        tar.addfile(tarfile.TarInfo(f"{TASK}/imagesTr/BRATS_001.nii.gz"))
        member = tarfile.TarInfo(name.replace("/{tmp}", str(tmp_path)))
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))

    data = _tar(fill)
    server.replies["/t.tar"] = Reply(data)
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_brats(root, url=server.url("/t.tar"), md5=_md5(data)), root, TASK, "Unsafe path")
    assert list(tmp_path.rglob("evil.txt")) == []


def test_brats_root_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "root").write_text("in the way")
    with pytest.raises(DownloadError, match=rf"^{TASK}: \w+Error: .*{tmp_path / 'root'}"):
        fetch_brats(tmp_path / "root", url=server.url("/t.tar"))
    assert server.requests == []


def test_brats_full_disk(server: Server, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)  # what MONAI unpacks with
    server.replies["/t.tar"] = Reply(archive)
    root = tmp_path / "root"
    _fails_in_one_line(
        lambda: fetch_brats(root, url=server.url("/t.tar"), md5=_md5(archive)), root, TASK, "No space left"
    )


# Kaggle


@pytest.fixture
def kaggle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server in the place of Kaggle's: tells version 2, and redirects from there to the archive."""
    pytest.importorskip("kagglehub")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE", "TBE_RUNTIME_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # with nobody's token, and no cache to find anything in
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("http_proxy", server.url(""))
    version = json.dumps({"ref": KAGGLE.name, "currentVersionNumber": 2}).encode()
    server.replies[f"{KAGGLE_API}/GetDataset"] = Reply(version, headers={"Content-Type": "application/json"})
    server.replies[f"{KAGGLE_API}/DownloadDataset"] = Reply(status=302, headers={"Location": "/bundle.zip"})
    return server


def _zip(*names: str) -> Reply:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name in names:
            packed.writestr(name, name)
    return Reply(buffer.getvalue(), headers={"Content-Type": "application/zip"})


AS_PUBLISHED = ("brain_tumor_dataset/no/1.jpg", "brain_tumor_dataset/yes/2.jpg", "no/1.jpg", "yes/2.jpg")


def test_kaggle_download_is_complete(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip(*AS_PUBLISHED)
    root = tmp_path / "root"
    folder = fetch_kaggle(root)
    assert (folder / "yes" / "2.jpg").read_text() == "yes/2.jpg", "the outer copy, not the nested one"
    assert list(root.iterdir()) == [folder]
    assert not (tmp_path / "home" / "cache").exists(), "all files are under the root"
    assert [path for path, _ in kaggle.requests] == [
        f"{KAGGLE_API}/GetDataset",
        f"{KAGGLE_API}/DownloadDataset",
        "/bundle.zip",
    ]


def test_kaggle_license_is_printed_before_the_first_request(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip(*AS_PUBLISHED)
    fetch_kaggle(tmp_path / "root")
    _, printed = kaggle.requests[0]
    for fact in (KAGGLE.name, "none that can be verified", "redistribute", "Chakrabarty"):
        assert fact in printed


def test_kaggle_license_of_another_data_set_is_unknown(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip("yes/1.jpg", "no/1.jpg")
    fetch_kaggle(tmp_path / "root", handle="someone/else")
    _, printed = kaggle.requests[0]
    assert "https://www.kaggle.com/datasets/someone/else" in printed
    assert "Chakrabarty" not in printed


def test_kaggle_second_call_makes_no_request(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip(*AS_PUBLISHED)
    first = fetch_kaggle(tmp_path / "root")
    kaggle.requests.clear()
    assert fetch_kaggle(tmp_path / "root") == first
    assert kaggle.requests == []


def test_kaggle_folders_are_found_at_any_depth_and_case(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip("readme.txt", "data/pictures/YES/1.jpg", "data/pictures/No/1.jpg")
    folder = fetch_kaggle(tmp_path / "root")
    assert {"YES", "No"} <= {path.name for path in folder.iterdir()}


def test_kaggle_archive_without_the_folders(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip("yes/1.jpg", "perhaps/1.jpg")
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, "no folder has both yes/ and no/")


@pytest.mark.parametrize("status", [403, 404])
def test_kaggle_refuses(kaggle: Server, tmp_path: Path, status: int) -> None:
    kaggle.replies[f"{KAGGLE_API}/DownloadDataset"] = Reply(status=status)
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, str(status))


def test_kaggle_cut_short(kaggle: Server, tmp_path: Path) -> None:
    whole = _zip(*AS_PUBLISHED)
    kaggle.replies["/bundle.zip"] = Reply(whole.body[:100], announced=len(whole.body))
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, "IncompleteRead")
    kaggle.replies["/bundle.zip"] = whole
    assert fetch_kaggle(root).is_dir(), "the next try starts afresh"


def test_kaggle_wrong_checksum(kaggle: Server, tmp_path: Path) -> None:
    reply = _zip(*AS_PUBLISHED)
    reply.headers["x-goog-hash"] = "crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ=="
    kaggle.replies["/bundle.zip"] = reply
    root = tmp_path / "root"
    _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, "DataCorruptionError")


def test_kaggle_archive_with_paths_outside_is_extracted_inside(kaggle: Server, tmp_path: Path) -> None:
    kaggle.replies["/bundle.zip"] = _zip(*AS_PUBLISHED, "../../evil.txt")
    folder = fetch_kaggle(tmp_path / "root")
    assert all(folder in path.parents for path in tmp_path.rglob("evil.txt"))


def test_kaggle_without_network(kaggle: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused.getsockname()[1]}")
        root = tmp_path / "root"
        _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, "refused")


def test_kaggle_without_the_package(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)  # an import now raises ImportError
    root = tmp_path / "root"
    install = "pip install 'brain-mri-tumor-segmentation-classification[kaggle]'"
    _fails_in_one_line(lambda: fetch_kaggle(root), root, KAGGLE.name, install)
    assert server.requests == []


# Both


def test_import_is_light() -> None:
    heavy = "{'monai', 'torch', 'numpy', 'kagglehub', 'requests'}"
    path = Path(__file__).parents[3] / "bundle" / "datasets" / "download.py"  # by itself, whatever the package imports
    code = f"import runpy, sys; runpy.run_path({str(path)!r}); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
