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
from .responses import Answer, answer_of
from .settings import Settings

__all__ = ["Job", "Wish", "Work"]


@dataclass(frozen=True)
class Wish:
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
        future: ends with the answer, or the problem.
        ended: when it did, by the monotonic clock.
    """

    id: str
    future: asyncio.Future[Answer]
    ended: float | None = None


class Work:
    """The queue, and the threads that work it off.

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

    async def answer(self, predictor: Predictor, wish: Wish) -> Answer | Job:
        """Answer a wish, or say after a while under which job it will be answered.

        Raises:
            Problem: when the scan is refused, or too many wait.
        """
        job = self.begin(predictor, wish)
        try:
            return await asyncio.wait_for(asyncio.shield(job.future), self.settings.patience_s)
        except TimeoutError:
            self.forget_old()
            self.jobs[job.id] = job
            return job
        except asyncio.CancelledError:  # nobody waits any more
            job.future.cancel()
            raise

    def begin(self, predictor: Predictor, wish: Wish) -> Job:
        """Put a wish into the queue.

        Raises:
            Problem: when it is full.
        """
        if self.waiting >= self.settings.queue:
            raise Problem(503, "overload", "too many scans wait, come back soon", {"Retry-After": "2"})
        self.waiting += 1
        self.metrics.waiting.set(self.waiting)
        future = asyncio.ensure_future(self.work_off(predictor, wish))
        job = Job(secrets.token_urlsafe(16), future)
        future.add_done_callback(partial(self._ended, job))
        return job

    def _ended(self, job: Job, future: asyncio.Future[Answer]) -> None:
        job.ended = time.monotonic()
        self.waiting -= 1
        self.metrics.waiting.set(self.waiting)
        if not future.cancelled():
            future.exception()  # seen: a job that nobody asks for is no error

    async def work_off(self, predictor: Predictor, wish: Wish) -> Answer:
        """Decode in one thread, infer in another."""
        loop = asyncio.get_running_loop()
        try:
            async with self.room:
                image = await loop.run_in_executor(self.decoders, predictor.read, wish.content)
                samples = self.settings.samples if wish.include_uncertainty else 0
                source = wish.content if wish.dicom else None
                asked = (predictor, image, wish.include_cam, samples, source)
                answer = await loop.run_in_executor(self.network, answer_of, *asked)
        except IntakeError as error:
            self.metrics.refused.labels(error.code).inc()
            raise Problem.of(error) from None
        except UserError:
            self.metrics.refused.labels("unusable").inc()
            raise Problem(422, "unusable", "cannot be prepared for the network") from None
        self.metrics.states.labels(answer.result["state"]).inc()
        return answer

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
        """Drop the jobs whose answer was kept long enough."""
        oldest = time.monotonic() - self.settings.keep_s
        self.jobs = {id: job for id, job in self.jobs.items() if job.ended is None or job.ended > oldest}
