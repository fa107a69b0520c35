from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import BinaryIO

import pytest

from scripts.core.files import inflated_sha256, resolve_in_bundle, sha256_of, write_atomic, write_json


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, lambda file: file.write(b"content"))
    assert path.read_bytes() == b"content"


def test_new_content_replaces_the_old_without_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a long old content")
    write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reader_sees_the_old_content_while_the_new_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())

    write_atomic(path, write)
    assert seen == [b"old"] and path.read_bytes() == b"new"


def test_json_keeps_the_order_of_keys_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [None, 0.5]})
    text = (tmp_path / "a.json").read_text()
    assert list(json.loads(text).items()) == [("b", 1), ("a", [None, 0.5])] and text.endswith("}\n")


def test_json_never_holds_nan_and_refusing_it_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_sha256_equals_the_standard_library(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_content_hash_ignores_compression(tmp_path: Path) -> None:
    plain, fast, best, cut = (tmp_path / name for name in ("a.nii", "b.nii.gz", "c.nii.gz", "d.nii.gz"))
    plain.write_bytes(b"voxels" * 1000)
    fast.write_bytes(gzip.compress(plain.read_bytes(), 1))
    best.write_bytes(gzip.compress(plain.read_bytes(), 9))
    assert sha256_of(fast) != sha256_of(best)
    assert inflated_sha256(fast) == inflated_sha256(best) == inflated_sha256(plain) == sha256_of(plain)
    cut.write_bytes(best.read_bytes()[:-9])
    assert inflated_sha256(cut) == sha256_of(cut), "decoding reports the error"


def test_missing_relative_paths_are_resolved_in_the_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        resolve_in_bundle("configs/metadata.json") == Path(__file__).resolve().parents[3] / "configs" / "metadata.json"
    )
    assert resolve_in_bundle("configs/nothing.json") == Path("configs/nothing.json")
    assert resolve_in_bundle(tmp_path / "configs" / "metadata.json") == tmp_path / "configs" / "metadata.json"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    assert resolve_in_bundle("configs/metadata.json") == Path("configs/metadata.json")


def test_a_full_disk_is_an_error_that_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    """Torch raises a RuntimeError without the reason."""
    from resource import RLIMIT_FSIZE, getrlimit, setrlimit

    import torch

    path, before = tmp_path / "model.pt", getrlimit(RLIMIT_FSIZE)
    path.write_bytes(b"old")
    setrlimit(RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            write_atomic(path, lambda file: torch.save(torch.zeros(100_000), file))
    finally:
        setrlimit(RLIMIT_FSIZE, before)
    assert error.value.filename == str(path) and error.value.errno == errno.EFBIG
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
