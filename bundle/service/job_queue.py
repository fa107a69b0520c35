"""The queue: a few scans are decoded at the same time, one passes through the network, the others wait.

Scans wait in lanes by their length, which is estimated from their header. A short one waits for short ones and for one
pass of a longer one through the network, not for the whole of it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ..errors import UserError
from ..intake import IntakeError, Interrupt, Interrupted, MemoryFile, estimate
from ..predictor import Predictor
from .metrics import Metrics
from .problems import Problem
from .responses import PredictionResponse, response_of
from .settings import LONGER_LANES, Settings
from .turns import Turn, Turns
from .upload_room import Upload

__all__ = ["Job", "JobQueue", "PredictionRequest", "lane_of"]

LANE_PASSES = (32, 1024)  # most passes of a slice through the network in the lanes before the last
UNCERTAINTY_PASSES = 9


@dataclass(frozen=True)
class PredictionRequest:
    """A request to predict one scan.

    Args:
        content: its file.
        include_cam: add the class activation map (CAM).
        include_uncertainty: add Monte-Carlo dropout deviations.
        dicom: encode the mask as DICOM SEG.
        upload: the room of its bytes, kept until the scan is processed.
    """

    content: bytes | MemoryFile
    include_cam: bool = False
    include_uncertainty: bool = False
    dicom: bool = False
    upload: Upload | None = None


@dataclass
class Job:
    """The job of one scan.

    Args:
        id: random, cannot be guessed.
        future: the prediction, or the problem.
        ended: time of its end, by the monotonic clock.
    """

    id: str
    future: asyncio.Future[PredictionResponse]
    ended: float | None = None


class Lane:
    """Threads of scans of similar length.

    Args:
        decoders: scans that are decoded at the same time.
    """

    def __init__(self, decoders: int) -> None:
        self.decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self.network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.room = asyncio.Semaphore(decoders + 1)  # limits how many decoded scans wait in memory
        self.waiting = 0

    def close(self) -> None:
        """Finish running scans; start no others."""
        self.decoders.shutdown(wait=True, cancel_futures=True)
        self.network.shutdown(wait=True, cancel_futures=True)


def lane_of(wanted: PredictionRequest) -> int:
    """The lane of a request: 0 for the shortest."""
    slices, is_large = estimate(wanted.content)
    passes = slices * (UNCERTAINTY_PASSES if wanted.include_uncertainty else 1)
    return max(int(is_large), sum(passes > most for most in LANE_PASSES))


class JobQueue:
    """The queue of scans, and the threads that process it.

    Args:
        settings: of the service.
        metrics: where scans are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.turns, self.running = Turns(), set[Interrupt]()
        self.lanes = [Lane(settings.decoders), *(Lane(1) for _ in range(LONGER_LANES))]
        self.jobs: dict[str, Job] = {}
        self.waiting = 0

    def close(self) -> None:
        """End running scans at their next pass through the network; start no others."""
        for interrupt in list(self.running):
            interrupt.set()
        for lane in self.lanes:
            lane.close()

    async def predict(self, predictor: Predictor, wanted: PredictionRequest) -> PredictionResponse | Job:
        """Predict a scan; return its job if it takes longer than `patience_s`.

        Raises:
            Problem: when the scan is refused, or too many wait.
        """
        job = self.begin(predictor, wanted)
        try:
            return await asyncio.wait_for(asyncio.shield(job.future), self.settings.patience_s)
        except TimeoutError:
            self.forget_old()
            self.jobs[job.id] = job
            return job
        except asyncio.CancelledError:  # the client has disconnected
            job.future.cancel()
            raise

    def begin(self, predictor: Predictor, wanted: PredictionRequest) -> Job:
        """Put a request into the queue.

        Raises:
            Problem: when it is full, or the part of it that longer scans may fill.
        """
        number = lane_of(wanted)
        lane = self.lanes[number]
        if self.waiting >= self.settings.queue or lane.waiting >= max(1, self.settings.queue >> number):
            raise Problem(503, "overload", "too many scans are waiting, try again soon", {"Retry-After": "2"})
        self.waiting += 1
        lane.waiting += 1
        self.metrics.waiting.set(self.waiting)
        if wanted.upload is not None:
            wanted.upload.keep()
        future = asyncio.ensure_future(self.process(predictor, wanted, number))
        job = Job(secrets.token_urlsafe(16), future)
        future.add_done_callback(partial(self._ended, job, wanted, lane))
        return job

    def _ended(
        self, job: Job, wanted: PredictionRequest, lane: Lane, future: asyncio.Future[PredictionResponse]
    ) -> None:
        job.ended = time.monotonic()
        if wanted.upload is not None:
            wanted.upload.release()
        self.waiting -= 1
        lane.waiting -= 1
        self.metrics.waiting.set(self.waiting)
        if not future.cancelled():
            future.exception()  # marks it as retrieved: asyncio would log it

    async def process(self, predictor: Predictor, wanted: PredictionRequest, number: int) -> PredictionResponse:
        """Decode in one thread of a lane, infer in another; end both when the job is cancelled."""
        loop, interrupt = asyncio.get_running_loop(), Interrupt()
        lane, turn = self.lanes[number], Turn(self.turns, number, interrupt, self.settings.inference_s)
        self.running.add(interrupt)
        try:
            async with lane.room:
                read = partial(predictor.read, wanted.content, interrupt=interrupt)
                image = await loop.run_in_executor(lane.decoders, read)
                source = wanted.content if wanted.dicom else None
                arguments = (predictor, image, wanted.include_cam, wanted.include_uncertainty, source, turn)
                prediction = await loop.run_in_executor(lane.network, response_of, *arguments)
        except asyncio.CancelledError:
            interrupt.set()
            raise
        except IntakeError as error:
            self.metrics.refused.labels(error.code).inc()
            raise Problem.of(error) from None
        except UserError:
            self.metrics.refused.labels("unusable").inc()
            raise Problem(422, "unusable", "cannot be prepared for the network") from None
        except Interrupted:
            raise Problem(503, "ended", "the service is being stopped", {"Retry-After": "5"}) from None
        finally:
            self.running.discard(interrupt)
        self.metrics.states.labels(prediction.result["state"]).inc()
        return prediction

    def job(self, id: str) -> Job:
        """A job by its id.

        Raises:
            Problem: when there is no such job, or it has expired.
        """
        self.forget_old()
        if id not in self.jobs:
            raise Problem(404, "no_job", "no such job, or its prediction has expired")
        return self.jobs[id]

    def forget_old(self) -> None:
        """Remove expired jobs."""
        oldest = time.monotonic() - self.settings.keep_s
        self.jobs = {id: job for id, job in self.jobs.items() if job.ended is None or job.ended > oldest}
