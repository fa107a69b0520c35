"""Atomic writes, locks and content hashes of files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from .file_types import GZIP_MAGIC

__all__ = [
    "content_sha256",
    "escape_config_value",
    "inflated_sha256",
    "lock_folder",
    "nan_to_none",
    "read_json",
    "remove_temporaries",
    "resolve_in_bundle",
    "sha256_of",
    "write_atomic",
    "write_bytes",
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

    Raises:
        OSError: naming the file, also when the disk is full.
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
        _synchronize(path.parent)
    except (OSError, RuntimeError) as error:  # torch raises a RuntimeError after the OSError of a full disk
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or not cause.errno:
            raise
        raise OSError(cause.errno, cause.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _synchronize(folder: Path) -> None:
    """Let the names in a folder survive a power failure."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, content: Any, indent: int = 1) -> None:
    """Write JSON atomically, indented, with keys in the given order."""
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically, see `write_atomic`."""
    write_atomic(path, lambda file: file.write(content))


def read_json(path: str | Path, remedy: str = "remove it") -> Any:
    """Read JSON.

    Args:
        path: the file.
        remedy: what to do when it is damaged.

    Raises:
        ValueError: when the file is damaged.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except ValueError:
        raise ValueError(f"{path}: damaged, {remedy}") from None


def remove_temporaries(folder: str | Path) -> None:
    """Remove what killed processes left of `write_atomic` in a folder that no other process writes to."""
    for path in Path(folder).glob(".*.tmp"):
        path.unlink(missing_ok=True)


def lock_folder(folder: str | Path) -> IO[str]:
    """Lock a folder of results against other processes, and remove what killed ones left there.

    On a file system without locks nothing is locked.

    Args:
        folder: made if needed.

    Returns:
        The locked file; the lock ends when it is closed, at the latest with the process.

    Raises:
        ValueError: when another run is active there.
    """
    from fcntl import LOCK_EX, LOCK_NB, lockf

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("w")
    try:
        lockf(file, LOCK_EX | LOCK_NB)  # not `flock`, which forked processes would hold too
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            raise ValueError(f"{folder}: another run is active here, wait for it or choose another folder") from None
    remove_temporaries(folder)
    return file


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


def escape_config_value(value: Any) -> Any:
    r"""Escape a value, so that MONAI takes it literally: `#` in a path would name a nested id.

    >>> escape_config_value(["a", "b#c"])
    ['a', "$'b\\\\x23c'"]
    """
    if isinstance(value, (list, tuple)):
        return [escape_config_value(part) for part in value]
    if isinstance(value, str) and "#" in value and not value.startswith("$"):
        return "$" + ascii(value).replace("#", r"\x23").replace("@", r"\x40")
    return value
