"""A folder at an address: what is copied here, and what back."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from bundle.errors import UserError
from bundle.remote_folder import RemoteFolder

MEMORY = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("BUNDLE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    MEMORY.store.clear()
    MEMORY.pseudo_dirs[:] = [""]


def put(**content: str) -> None:
    for name, text in content.items():
        MEMORY.pipe_file(f"/bucket/{name}.txt", text.encode())


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_changed_is_copied_and_what_is_gone_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    put(a="1", b="2", c="3")
    folder = RemoteFolder("memory://bucket")
    folder.fetch()
    assert texts(folder.copy) == {"a": "1", "b": "2", "c": "3"}
    copied: list[str] = []
    get = MEMORY.get_file
    monkeypatch.setattr(type(MEMORY), "get_file", lambda self, name, *rest: (copied.append(name), get(name, *rest)))
    put(b="4")
    MEMORY.rm_file("/bucket/c.txt")
    (folder.copy / "a.txt").unlink()
    RemoteFolder("memory://bucket/").fetch()
    assert texts(folder.copy) == {"a": "1", "b": "4"} and sorted(copied) == ["/bucket/a.txt", "/bucket/b.txt"]


def test_results_are_sent_once_and_follow_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    put(old="1")
    folder = RemoteFolder("memory://bucket")
    folder.fetch_results()
    (folder.copy / "x").mkdir()
    (folder.copy / "x" / "new.txt").write_text("2")
    (folder.copy / ".lock").touch()
    folder.send()
    assert MEMORY.cat_file("/bucket/x/new.txt") == b"2" and not MEMORY.exists("/bucket/.lock")
    with monkeypatch.context() as patch:
        patch.setattr(type(MEMORY), "put_file", lambda *arguments: pytest.fail("sent again"))
        folder.send()
    (folder.copy / "old.txt").unlink()
    folder.send()
    assert MEMORY.find("/bucket") == ["/bucket/x/new.txt"]


def test_results_that_are_only_here_are_kept_and_later_sent() -> None:
    """After a command that was killed before it could send them."""
    folder = RemoteFolder("memory://bucket/run")
    folder.fetch_results()
    folder.copy.mkdir(parents=True)
    (folder.copy / "weights.txt").write_text("1")
    again = RemoteFolder("memory://bucket/run")
    again.fetch_results()
    assert texts(again.copy) == {"weights": "1"}
    again.send()
    assert MEMORY.find("/bucket") == ["/bucket/run/weights.txt"]


def test_a_single_file_and_a_folder_over_http(tmp_path: Path) -> None:
    served = tmp_path / "served"
    (served / "scans").mkdir(parents=True)
    (served / "scans" / "a.txt").write_text("1")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    handler.func.log_message = lambda *arguments: None  # type: ignore[assignment]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/scans"
        single, whole = RemoteFolder(f"{address}/a.txt"), RemoteFolder(f"{address}/")
        single.fetch()
        assert single.copy.read_text() == "1"
        whole.fetch()
        assert texts(whole.copy) == {"a": "1"}
        with pytest.raises(UserError, match=r"/scans/: cannot be read or written: "):
            whole.fetch_results()
        server.shutdown()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("memory://bucket/nothing", "no such file or folder"),
        ("nosuch://bucket/scans", "[Pp]rotocol not known: nosuch"),
        ("memory://", "name a folder or a file in the storage"),
        ("memory://bucket/../../etc", "name a folder or a file in the storage"),
    ],
)
def test_what_cannot_be_read_is_one_line(address: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^{address}: .*{said}") as caught:
        RemoteFolder(address).fetch()
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"^s3://bucket/x: .*s3fs"):
        RemoteFolder("s3://bucket/x")


def test_a_name_that_leads_out_of_the_folder_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(a="1")
    listed = {"/bucket/../../evil.txt": {"name": "/bucket/../../evil.txt", "size": 1}}
    monkeypatch.setattr(type(MEMORY), "find", lambda *arguments, **options: listed)
    with pytest.raises(UserError, match="leads out of the folder"):
        RemoteFolder("memory://bucket").fetch()
    assert not list(cache.rglob("evil.txt")) and not list(cache.parent.glob("evil.txt"))
