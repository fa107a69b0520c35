"""A folder at an address such as `s3://BUCKET/SCANS`, and its copy in a cache; fsspec reads and writes the address."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from .core import files
from .errors import UserError
from .manifest import read_json

__all__ = ["RemoteFolder"]

PROBE = ".bundle_may_write"


class RemoteFolder:
    """A folder, or a file, at an address, and its copy in the cache.

    The cache also notes of each file what the address said of it when it was copied (size, time, hash), and size and
    time of the copy. So a file is transferred again only when it has changed.

    Args:
        address: of any kind that fsspec knows; the package of its kind, such as s3fs, has to be installed. One that
            ends with a slash is a folder, which of a web server nothing else tells.

    Raises:
        UserError: when there is no such kind of address, its package is not installed, or it names a whole storage.
    """

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs

        self.address = address
        with self._one_line():
            self.system, self.root = url_to_fs(address)
        kind, _, rest = address.partition("://")
        parts = [part for part in re.split(r"[/\\]+", rest) if part not in ("", ".")]
        if not parts or ".." in parts:
            raise UserError(f"{address}: name a folder or a file in the storage")
        place = Path(kind.lower(), *parts)
        self.copy, self.note = cache() / "copies" / place, cache() / "notes" / place / "copied.json"

    def fetch(self) -> None:
        """Copy what is new or changed at the address, and remove from the copy what it no longer has.

        Raises:
            UserError: when nothing is there, or it cannot be read.
        """
        found = self._found()
        if not found:
            raise UserError(f"{self.address}: no such file or folder")
        with self._known() as known:
            self._get(found, known)
            for name in known.keys() - found.keys():
                (self.copy / name).unlink(missing_ok=True)
                del known[name]

    def fetch_results(self) -> None:
        """Copy the results of earlier commands from the address; results that are only in the copy are kept.

        Raises:
            UserError: when the address cannot be read, or not be written to.
        """
        found = self._found()
        with self._one_line():
            self.system.makedirs(self.root, exist_ok=True)
            self.system.pipe_file(self._there(PROBE), b"-")
            self.system.rm_file(self._there(PROBE))
        with self._known() as known:
            self._get(found, known)

    def send(self) -> None:
        """Copy to the address what is new or changed in the copy, oldest first; remove what was removed.

        Names that begin with a dot are left out.

        Raises:
            UserError: when the address cannot be written to.
        """
        here = [path for path in self.copy.rglob("*") if path.is_file() and not path.name.startswith(".")]
        here.sort(key=lambda path: path.stat().st_mtime_ns)
        names = [path.relative_to(self.copy).as_posix() for path in here]
        with self._known() as known:
            new = [name for name in names if known.get(name, {}).get("here") != self._state(name)]
            for name in self._shown(new, f"copying to {self.address}"):
                there, state = self._there(name), self._state(name)
                with self._one_line():
                    self.system.makedirs(there.rpartition("/")[0], exist_ok=True)
                    self.system.put_file(str(self.copy / name), there)
                    self.system.invalidate_cache()
                    known[name] = {"there": _key(self.system.info(there)), "here": state}
            for name in known.keys() - set(names):
                with self._one_line():
                    self.system.rm_file(self._there(name))
                del known[name]

    def _found(self) -> dict[str, str]:
        """The files at the address, with a hash of what it says of each; the name of a single file is "."."""
        with self._one_line():
            self.system.invalidate_cache()
            if not self.address.endswith("/") and self.system.isfile(self.root):
                return {".": _key(self.system.info(self.root))}
            if not self.system.exists(self.root):
                return {}
            listed, root = self.system.find(self.root, detail=True), PurePosixPath(self.root)
            found = {PurePosixPath(name).relative_to(root).as_posix(): _key(info) for name, info in listed.items()}
        for name in found:
            if ".." in PurePosixPath(name).parts:
                raise UserError(f"{self.address}: {name}: a name that leads out of the folder")
        return {name: key for name, key in found.items() if not PurePosixPath(name).name.startswith(".")}

    def _get(self, found: Mapping[str, str], known: dict[str, Any]) -> None:
        """Copy the files that are missing here or have changed there."""
        new = [
            name
            for name, key in found.items()
            if known.get(name, {}).get("there") != key or not (self.copy / name).is_file()
        ]
        for name in self._shown(new, f"copying {self.address}"):
            target = self.copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            with self._one_line():
                self.system.get_file(self._there(name), str(partial))
            partial.replace(target)
            known[name] = {"there": found[name], "here": self._state(name)}

    @staticmethod
    def _shown(names: list[str], words: str) -> Iterable[str]:
        from tqdm import tqdm

        return tqdm(names, desc=words, unit="file", disable=len(names) < 2 or None)

    def _there(self, name: str) -> str:
        return self.root if name == "." else f"{self.root.rstrip('/')}/{name}"

    def _state(self, name: str) -> list[int]:
        state = (self.copy / name).stat()
        return [state.st_size, state.st_mtime_ns]

    @contextmanager
    def _known(self) -> Iterator[dict[str, Any]]:
        """What was copied before; written again at the end, also with an error."""
        known = dict(read_json(self.note)) if self.note.is_file() else {}
        try:
            yield known
        finally:
            self.note.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(self.note, known)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Give any error of the address one line; storages raise errors of all kinds."""
        try:
            yield
        except ImportError as error:
            raise UserError(f"{self.address}: {error}") from None
        except FileNotFoundError:
            raise UserError(f"{self.address}: no such file or folder") from None
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{self.address}: cannot be read or written: {reason}") from None


def _key(info: Mapping[str, Any]) -> str:
    """Hash of what a storage says of a file."""
    return hashlib.sha256(repr(sorted((key, str(value)) for key, value in info.items())).encode()).hexdigest()


def cache() -> Path:
    """The folder of all copies: $BUNDLE_CACHE, or one in the user's cache."""
    named = os.environ.get("BUNDLE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else base / "brain_mri_tumor"
