"""Many clients at a time: the same answers, nobody forgotten, and a plain word when it is too much. Ratios only."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from tests.sessions.serving import process

pytestmark = pytest.mark.session

CLIENTS, REQUESTS = 64, 2000


@pytest.fixture(scope="module")
def service(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with process("serve", log, "/readyz", "--model", str(weights)) as (address, _):
        yield address


async def ask(address: str, pictures: list[bytes], clients: int, requests: int) -> list[tuple[int, int, float, bytes]]:
    """Closed loops of clients: picture, status, seconds, body of every request."""
    numbers, found = iter(range(requests)), []

    async def loop(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            which, start = number % len(pictures), time.monotonic()
            answer = await client.post("/predict_multitask", content=pictures[which])
            found.append((which, answer.status_code, time.monotonic() - start, answer.content))

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        await asyncio.gather(*(loop(client) for _ in range(clients)))
    return found


def test_64_clients_get_what_one_gets(service: str, pictures: list[bytes]) -> None:
    serial = asyncio.run(ask(service, pictures, 1, 5 * len(pictures)))
    expected = {which: body for which, _, _, body in serial}
    single = statistics.median(seconds for _, _, seconds, _ in serial)
    start = time.monotonic()
    found = asyncio.run(ask(service, pictures, CLIENTS, REQUESTS))
    seconds = time.monotonic() - start
    assert Counter(status for _, status, _, _ in found) == {200: REQUESTS}
    assert all(body == expected[which] for which, _, _, body in found)
    p99 = float(np.quantile([s for _, _, s, _ in found], 0.99))
    print(
        f"single {single:.3f} s, p99 {p99 / single:.1f} singles, throughput {REQUESTS / seconds * single:.2f} of serial"
    )
    assert p99 <= 1.5 * CLIENTS * single


def test_256_clients_are_answered_or_told_to_come_back(service: str, pictures: list[bytes]) -> None:
    found = asyncio.run(ask(service, pictures, 256, 1024))
    statuses = Counter(status for _, status, _, _ in found)
    assert set(statuses) <= {200, 503} and statuses[200] > 0 and sum(statuses.values()) == 1024
    again = asyncio.run(ask(service, pictures, 1, 4))
    assert [status for _, status, _, _ in again] == [200] * 4
