"""Long scans do not hold up short ones, and end when nobody waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from bundle.intake import IntakeError, Interrupt, Interrupted, MemoryFile
from bundle.service import Settings, job_queue
from bundle.service.job_queue import Job, JobQueue, PredictionRequest, lane_of
from bundle.service.metrics import Metrics
from bundle.service.problems import Problem
from bundle.service.responses import PredictionResponse
from bundle.service.turns import MOST_BEFORE, Turn, Turns
from tests.bundle.intake.test_estimate import nifti

PASS_S = 0.01


def turn_of(turns: Turns, lane: int, seconds: float = 60.0) -> Turn:
    return Turn(turns, lane, Interrupt(), seconds)


def run_in(lane: int, passes: int, turns: Turns, order: list[int]) -> None:
    with turn_of(turns, lane) as turn:
        for _ in range(passes):
            turn.between()
            order.append(lane)
            time.sleep(PASS_S)


def test_short_scans_pass_between_the_passes_of_a_long_one() -> None:
    turns, order = Turns(), list[int]()
    long = threading.Thread(target=run_in, args=(2, 60, turns, order))
    long.start()
    time.sleep(3 * PASS_S)
    shorts = [threading.Thread(target=run_in, args=(0, 1, turns, order))]
    for short in shorts:
        short.start()
        short.join(5)
    assert order.count(0) == 1 and order.count(2) < 40
    long.join(10)
    assert order.count(2) == 60


def test_a_long_scan_does_not_wait_for_ever() -> None:
    turns = Turns()
    with turn_of(turns, 0) as turn:
        other = threading.Thread(target=run_in, args=(2, 3, turns, []))
        other.start()
        while 2 not in turns.waiting:
            time.sleep(0.001)
        for _ in range(3 * MOST_BEFORE + 6):
            turn.between()
    other.join(5)
    assert not other.is_alive() and not turns.waiting and not turns.taken


def test_a_turn_ends_when_nobody_waits_or_it_takes_too_long() -> None:
    turns = Turns()
    with pytest.raises(Interrupted), turn_of(turns, 1) as turn:
        turn.interrupt.set()
        turn.between()
    with pytest.raises(IntakeError, match="not predicted within 0 s") as late, turn_of(turns, 1, 0.0) as turn:
        time.sleep(0.001)
        turn.between()
    assert late.value.code == "time_limit" and not turns.taken


class Passes:
    """A stand-in for the predictor: a long scan takes 500 passes, a short one a single pass."""

    def __init__(self) -> None:
        self.passes = 0

    def read(self, content: MemoryFile, interrupt: Interrupt) -> int:
        return 500 if content.size > 1000 else 1

    def respond(self, _: Any, passes: int, cam: bool, uncertainty: bool, source: Any, turn: Turn) -> PredictionResponse:
        with turn:
            for _ in range(passes):
                turn.between()
                self.passes += 1
                time.sleep(PASS_S)
        return PredictionResponse({"state": "tumor"})


LONG = nifti((64, 64, 512))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    found = Passes()
    monkeypatch.setattr(job_queue, "response_of", found.respond)
    return found


def begin(queue: JobQueue, passes: Passes, content: bytes, uncertainty: bool = False) -> Job:
    return queue.begin(passes, PredictionRequest(MemoryFile(content), False, uncertainty))  # type: ignore[arg-type]


def test_a_picture_beside_long_scans_is_soon_predicted(passes: Passes) -> None:
    async def run() -> None:
        queue = JobQueue(Settings(), Metrics())
        longs = [begin(queue, passes, LONG, uncertainty=True) for _ in range(3)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        for _ in range(5):
            await begin(queue, passes, b"\x89PNG\r\n\x1a\n").future
        assert time.monotonic() - began < 1.0 and not any(job.future.done() for job in longs)
        for job in longs:
            job.future.cancel()
        await asyncio.gather(*(job.future for job in longs), return_exceptions=True)
        queue.close()

    asyncio.run(run())


def test_long_scans_do_not_fill_the_queue(passes: Passes) -> None:
    async def run() -> None:
        queue = JobQueue(Settings(queue=8), Metrics())
        longs = [begin(queue, passes, LONG, uncertainty=True) for _ in range(2)]
        with pytest.raises(Problem) as full:
            begin(queue, passes, LONG, uncertainty=True)
        assert full.value.code == "overload"
        await begin(queue, passes, b"\x89PNG\r\n\x1a\n").future
        for job in longs:
            job.future.cancel()
        await asyncio.gather(*(job.future for job in longs), return_exceptions=True)
        await asyncio.sleep(0)
        assert queue.waiting == 0 and not any(lane.waiting for lane in queue.lanes)
        queue.close()

    asyncio.run(run())


def test_a_client_that_leaves_ends_its_inference(passes: Passes) -> None:
    async def run() -> None:
        queue = JobQueue(Settings(), Metrics())
        job = begin(queue, passes, LONG)
        await asyncio.sleep(10 * PASS_S)
        job.future.cancel()
        with suppress(asyncio.CancelledError):
            await job.future
        await asyncio.sleep(3 * PASS_S)
        before = passes.passes
        await asyncio.sleep(10 * PASS_S)
        assert 0 < before == passes.passes < 100 and queue.waiting == 0
        queue.close()

    asyncio.run(run())


def test_a_service_that_is_stopped_does_not_wait_for_a_long_inference(passes: Passes) -> None:
    async def run() -> None:
        queue = JobQueue(Settings(), Metrics())
        job = begin(queue, passes, LONG)
        await asyncio.sleep(10 * PASS_S)
        began = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(None, queue.close)
        assert time.monotonic() - began < 100 * PASS_S
        with pytest.raises(Problem) as ended:
            await job.future
        assert (ended.value.status, ended.value.code) == (503, "ended")

    asyncio.run(run())


def test_an_inference_has_a_time_limit(passes: Passes) -> None:
    async def run() -> None:
        queue = JobQueue(Settings(inference_s=5 * PASS_S), Metrics())
        with pytest.raises(Problem) as late:
            await begin(queue, passes, LONG).future
        assert (late.value.status, late.value.code) == (504, "time_limit")
        queue.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "uncertainty", "lane"),
    [
        (nifti((256, 256)), True, 0),
        (nifti((24, 24, 24)), False, 0),
        (nifti((96, 64, 64)), False, 1),
        (nifti((96, 96, 96)), True, 1),
        (LONG, True, 2),
        (b"no scan", True, 0),
    ],
)
def test_the_lane_is_told_by_slices_and_passes(content: bytes, uncertainty: bool, lane: int) -> None:
    assert lane_of(PredictionRequest(content, include_uncertainty=uncertainty)) == lane
