"""Many clients at a time: the same predictions, and a clear status when there are too many. Only ratios are tested."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundle.intake import STATUS
from tests.hostile import OK, sample
from tests.sessions.client_load import Reply, ask, quantile
from tests.sessions.serving import process

pytestmark = [pytest.mark.session, pytest.mark.timeout(3600)]

CLIENTS, REQUESTS = 64, 2000
HOSTILE_CLIENTS = 16


@pytest.fixture(scope="module")
def service(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with process("serve", log, "/readyz", "--model", str(weights)) as (address, _):
        yield address
    assert "ERROR" not in log.read_text()


@dataclass
class Measured:
    """What the same machine did in the same run, with good requests alone.

    Args:
        single: median seconds of one request at a time.
        expected: body of the prediction to every picture.
        found: replies to 64 clients.
        seconds: that all of these took.
    """

    single: float
    expected: list[bytes]
    found: list[Reply]
    seconds: float


@pytest.fixture(scope="module")
def good(service: str, pictures: list[bytes]) -> Measured:
    serial = asyncio.run(ask(service, pictures, 1, 5 * len(pictures)))
    single = statistics.median(reply.seconds for reply in serial)
    start = time.monotonic()
    found = asyncio.run(ask(service, pictures, CLIENTS, REQUESTS))
    return Measured(single, [reply.content for reply in serial[: len(pictures)]], found, time.monotonic() - start)


def test_64_clients_get_the_prediction_of_one(good: Measured) -> None:
    assert Counter(reply.status for reply in good.found) == {200: REQUESTS}
    assert all(reply.content == good.expected[reply.which] for reply in good.found)
    p99, throughput = quantile(good.found, 0.99) / good.single, REQUESTS / good.seconds * good.single
    print(f"single {good.single:.3f} s, p99 {p99:.1f} singles, throughput {throughput:.2f} of serial")
    assert p99 <= 1.5 * CLIENTS and throughput >= 0.8


def test_malformed_files_do_not_affect_other_requests(service: str, pictures: list[bytes], good: Measured) -> None:
    cases = [case for case in sample(2 * HOSTILE_CLIENTS, seed=3) if case.bytes()]  # no byte is no file
    files = [case.bytes() for case in cases]

    async def together() -> tuple[list[Reply], list[Reply]]:
        clients = CLIENTS - HOSTILE_CLIENTS
        return tuple(
            await asyncio.gather(
                ask(service, pictures, clients, REQUESTS // 2), ask(service, files, HOSTILE_CLIENTS, REQUESTS // 4)
            )
        )

    kind, hostile = asyncio.run(together())
    assert Counter(reply.status for reply in kind) == {200: REQUESTS // 2}
    assert all(reply.content == good.expected[reply.which] for reply in kind)
    for reply in hostile:
        allowed = {200 if code == OK else STATUS[code] for code in cases[reply.which].expected}
        assert reply.status in allowed, cases[reply.which]
    ratio = quantile(kind, 0.99) / quantile(good.found, 0.99)
    print(f"p99 {ratio:.2f} of good requests alone; hostile {dict(Counter(reply.status for reply in hostile))}")
    assert ratio <= 2


def test_256_clients_get_a_prediction_or_retry_after(service: str, pictures: list[bytes], good: Measured) -> None:
    found = asyncio.run(ask(service, pictures, 256, 1024))
    statuses = Counter(reply.status for reply in found)
    assert set(statuses) == {200, 503} and sum(statuses.values()) == 1024
    assert all(int(reply.headers["Retry-After"]) > 0 for reply in found if reply.status == 503)
    again = asyncio.run(ask(service, pictures, 1, len(pictures)))
    assert [reply.content for reply in again] == good.expected
