"""How much is done at a time: scans are decoded a few at a time, passed through the network one by one, others wait."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ..errors import UserError
from ..intake import IntakeError
from ..predictor import Predictor
from .metrics import Metrics
from .problems import Problem
from .responses import PredictionResponse, response_of
from .settings import Settings

__all__ = ["Job", "JobQueue", "PredictionRequest"]


@dataclass(frozen=True)
class PredictionRequest:
    """What is asked about one scan.

    Args:
        content: bytes of its file.
        include_cam: show where the probability comes from.
        include_uncertainty: say how sure mask and probability are.
        dicom: encode the mask as DICOM SEG.
    """

    content: bytes
    include_cam: bool = False
    include_uncertainty: bool = False
    dicom: bool = False


@dataclass
class Job:
    """One scan that is worked on, or was.

    Args:
        id: nobody can guess it.
        future: ends with the prediction, or the problem.
        ended: when it did, by the monotonic clock.
    """

    id: str
    future: asyncio.Future[PredictionResponse]
    ended: float | None = None


class JobQueue:
    """The queue of scans, and the threads that process it.

    Args:
        settings: of the service.
        metrics: where scans are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self.decoders = ThreadPoolExecutor(settings.decoders, thread_name_prefix="decode")
        self.network = ThreadPoolExecutor(1, thread_name_prefix="network")
        self.room = asyncio.Semaphore(settings.decoders + 1)  # what is decoded is large and waits for the network
        self.jobs: dict[str, Job] = {}
        self.waiting = 0

    def close(self) -> None:
        """Let what has begun end, and begin nothing more."""
        self.decoders.shutdown(wait=True, cancel_futures=True)
        self.network.shutdown(wait=True, cancel_futures=True)

    async def predict(self, predictor: Predictor, asked: PredictionRequest) -> PredictionResponse | Job:
        """Predict a scan, or say after a while which job will.

        Raises:
            Problem: when the scan is refused, or too many wait.
        """
        job = self.begin(predictor, asked)
        try:
            return await asyncio.wait_for(asyncio.shield(job.future), self.settings.patience_s)
        except TimeoutError:
            self.forget_old()
            self.jobs[job.id] = job
            return job
        except asyncio.CancelledError:  # nobody waits any more
            job.future.cancel()
            raise

    def begin(self, predictor: Predictor, asked: PredictionRequest) -> Job:
        """Put a request into the queue.

        Raises:
            Problem: when it is full.
        """
        if self.waiting >= self.settings.queue:
            raise Problem(503, "overload", "too many scans wait, come back soon", {"Retry-After": "2"})
        self.waiting += 1
        self.metrics.waiting.set(self.waiting)
        future = asyncio.ensure_future(self.process(predictor, asked))
        job = Job(secrets.token_urlsafe(16), future)
        future.add_done_callback(partial(self._ended, job))
        return job

    def _ended(self, job: Job, future: asyncio.Future[PredictionResponse]) -> None:
        job.ended = time.monotonic()
        self.waiting -= 1
        self.metrics.waiting.set(self.waiting)
        if not future.cancelled():
            future.exception()  # seen: a job that nobody asks for is no error

    async def process(self, predictor: Predictor, asked: PredictionRequest) -> PredictionResponse:
        """Decode in one thread, infer in another."""
        loop = asyncio.get_running_loop()
        try:
            async with self.room:
                image = await loop.run_in_executor(self.decoders, predictor.read, asked.content)
                source = asked.content if asked.dicom else None
                arguments = (predictor, image, asked.include_cam, asked.include_uncertainty, source)
                prediction = await loop.run_in_executor(self.network, response_of, *arguments)
        except IntakeError as error:
            self.metrics.refused.labels(error.code).inc()
            raise Problem.of(error) from None
        except UserError:
            self.metrics.refused.labels("unusable").inc()
            raise Problem(422, "unusable", "cannot be prepared for the network") from None
        self.metrics.states.labels(prediction.result["state"]).inc()
        return prediction

    def job(self, id: str) -> Job:
        """A job by its id.

        Raises:
            Problem: when there is none, or no longer.
        """
        self.forget_old()
        if id not in self.jobs:
            raise Problem(404, "no_job", "there is no such job, or no longer")
        return self.jobs[id]

    def forget_old(self) -> None:
        """Drop the jobs whose prediction was kept long enough."""
        oldest = time.monotonic() - self.settings.keep_s
        self.jobs = {id: job for id, job in self.jobs.items() if job.ended is None or job.ended > oldest}
