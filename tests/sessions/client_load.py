"""Many clients of a service at a time, and the memory and files that a service uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import httpx2
import numpy as np
import psutil

PATH = "/predict_multitask"


class Reply(NamedTuple):
    """The response to one request.

    Args:
        which: position of the file that was sent.
        status: of HTTP.
        seconds: from sending to the last byte.
        content: the body.
        headers: of the response.
    """

    which: int
    status: int
    seconds: float
    content: bytes
    headers: httpx2.Headers


async def ask(address: str, files: Sequence[bytes], clients: int, requests: int) -> list[Reply]:
    """Send `requests` requests by `clients` clients, each of which sends the next when it has its response.

    A client whose prediction takes longer than a request may asks for its job, as often as the service says.
    """
    numbers, found = iter(range(requests)), list[Reply]()

    async def loop(client: httpx2.AsyncClient) -> None:
        for number in numbers:
            which, start = number % len(files), time.monotonic()
            response = await client.post(PATH, content=files[which])
            while response.status_code == httpx2.codes.ACCEPTED:
                await asyncio.sleep(int(response.headers["Retry-After"]))
                response = await client.get(response.headers["Location"])
            found.append(
                Reply(which, response.status_code, time.monotonic() - start, response.content, response.headers),
            )

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        await asyncio.gather(*(loop(client) for _ in range(clients)))
    return found


def quantile(found: Sequence[Reply], q: float) -> float:
    """Of the seconds."""
    return float(np.quantile([reply.seconds for reply in found], q))


class Cost(NamedTuple):
    """What a process holds: resident MiB, open file descriptors, threads, children."""

    mib: float
    files: int
    threads: int
    children: int


def cost(process: psutil.Process) -> Cost:
    """What a service holds now."""
    with process.oneshot():
        mib = process.memory_info().rss / 2**20
        return Cost(mib, process.num_fds(), process.num_threads(), len(process.children(recursive=True)))
