"""Sessions that are too slow, or need too much, for `make test`."""

import nox

nox.options.sessions = ["tests", "lint"]


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, in an environment of their own."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy", "scripts", "bundle")


@nox.session
def hostile(session: nox.Session) -> None:
    """The whole malformed corpus against predictor, command line and service; HTTP as it should not be."""
    run_suite(session, "test_hostile.py")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Requests made from the service's own description."""
    run_suite(session, "test_fuzz.py", "schemathesis>=4.0")


@nox.session
def load(session: nox.Session) -> None:
    """64 clients and 2,000 requests, then 256 clients; minutes."""
    run_suite(session, "test_load.py")


@nox.session
def browser(session: nox.Session) -> None:
    """The page in Debian's chromium (apt install chromium chromium-driver)."""
    run_suite(session, "test_browser.py")


@nox.session
def exports(session: nox.Session) -> None:
    """Every format of export, Triton's layout, and all gates of a model zoo on the packed folder."""
    session.install("-e", ".[dev]", "tritonclient", "protobuf", "grpcio")
    files = ("tests/bundle/test_export.py", "tests/bundle/test_verify.py")
    session.run("pytest", "-m", "session or not session", *files, *session.posargs)


def run_suite(session: nox.Session, name: str, *packages: str) -> None:
    """A slow suite, in an environment of its own."""
    session.install("-e", ".[dev]", *packages)
    session.run("pytest", "-m", "session", f"tests/sessions/{name}", *session.posargs)
