"""The bytes of all uploads together are bounded as they arrive, and given back."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import Counter
from contextlib import suppress

import pytest

from bundle.intake import MemoryFile
from bundle.intake.limits import MIB
from bundle.service import Settings
from bundle.service.job_queue import JobQueue, PredictionRequest
from bundle.service.metrics import Metrics
from bundle.service.problems import Problem
from bundle.service.responses import PredictionResponse
from bundle.service.upload_room import Upload, UploadRoom
from tests.bundle.service.loopback import Running, received, running

LENGTH = 8 * MIB


def upload(service: Running, sent: int, statuses: list[bytes], go_on: threading.Event, length: int = LENGTH) -> None:
    """Send some bytes of a body, and the status that comes."""
    head = f"POST /predict_multitask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
    answer = b""
    with service.connect() as client, suppress(OSError):
        client.sendall(head.encode())
        for _ in range(sent // MIB):
            client.sendall(bytes(MIB))
        go_on.wait(20)
        client.settimeout(5)
        answer = received(client)
    statuses.append(answer[9:12])


def test_uploads_are_bounded_together_while_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses, taken, go_on = list[bytes](), [0], threading.Event()
    take = UploadRoom.take

    def noted(self: UploadRoom, count: int) -> None:
        take(self, count)
        taken.append(self.taken)

    monkeypatch.setattr(UploadRoom, "take", noted)
    with running(monkeypatch, upload_bytes=3 * LENGTH, upload_s=2.0) as service:
        clients = [threading.Thread(target=upload, args=(service, LENGTH - MIB, statuses, go_on)) for _ in range(20)]
        for one in clients:
            one.start()
        go_on.set()
        for one in clients:
            one.join(30)
        assert max(taken) <= 3 * LENGTH
        counted = Counter(statuses)
        assert counted[b"503"] >= 15 and set(counted) <= {b"503", b"408"}
        assert service.status() == 200
        upload(service, LENGTH, statuses, go_on)
        assert statuses[-1] == b"503" and taken[-1] == LENGTH, "of weights that are not loaded: all room was given back"


def test_a_declared_length_without_room_is_refused_before_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(monkeypatch, upload_bytes=LENGTH) as service:
        with service.connect() as client:
            client.sendall(
                f"POST /predict_multitask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {LENGTH + 1}\r\n\r\n".encode()
            )
            answer = received(client)
        assert b" 503 " in answer and b'"overload"' in answer and b"retry-after: 2" in answer.lower()


def test_without_an_open_file_for_a_scan_the_service_is_overloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with running(monkeypatch) as service:
        monkeypatch.setattr("bundle.intake.memory_file._opened", fail)
        answer = service.ask(
            b"POST /predict_multitask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
        )
        assert b" 503 " in answer and b'"overload"' in answer and b"Too many" not in answer


def test_room_is_kept_until_the_last_use_ends() -> None:
    room = UploadRoom(100)
    upload = Upload(room)
    upload.take(60)
    upload.keep()
    upload.release()
    with pytest.raises(Problem) as refused:
        room.take(41)
    assert refused.value.status == 503 and room.taken == 60
    upload.release()
    assert room.taken == 0


class Slow:
    """A stand-in for the predictor."""

    def read(self, _: object, **__: object) -> str:
        return "image"


@pytest.mark.parametrize("leaves", [True, False])
def test_a_scan_keeps_its_room_in_the_queue(monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    monkeypatch.setattr("bundle.service.job_queue.response_of", lambda *_: PredictionResponse({"state": "tumor"}))

    async def run() -> None:
        room = UploadRoom(100)
        queue, upload = JobQueue(Settings(), Metrics()), Upload(room)
        upload.take(10)
        job = queue.begin(Slow(), PredictionRequest(MemoryFile(bytes(10)), upload=upload))  # type: ignore[arg-type]
        upload.release()  # the request has ended
        assert room.taken == 10
        if leaves:
            job.future.cancel()
        with suppress(asyncio.CancelledError):
            await job.future
        await asyncio.sleep(0)
        assert room.taken == 0
        queue.close()

    asyncio.run(run())
