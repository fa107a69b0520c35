"""Checks of a packed bundle that only read its files: no Python of the folder and no config of it is run."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from ..core import files
from ..manifest import read_json
from ..weights import pins_of
from .pack import NEEDED, SUMS
from .signing import SIGNED, BadSignatureError, verify_signature

__all__ = ["STATIC_CHECKS", "CheckError", "CheckSkipped", "Given"]

SECTIONS = ("overview", "data", "training", "input", "output", "performance", "commands", "references", "license")
EXACT_PIN = re.compile(r"\d+(\.\d+)+([a-z]+\d+)?")
PERSONAL_PATH = re.compile(r"(/home/|/Users/|/root/|[A-Z]:\\{1,2}Users)")
SUM_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^\n]+)")
SIGNATURE, NAMESPACE = f"{SUMS}.sig", "bundle"  # made by ssh-keygen -Y sign -n bundle


class CheckError(Exception):
    """A check fails; the message is one line."""


class CheckSkipped(Exception):
    """A check cannot run here; the message is one line."""


class Given(NamedTuple):
    """Files beside the bundle that some checks need.

    Args:
        schema: of the metadata, JSON.
        signers: whose signatures are accepted, in the format of ssh-keygen's allowed signers.
        key: public key whose owner must have signed the folder, PEM.
    """

    schema: Path | None = None
    signers: Path | None = None
    key: Path | None = None


def model_signature(folder: Path, given: Given) -> None:
    """All files are those that the owner of a key signed; nothing was added."""
    if given.key is None:
        signed = (folder / SIGNED).is_file()
        raise CheckSkipped("needs the public key that you accept: --key FILE" if signed else f"no {SIGNED}")
    if not (folder / SIGNED).is_file():
        raise CheckError(f"{SIGNED}: is missing, so the owner of {given.key.name} did not sign this folder")
    try:
        verify_signature(folder, given.key)
    except BadSignatureError as error:
        raise CheckError(str(error)) from None
    except ModuleNotFoundError as error:
        raise CheckError(f"needs the package {error.name}: pip install -e '.[sign]'") from None


def structure(folder: Path, _: Given) -> None:
    """All files are there, the model card has all sections, no file holds a path of a personal machine."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    weights = [name for name in ("models/model.pt", "models/model.ts", "large_files.yml") if (folder / name).is_file()]
    if missing or not weights:
        raise CheckError(f"missing: {', '.join(missing) or 'weights, or large_files.yml'}")
    card = (folder / "docs" / "README.md").read_text().lower()
    absent = [section for section in SECTIONS if not re.search(rf"^#+ .*{section}", card, re.MULTILINE)]
    if absent:
        raise CheckError(f"docs/README.md has no section about {', '.join(absent)}")
    for path in sorted(
        [*folder.rglob("*.py"), *folder.rglob("*.yaml"), *folder.rglob("*.json"), *folder.rglob("*.md")]
    ):
        if found := PERSONAL_PATH.search(path.read_text(errors="replace")):
            raise CheckError(f"{path.relative_to(folder)}: holds a path of a personal machine ({found.group()})")


