"""The manifest of a run: steps, versions, settings and hashes, so that an interrupted run can be resumed."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import __version__
from .core import files
from .errors import UserError, reason_of, root_cause
from .loading import BUNDLE_ROOT

__all__ = [
    "Manifest",
    "contents",
    "lock_folder",
    "machine",
    "read_json",
    "removed_if_refused",
    "require_no_other_results",
    "versions",
]

lock_folder, read_json = files.lock_folder, files.read_json

OWN = ("data", "phantoms")  # may be there before a run: the split of its cases, the data of a demo
PACKAGES = ("monai", "torch", "pytorch-ignite", "numpy", "nibabel", "scikit-learn", "pillow", "imagehash")


class Manifest:
    """Record of the steps of a run, on disk; a step is repeated only when its inputs or outputs have changed.

    Args:
        output: folder of all results; each step writes to its own folder in it.
        settings: what the results depend on; a file with other settings is refused.
        path: the file (default: `manifest.json` in the folder).

    Raises:
        UserError: when the settings differ, or the folder holds other results.
    """

    def __init__(self, output: Path, settings: Mapping[str, Any], path: Path | None = None) -> None:
        self.output, self.path = output, path or output / "manifest.json"
        self.content: dict[str, Any] = {"settings": dict(settings), "steps": {}}
        if self.path.is_file():
            self.content = read_json(self.path)
            before = self.content["settings"]
            changed = [key for key in before | dict(settings) if before.get(key) != settings.get(key)]
            if changed:
                raise UserError(
                    f"{self.path.parent}: holds a run with other settings ({', '.join(changed)}), choose another folder"
                )
        elif path is None:
            require_no_other_results(output, OWN)

    def step(
        self,
        name: str,
        run: Callable[[], None],
        needs: Sequence[Path] = (),
        makes: Sequence[str] = (),
        always: bool = False,
        says: str = "",
    ) -> None:
        """Run a step, unless it was finished before on the same inputs; resume an interrupted one.

        Args:
            name: of the step and of its folder.
            run: the function that runs the step.
            needs: input files; when one has changed, the step's old output is removed first.
            makes: names of the files that the step writes to its folder.
            always: run the step in any case; it decides itself what is left to do.
            says: what the step does, printed before it.
        """
        folder, before = self.output / name, self.content["steps"].get(name, {})
        inputs = {path.relative_to(self.output).as_posix(): files.sha256_of(path) for path in needs}
        made = {file: files.sha256_of(folder / file) for file in makes if (folder / file).is_file()}
        if not always and before.get("needs") == inputs and before.get("made") == made and len(made) == len(makes):
            print(f"{name}: done before", flush=True)
            return
        if before and not always and (before["needs"] != inputs or before.get("made", made) != made):
            shutil.rmtree(folder, ignore_errors=True)
        files.remove_temporaries(folder)
        print(f"{name}: {says} ..." if says else f"{name} ...", flush=True)
        spent = seconds_before_interruption(folder, before)
        self._note(name, {"needs": inputs, "began": time.time(), "spent": spent})
        start = time.monotonic()
        run()
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        made = {file: files.sha256_of(folder / file) for file in makes}
        seconds = round(spent + time.monotonic() - start, 1)
        cost = {"finished": finished, "seconds": seconds, "machine": machine()}
        self._note(name, {"needs": inputs, "made": made, **cost, "versions": versions()})

    def _note(self, name: str, entry: Mapping[str, Any]) -> None:
        self.content["steps"][name] = dict(entry)
        files.write_json(self.path, self.content)


def seconds_before_interruption(folder: Path, entry: Mapping[str, Any]) -> float:
    """Seconds of earlier, interrupted attempts; a killed attempt is counted until it last wrote a file."""
    written = [path.stat().st_mtime for path in folder.rglob("*") if path.is_file()]
    if "began" not in entry or not written:
        return 0.0
    return float(entry["spent"] + max(0.0, max(written) - entry["began"]))


def require_no_other_results(output: Path, own: Collection[str] = ()) -> None:
    """Refuse a folder with files that no earlier run of the same command left there.

    Args:
        output: folder of results.
        own: names in it that belong to the run.

    Raises:
        UserError: naming one of the other files.
    """
    other = sorted(path.name for path in contents(output) if path.name not in own and not path.name.startswith("."))
    if other:
        raise UserError(f"{output}: holds other files, such as {other[0]}; choose another folder")


def contents(folder: Path) -> set[Path]:
    """What a folder holds; nothing if there is none."""
    return set(folder.iterdir()) if folder.is_dir() else set()


@contextmanager
def removed_if_refused(output: Path, before: Collection[Path]) -> Iterator[None]:
    """Remove new results if bad input ends the block, so that the corrected command does not meet them.

    The readable cases of a store are kept if others could not be read.

    Args:
        output: folder of the results; removed if nothing is left in it.
        before: what was in it, which is kept.
    """
    try:
        yield
    except Exception as error:
        store = output / "data" / "store.json"
        partial = store.is_file() and read_json(store)["problems"]
        if not partial and reason_of(error) is not None and not isinstance(root_cause(error), OSError):
            for path in contents(output) - set(before):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not before:
                output.rmdir()
        raise


def versions() -> dict[str, str]:
    """Versions of the packages and of the code that the results depend on."""
    found = {"bundle": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    configs = sorted((BUNDLE_ROOT / "configs").glob("*.yaml")) + sorted((BUNDLE_ROOT / "scripts").rglob("*.py"))
    found["code"] = hashlib.sha256("".join(files.sha256_of(path) for path in configs).encode()).hexdigest()
    return found


def machine() -> str:
    """Description of this machine: system, cores, GPU."""
    import torch

    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{accelerator}"
