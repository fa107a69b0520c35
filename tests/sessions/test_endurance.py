"""A service that runs for long, among clients that are slow, leave, or are there when it starts and ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest

from tests.sessions.client_load import PATH, Cost, Reply, ask, cost, quantile
from tests.sessions.serving import process

pytestmark = [pytest.mark.session, pytest.mark.timeout(3600)]

SOAK, STEPS = 10_000, 10
SLOW, SLOW_S = 200, 60.0
LEAVING = 100


class Running:
    """A service: its address, its process, its log, and the only folder for its temporary files."""

    def __init__(self, address: str, pid: int, log: Path, scratch: Path) -> None:
        self.address, self.process, self.log, self.scratch = address, psutil.Process(pid), log, scratch

    def left_behind(self) -> list[Path]:
        """Files in the scratch folder."""
        return [path for path in self.scratch.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def service(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "scratch").mkdir()
    log, scratch = folder / "log.txt", folder / "scratch"
    with process("serve", log, "/readyz", "--model", str(weights), TMPDIR=str(scratch)) as (address, started):
        yield Running(address, started.pid, log, scratch)
    assert "ERROR" not in log.read_text() and "WARNING" not in log.read_text()
    assert [path for path in scratch.rglob("*") if path.is_file()] == []


def test_200_slow_uploads_are_ended_without_delaying_others(service: Running, pictures: list[bytes]) -> None:
    host, _, port = service.address.removeprefix("http://").partition(":")
    head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n".encode()
    lasted: list[float] = []
    responses: Counter[bytes] = Counter()

    async def slowly(until: float) -> None:
        while time.monotonic() < until:
            reader, writer = await asyncio.open_connection(host, int(port))
            start, response = time.monotonic(), asyncio.ensure_future(reader.read())
            try:
                writer.write(head)
                while not response.done():
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.wait([response], timeout=1)
                responses[(await response)[:12]] += 1
            except OSError:  # it was cut while a byte was on its way
                responses[b""] += 1
            finally:
                response.cancel()
                writer.close()
            lasted.append(time.monotonic() - start)

    async def together() -> list[Reply]:
        until = time.monotonic() + SLOW_S
        tasks = [asyncio.ensure_future(slowly(until)) for _ in range(SLOW)]
        found: list[Reply] = []
        while time.monotonic() < until:
            found += await ask(service.address, pictures, 8, 64)
        await asyncio.gather(*tasks)
        return found

    alone = asyncio.run(ask(service.address, pictures, 8, 256))
    among = asyncio.run(together())
    assert {reply.status for reply in among} == {200}
    assert {(reply.which, reply.content) for reply in among} == {(reply.which, reply.content) for reply in alone}
    ratio = quantile(among, 0.99) / quantile(alone, 0.99)
    print(
        f"{len(lasted)} slow uploads cut after {min(lasted):.1f} to {max(lasted):.1f} s: {dict(responses)};"
        f" p99 {ratio:.2f} of that without them"
    )
    assert ratio <= 2
    assert len(lasted) >= SLOW and min(lasted) > 9 and max(lasted) < 15
    assert set(responses) <= {b"HTTP/1.1 408", b""} and responses[b"HTTP/1.1 408"] > len(lasted) / 2


@pytest.mark.parametrize("when", ["upload", "inference"])
def test_disconnected_clients_free_their_resources(service: Running, pictures: list[bytes], when: str) -> None:
    host, _, port = service.address.removeprefix("http://").partition(":")
    picture = pictures[0]
    request = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(picture)}\r\n\r\n".encode() + picture

    async def leave(number: int) -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(request[: -1 - number] if when == "upload" else request)
        await writer.drain()
        await asyncio.sleep(0.01 * (number % 10))
        writer.transport.abort()

    async def all_of_them() -> None:
        for start in range(0, LEAVING, 20):
            await asyncio.gather(*(leave(number) for number in range(start, start + 20)))

    expected = asyncio.run(ask(service.address, [picture], 8, 32))[0].content
    before = cost(service.process)
    asyncio.run(all_of_them())
    assert asyncio.run(ask(service.address, [picture], 1, 20))[-1].content == expected
    assert _settled(service.process, before), f"{before} became {cost(service.process)}"
    assert service.left_behind() == []


def _settled(process: psutil.Process, before: Cost) -> bool:
    """Whether a service comes to hold no more than before; connections take a moment to end."""
    for _ in range(40):
        now = cost(process)
        if now.files <= before.files and now.threads <= before.threads and now.children <= before.children:
            return True
        time.sleep(0.5)
    return False


def test_ten_thousand_requests_leak_nothing(service: Running, pictures: list[bytes]) -> None:
    held: list[Cost] = []
    for _ in range(STEPS):
        found = asyncio.run(ask(service.address, pictures, 8, SOAK // STEPS))
        assert Counter(reply.status for reply in found) == {200: SOAK // STEPS}
        time.sleep(6)  # connections that are kept alive end after five seconds
        held.append(cost(service.process))
    slope = float(np.polyfit(range(1, STEPS), [now.mib for now in held[1:]], 1)[0])
    print(f"{slope:+.3f} MiB per {SOAK // STEPS} requests; {held[0]} became {held[-1]}")
    assert slope < 1
    assert max(now.files for now in held) - min(now.files for now in held) <= 2
    assert len({now.threads for now in held[1:]}) == len({now.children for now in held}) == 1
    assert service.left_behind() == []


@pytest.mark.parametrize("run", range(5))
def test_the_server_restarts_under_load(run: int, weights: Path, pictures: list[bytes], tmp_path: Path) -> None:
    log, statuses = tmp_path / "log.txt", list[int]()

    async def clients(address: str, end: asyncio.Event) -> None:
        async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
            while not end.is_set():
                try:
                    statuses.append((await client.post(PATH, content=pictures[0])).status_code)
                except httpx2.TransportError:
                    statuses.append(0)  # not listening yet, or no longer
                    await asyncio.sleep(0.05)

    with process("serve", log, "/livez", "--model", str(weights)) as (address, started):

        async def life() -> int:
            end = asyncio.Event()
            tasks = [asyncio.ensure_future(clients(address, end)) for _ in range(16)]
            while statuses.count(200) < 32:
                await asyncio.sleep(0.1)
            started.send_signal(signal.SIGTERM)
            start = time.monotonic()
            while started.poll() is None and time.monotonic() - start < 40:
                await asyncio.sleep(0.1)
            end.set()
            await asyncio.gather(*tasks)
            return started.poll()

        assert asyncio.run(life()) == 0
    first = statuses.index(200)
    assert set(statuses[:first]) <= {503} and set(statuses[first:]) <= {200, 0, 503}
    assert "Traceback" not in log.read_text() and "ERROR" not in log.read_text()
