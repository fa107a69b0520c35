"""Atomic writes and content hashes of files."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .file_types import GZIP_MAGIC

__all__ = [
    "content_sha256",
    "inflated_sha256",
    "nan_to_none",
    "resolve_in_bundle",
    "sha256_of",
    "write_atomic",
    "write_json",
]


def resolve_in_bundle(path: str | Path) -> Path:
    """A path, or the same path in the bundle's folder if it does not exist in the working folder.

    MONAI Deploy parses configs without the bundle's folder, so relative paths in them may not exist.
    """
    path = Path(path)
    within = Path(__file__).resolve().parents[2] / path
    return within if not path.is_absolute() and not path.exists() and within.exists() else path


def write_atomic(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file atomically: a reader, or a crash at any time, leaves the old or the new content, never a part.

    Args:
        path: the file; its folder is made if needed.
        write: called with the open binary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # so that the new name survives a power failure
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def write_json(path: str | Path, content: Any, indent: int = 1) -> None:
    """Write JSON atomically, indented, with keys in the given order."""
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def nan_to_none(content: Any) -> Any:
    """Replace NaN and infinity by None at any depth, since JSON has neither."""
    if isinstance(content, dict):
        return {key: nan_to_none(value) for key, value in content.items()}
    if isinstance(content, list):
        return [nan_to_none(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inflated_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content; of a gzip file, of the decompressed content.

    Of a damaged gzip file, of its bytes; decoding reports the error.
    """
    with Path(path).open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            return sha256_of(path)
    try:
        with gzip.open(path) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (OSError, EOFError, zlib.error):
        return sha256_of(path)


def content_sha256(content: str | Path | Sequence[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a folder, of its files' in the order of their names; of several."""
    if isinstance(content, (str, Path)):
        path = Path(content)
        if not path.is_dir():
            return sha256_of(path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
    else:
        files = [Path(path) for path in content]
    return hashlib.sha256("\n".join(map(sha256_of, files)).encode()).hexdigest()
