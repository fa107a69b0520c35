"""Packages of the browser app: locked, checked, and no other file of them is used."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from bundle.errors import UserError
from bundle.web.packages import KEPT, LOCK, fetch, unpack
from bundle.web.site import HERE
from tests.sessions.test_web import table

DOCS = Path(__file__).resolve().parents[3] / "docs"


def archives_of(folder: Path, sha256: str | None = None) -> tuple[dict[str, Any], dict[str, bytes]]:
    """An npm and a PyPI archive of one file each in a folder, and their lock."""
    wheel = b"a build of numpy"
    listed = {
        name: {"file_name": f"{name}.whl", "sha256": sha256 or hashlib.sha256(wheel).hexdigest()} for name in KEPT
    }
    content = json.dumps({"packages": {**listed, "pandas": {"file_name": "p.whl", "sha256": "0"}}}).encode()
    with tarfile.open(folder / "pyodide-1.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/pyodide-lock.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(folder / "wheels-2.whl", "w") as archive:
        archive.writestr("a.whl", wheel)
        archive.writestr("unused", b"")
    integrity = {
        name: f"sha256-{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
        for name in ("pyodide-1.tgz", "wheels-2.whl")
    }
    lock = {
        "pyodide": {
            "from": "npm",
            "version": "1",
            "integrity": integrity["pyodide-1.tgz"],
            "files": {"package/pyodide-lock.json": "pyodide/pyodide-lock.json"},
        },
        "wheels": {
            "from": "pypi",
            "version": "2",
            "integrity": integrity["wheels-2.whl"],
            "files": {"a.whl": "pyodide/numpy.whl"},
        },
    }
    return lock, {"numpy.whl": wheel}


def test_only_the_named_files_are_written_and_the_list_is_of_them(tmp_path: Path) -> None:
    lock, _ = archives_of(tmp_path)
    lock["wheels"]["files"] = {"a.whl": "pyodide/numpy.whl"}
    site = tmp_path / "site"
    for name in KEPT[1:]:  # of the same content
        (site / "pyodide").mkdir(parents=True, exist_ok=True)
        (site / "pyodide" / f"{name}.whl").write_bytes(b"a build of numpy")
    unpack(fetch(tmp_path, lock), site, lock)
    assert sorted(json.loads((site / "pyodide" / "pyodide-lock.json").read_text())["packages"]) == sorted(KEPT)
    assert not (site / "unused").exists()


def test_a_build_that_is_not_pyodides_is_refused(tmp_path: Path) -> None:
    lock, _ = archives_of(tmp_path, sha256="0" * 64)
    with pytest.raises(UserError, match=r"numpy\.whl: not Pyodide's build of numpy"):
        unpack(fetch(tmp_path, lock), tmp_path / "site", lock)


def test_an_archive_of_other_content_is_refused(tmp_path: Path) -> None:
    lock, _ = archives_of(tmp_path)
    (tmp_path / "wheels-2.whl").write_bytes(b"other")
    with pytest.raises(UserError, match=r"wheels-2\.whl: not the file of wheels 2 that is locked"):
        fetch(tmp_path, lock)


def test_every_package_is_locked_by_its_hash_and_served_from_the_site() -> None:
    for name, package in LOCK.items():
        assert re.fullmatch(r"sha(256|512)-[A-Za-z0-9+/=]{64,}", package["integrity"]), name
        assert package["license"] and package["version"] and package["files"]
    for file in (HERE / "page").iterdir():
        addresses = re.findall(r"https?://[^\s'\"`]+", file.read_text())
        assert not addresses, f"{file.name} names {addresses}"


def test_the_page_forbids_other_servers_and_inline_code() -> None:
    page = (HERE / "page" / "index.html").read_text()
    policy = re.search(r'content="(default-src[^"]+)"', page)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'" and "unsafe-inline" not in policy[1]
    assert not re.search(r"<script>|style=|onclick=", page)


def test_the_table_of_the_page_is_of_the_committed_session_and_no_scan_differed() -> None:
    measured = json.loads((DOCS / "results" / "web.json").read_text())
    assert table(measured) in (DOCS / "how-to" / "browser.md").read_text()
    assert {row["scans"] for row in measured["scans"]} == {"phantoms", "real scans"}
    assert not [row for row in measured["scans"] if row["differs"]]


def test_the_folder_is_a_static_space() -> None:
    """Its README.md has the settings of Hugging Face's static Spaces."""
    settings = yaml.safe_load((HERE / "page" / "README.md").read_text().split("---")[1])
    assert settings["sdk"] == "static" and (HERE / "page" / settings["app_file"]).is_file()
    assert settings["title"] and settings["license"] == "other" and settings["license_name"]
