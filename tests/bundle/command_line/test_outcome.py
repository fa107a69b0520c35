"""What commands print: for people, as JSON alone, and when they fail; documented exit codes."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bundle.command_line import commands
from bundle.command_line.cli import main, parser
from bundle.command_line.outcome import Outcome, only_json

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "commands.md").read_text()
ENDLESS = {"serve", "ui"}


def subcommands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


def test_every_command_that_ends_has_json_and_is_documented() -> None:
    with_json = {name for name, sub in subcommands().items() if "--json" in sub.format_help()}
    assert with_json == subcommands().keys() - ENDLESS
    assert set(re.findall(r"^\| `([a-z]+)` \|", PAGE, re.MULTILINE)) == with_json


def test_the_documented_exit_codes_are_those_of_the_commands() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)}
    codes = {commands.NOT_READY, commands.BAD_INPUT, commands.INTERRUPTED, commands.CLOSED, commands.TERMINATED}
    assert documented == {0, *codes}


def test_a_result_is_lines_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome({"report": Path("a/b.json"), "n": 3})
    outcome.show(as_json=False)
    assert capsys.readouterr().out == "\nreport: a/b.json\nn:      3\n"
    outcome.show(as_json=True)
    assert json.loads(capsys.readouterr().out) == {"report": "a/b.json", "n": 3}
    with pytest.raises(TypeError, match="is not JSON"):
        Outcome({"n": {1}}).show(as_json=True)


def test_progress_goes_to_standard_error_with_json(capfd: pytest.CaptureFixture[str]) -> None:
    with only_json(True):
        print("progress")
        subprocess.run(["echo", "of another process"], check=True)
    print("result")
    said = capfd.readouterr()
    assert said.out == "result\n" and {"progress", "of another process"} <= {*said.err.splitlines()}


def test_phantoms_say_where_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantoms", "--output", str(tmp_path), "--patients", "1", "--images", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"volumes": str(tmp_path / "brats"), "images": str(tmp_path / "kaggle")}
    assert len(list(Path(found["images"]).glob("*/*"))) == 2


def test_a_failure_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(tmp_path / "none.pt"), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": said.err.strip().removeprefix("error: "), "code": 2}
    assert "none.pt: no weights here" in said.err


def test_a_reader_that_has_ended_is_no_error() -> None:
    command = [sys.executable, "-m", "bundle", "info"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == commands.CLOSED
