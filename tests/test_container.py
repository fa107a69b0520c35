"""The container is as its linters want it, and does nothing that is not a make target."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bundle.command_line.cli import main, parser

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def tool(name: str) -> str:
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed, make setup installs it"
    return found


@pytest.mark.parametrize(
    "command",
    [["hadolint", "Dockerfile"], ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]],
    ids=["Dockerfile", "compose.yaml"],
)
def test_linters_find_nothing(command: list[str]) -> None:
    done = subprocess.run([tool(command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_only_make_targets_and_bundle_commands() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^RUN make ([a-z]+)$", DOCKERFILE, re.MULTILINE)) == {"install"} <= targets
    commands = [re.findall(r'"([^"]+)"', line) for line in re.findall(r"CMD (\[.*\])", DOCKERFILE)]
    commands += [COMPOSE["services"]["ui"]["command"], COMPOSE["services"]["ui"]["healthcheck"]["test"][1:]]
    for words in commands:
        assert words[:3] == ["python", "-m", "bundle"] and parser().parse_args(words[3:])


def test_the_container_is_unprivileged_read_only_and_local() -> None:
    assert re.search(r"^USER (?!root|0$)", DOCKERFILE, re.MULTILINE)
    for service in COMPOSE["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["environment"]["BUNDLE_TOKEN"].startswith("${BUNDLE_TOKEN:?")


def test_every_copied_file_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists() and f"!{name}" in ignored


def test_health_without_a_service_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--port", "1"]) == 2
    assert (
        capsys.readouterr().err
        == "error: 127.0.0.1:1: does not respond (ConnectionRefusedError); start it: python -m bundle serve\n"
    )


@pytest.mark.parametrize("command", ["serve", "ui"])
def test_other_hosts_need_a_token(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUNDLE_TOKEN", raising=False)
    assert main([command, "--host", "0.0.0.0"]) == 2
    assert "0.0.0.0: other machines can reach this address; set BUNDLE_TOKEN" in capsys.readouterr().err
