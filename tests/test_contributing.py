"""CONTRIBUTING.md: its files exist, its arrows are the allowed imports, its commands are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bundle.command_line.cli import parser
from tests.test_architecture import ROOMS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
TABLE = PAGE.partition("## To change something")[2].partition("## Run tests")[0]
FILES = sorted(set(re.findall(r"`((?:scripts|bundle|configs|tests|docs)/[^`*]*\.\w+)`", PAGE)))
KEYS = re.findall(r"`(\w+)` in `(configs/\w+\.yaml)`", TABLE)


@pytest.mark.parametrize("name", FILES)
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).is_file()


@pytest.mark.parametrize(("key", "config"), KEYS)
def test_named_keys_are_in_their_config(key: str, config: str) -> None:
    assert re.search(rf"^ *{key}:", (ROOT / config).read_text(), re.MULTILINE)


def test_the_ten_changes_are_in_the_table() -> None:
    rows = [line.split("|")[1].strip() for line in TABLE.splitlines() if line.startswith("| ")]
    for change in (
        *("a file format", "the display threshold", "a loss term", "an encoder", "a metric in the report"),
        *(
            "an endpoint",
            "a source with other or more classes",
            "an augmentation",
            "slices to a volume",
            "an export format",
        ),
    ):
        assert any(change in row for row in rows), change


def test_the_arrows_of_the_map_are_allowed_imports() -> None:
    """An arrow over other arrows may be left out."""
    arrows = {
        room: set(targets.replace(" ", "").split("&"))
        for room, targets in re.findall(r'^  (\w+)\["[^\n]*"\] --> ([\w &]+)$', PAGE, re.MULTILINE)
        if room in ROOMS
    }
    assert arrows.keys() == ROOMS.keys() - {"core"}

    def below(room: str) -> set[str]:
        return arrows.get(room, set()).union(*(below(other) for other in arrows.get(room, ())))

    for room, targets in arrows.items():
        assert targets <= ROOMS[room] <= below(room) | targets, room


@pytest.mark.parametrize("command", re.findall(r"`(python -m bundle [^`]*)`", PAGE))
def test_commands_are_valid(command: str) -> None:
    words = command.split()[3:]
    assert parser().parse_args(words).command == words[0]
