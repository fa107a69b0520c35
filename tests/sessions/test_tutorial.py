"""The first tutorial as a reader follows it: its commands run in their order and print what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bundle.command_line.cli import main

pytestmark = pytest.mark.session

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first_prediction.md").read_text()
COMMANDS = re.findall(r"^python -m bundle (.*)$", PAGE, re.MULTILINE)
SHOWN = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0].splitlines()
FILES = re.findall(r"`(PREDICTIONS/[^`]*)`", PAGE)
NUMBER = re.compile(r"\d+\.\d+")


def test_the_commands_of_the_first_tutorial_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = ""
    for command in COMMANDS:
        assert main(shlex.split(command)) == 0, command
        printed += "".join(capsys.readouterr())
    absent = [shown for shown in SHOWN if not any(alike(line, shown) for line in printed.splitlines())]
    assert not absent, printed
    assert FILES and all((tmp_path / name).is_file() for name in FILES)


def alike(line: str, shown: str) -> bool:
    """Whether two lines differ only in the last digits of numbers, as they may on another processor."""
    pairs = zip(map(float, NUMBER.findall(line)), map(float, NUMBER.findall(shown)), strict=False)
    same_words = NUMBER.sub("", line).split() == NUMBER.sub("", shown).split()
    return same_words and all(abs(one - other) <= 0.02 * max(1.0, other) for one, other in pairs)
