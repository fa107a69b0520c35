"""The package's requirements: each written once, extras refer to each other."""

from __future__ import annotations

from collections import Counter
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PARTIAL = {"all", "dev"}  # extras that take others together


def requirements() -> tuple[str, list[Requirement], dict[str, list[Requirement]]]:
    """Name of the package, what it always needs, and its extras."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")

    def parsed(text: str) -> list[Requirement]:
        return [Requirement(line) for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]

    extras = {name: parsed(text) for name, text in config["options.extras_require"].items()}
    return config["metadata"]["name"], parsed(config["options"]["install_requires"]), extras


def test_no_requirement_is_listed_twice() -> None:
    name, always, extras = requirements()
    written = [requirement.name for part in (always, *extras.values()) for requirement in part]
    assert not {found: n for found, n in Counter(written).items() if n > 1 and found != name}


def test_all_takes_every_extra_and_dev_takes_all() -> None:
    name, _, extras = requirements()
    taken = {
        extra: {part for found in extras[extra] if found.name == name for part in found.extras} for extra in extras
    }
    assert taken["all"] == extras.keys() - PARTIAL and taken["dev"] == {"all"}
    assert all(parts <= extras.keys() for parts in taken.values())
