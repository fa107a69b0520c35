"""Requests made from the service's own description: whatever they hold, the service does not fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sessions.serving import process

pytestmark = pytest.mark.session


@pytest.fixture(scope="module")
def service(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with process("serve", log, "/readyz", "--model", str(weights)) as (address, _):
        yield address
    assert "Traceback" not in log.read_text() and " failed: " not in log.read_text()


def test_no_endpoint_fails_on_random_input(service: str) -> None:
    import subprocess
    import sys

    examples = ["--max-examples", "500", "--seed", "0", "--checks", "not_a_server_error,content_type_conformance"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service}/openapi.json", *examples]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