def readable(folder: Path, _: Given) -> None:
    """Nothing leads out of the folder; every Python, YAML and JSON file can be parsed, which runs none of them."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CheckError(f"{name}: a link or a special file")
        try:
            if path.suffix == ".py":
                ast.parse(path.read_bytes())
            elif path.suffix in (".yaml", ".yml"):
                yaml.safe_load(path.read_text())
            elif path.suffix == ".json":
                json.loads(path.read_text())
        except (SyntaxError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise CheckError(f"{name}: cannot be parsed ({type(error).__name__})") from None


def hashes(folder: Path, _: Given) -> None:
    """Every file has the hash that was written when the folder was packed; weights that of the metadata."""
    named = read_json(folder / "configs" / "metadata.json").get("weights_sha256", {})
    sums = dict(named) | (_sums(folder) if (folder / SUMS).is_file() else {})
    if not sums:
        raise CheckSkipped(f"no {SUMS}, and no weights_sha256 in metadata.json")
    for name, expected in sorted(sums.items()):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckError(f"{SUMS}: names a file outside the folder")
        if not path.is_file() and name in named and (folder / "large_files.yml").is_file():
            continue  # not downloaded yet
        if not path.is_file() or files.sha256_of(path) != expected or named.get(name, expected) != expected:
            raise CheckError(f"{name}: is missing, or was changed after the folder was packed")
    if (folder / SUMS).is_file():
        listed = {*sums, SUMS, SIGNATURE, SIGNED}
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if extra := sorted(name for name in present - listed if "__pycache__" not in name):
            raise CheckError(f"{extra[0]}: is not in {SUMS}")


def _sums(folder: Path) -> dict[str, str]:
    """Hashes by name in the file that `pack` writes, which `sha256sum --check` reads, too."""
    found = {}
    for line in (folder / SUMS).read_text().splitlines():
        if (match := SUM_LINE.fullmatch(line)) is None:
            raise CheckError(f"{SUMS}: a line is no hash with a name")
        found[match["name"]] = match["sha256"]
    return found


def signature(folder: Path, given: Given) -> None:
    """The file of hashes is signed by somebody whose key is accepted."""
    if not (folder / SIGNATURE).is_file():
        if given.signers is not None:
            raise CheckError(f"{SIGNATURE}: is missing, so nobody signed this folder")
        raise CheckSkipped(f"no {SIGNATURE}")
    if given.signers is None:
        raise CheckSkipped("needs the keys that you accept: --signers FILE (format: man ssh-keygen, ALLOWED SIGNERS)")
    program = shutil.which("ssh-keygen")
    if program is None:
        raise CheckError("ssh-keygen is not installed here")
    common = ["-n", NAMESPACE, "-s", str(folder / SIGNATURE), "-f", str(given.signers)]
    names = _output([program, "-Y", "find-principals", *common[2:]]).splitlines()
    if not names or not _output([program, "-Y", "verify", *common, "-I", names[0]], (folder / SUMS).read_bytes()):
        raise CheckError(f"{SIGNATURE}: not by an accepted key, or {SUMS} was changed")


def _output(command: list[str], given: bytes = b"") -> str:
    """What a program prints if it succeeds; nothing otherwise."""
    done = subprocess.run(command, input=given, capture_output=True, check=False)  # noqa: S603 - a full path, no shell
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def changelog(folder: Path, _: Given) -> None:
    """The version is in the changelog."""
    metadata = read_json(folder / "configs" / "metadata.json")
    if metadata["version"] not in metadata["changelog"]:
        raise CheckError(f"version {metadata['version']} is not in the changelog")


def pins(folder: Path, _: Given) -> None:
    """Every package has one exact version, and this version is installed here."""
    from importlib.metadata import PackageNotFoundError, version

    metadata = read_json(folder / "configs" / "metadata.json")
    for name, pin in pins_of(metadata).items():
        if not EXACT_PIN.fullmatch(pin):
            raise CheckError(f"{name}: '{pin}' is not an exact version")
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            raise CheckError(f"{name}: not installed here") from None
        if installed != pin:
            raise CheckError(f"{name}: {installed} is installed here, the metadata names {pin}")


def schema_of_metadata(folder: Path, given: Given) -> None:
    """MONAI's check of the metadata against a local schema."""
    from monai.bundle import verify_metadata

    if given.schema is None:
        raise CheckSkipped("needs the JSON schema named in metadata.json: --schema FILE")
    verify_metadata(meta_file=str(folder / "configs" / "metadata.json"), filepath=str(given.schema))


STATIC_CHECKS: dict[str, Callable[[Path, Given], None]] = {
    "model signature": model_signature,
    "structure": structure,
    "files can be parsed": readable,
    "hashes": hashes,
    "signature": signature,
    "version in changelog": changelog,
    "exact pins": pins,
    "metadata schema": schema_of_metadata,
}
