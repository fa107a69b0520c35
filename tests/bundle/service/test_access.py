"""Host names, tokens and addresses: who may ask, and what is never asked or repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from bundle.errors import UserError
from bundle.service import Settings
from bundle.service.access import Allowance, host_name
from bundle.service.app import Service, create_app
from bundle.service.settings import require_safe

TOKEN = "s3cret-of-the-tests"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service without weights and token."""
    monkeypatch.setattr(Service, "load", lambda self: None)
    with TestClient(create_app(Settings()), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A service with a token that answers 3 wrong ones in a minute."""
    monkeypatch.setattr(Service, "load", lambda self: None)
    with TestClient(create_app(Settings(token=TOKEN, wrong_tokens=3)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("LocalHost:8000", "localhost"),
        ("[::1]", "[::1]"),
        ("[::1]:8000", "[::1]"),
        ("[::1]evil", None),
        ("[::1].evil.example", None),
        ("[::1]:80evil", None),
        ("localhost:evil", None),
        ("localhost:80:80", None),
        ("localhost@evil.example", None),
        ("evil.example/localhost", None),
        ("localhost evil", None),
        ("-evil", None),
        ("", None),
    ],
)
def test_a_host_name_is_read_in_one_way(host: str, name: str | None) -> None:
    assert host_name(Headers({"Host": host})) == name


def test_two_host_names_are_none() -> None:
    assert host_name(Headers(raw=[(b"host", b"localhost"), (b"host", b"evil.example")])) is None
    assert host_name(Headers({})) is None


@pytest.mark.parametrize("host", ["[::1]evil", "evil.example", "127.0.0.1.evil.example", "localhost:80@evil"])
def test_foreign_hosts_are_refused_and_never_repeated(bare: TestClient, host: str) -> None:
    for path in ("/livez", "/predict_multitask/", "/docs"):
        answer = bare.get(path, headers={"Host": host}, follow_redirects=False)
        assert answer.status_code == 400 and answer.json()["code"] == "host"
        assert "evil" not in answer.text + str(answer.headers)


def test_no_redirect_repeats_the_host(guarded: TestClient) -> None:
    for path in ("/livez/", "/predict_multitask/", "/model/info/"):
        answer = guarded.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
        assert answer.status_code == 404 and "evil" not in answer.text + str(answer.headers)


def test_the_description_asks_no_outside_address(bare: TestClient) -> None:
    page = bare.get("/docs")
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert page.status_code == 200 and addresses and "http" not in "".join(addresses)
    assert {bare.get(address).status_code for address in addresses} == {200}


@pytest.mark.parametrize("token", ["", "   ", " " * 20, "short", "fifteen-of-them", "sixteen of them.", "ünicode-" * 3])
def test_weak_tokens_are_refused_in_one_line_without_themselves(token: str) -> None:
    with pytest.raises(UserError, match=r"^BUNDLE_TOKEN: ") as refused:
        require_safe(Settings(token=token))
    text = str(refused.value)
    assert "\n" not in text and "token_urlsafe" in text and (not token.strip() or token not in text)
    require_safe(Settings(token="sixteen-of-them."))


def test_wrong_tokens_are_limited_and_lock_nobody_out(guarded: TestClient) -> None:
    def status(words: str) -> int:
        return guarded.get("/metrics", headers={"Authorization": words}).status_code

    assert [status(f"Bearer wrong{number}") for number in range(5)] == [401, 401, 401, 429, 429]
    assert guarded.get("/metrics", headers={"Authorization": "Bearer x"}).headers["retry-after"] == "60"
    assert status(f"Bearer {TOKEN}") == 200
    assert guarded.get("/metrics").status_code == 401, "none is not a guess"


def test_an_allowance_is_by_key_and_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("bundle.service.access.time.monotonic", lambda: now[0])
    allowance = Allowance(1, keys=2)
    assert [allowance.take(key) for key in "aab"] == [True, False, True]
    assert [allowance.take(key) for key in "cd"] == [True, False], "beyond the remembered keys all share one count"
    now[0] += 61.0
    assert allowance.take("a")
