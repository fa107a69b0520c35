"""Work that several processes share, as `torchrun` starts them: on one machine, or on several with a shared folder.

A process takes every Nth item of a list, the first process writes what belongs to all. Without `torchrun` there is one
process, and every function here gives what it was given. Inference needs it too, so it uses torch alone: MONAI Deploy's
environment has no ignite.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

__all__ = ["device", "end", "in_order", "is_first_process", "of_all_processes", "share_of", "start", "wait_for_all"]

T = TypeVar("T")


def start(hours: float = 24.0) -> None:
    """Connect the processes that `torchrun` started; does nothing without `torchrun`.

    Only lists of scores and names travel between them, so the backend is gloo, with and without GPUs.

    Args:
        hours: how long one process waits for another.
    """
    if "RANK" in os.environ:
        from torch import distributed

        if distributed.is_initialized():
            return
        distributed.init_process_group("gloo", timeout=datetime.timedelta(hours=hours))


def end() -> None:
    """Leave the other processes."""
    if _is_connected():
        from torch import distributed

        distributed.destroy_process_group()


def device() -> torch.device:
    """GPU of this process, counted on its machine; the CPU where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def _place() -> tuple[int, int]:
    """Number of this process, and of all."""
    if not _is_connected():
        return 0, 1
    from torch import distributed

    return distributed.get_rank(), distributed.get_world_size()


def _is_connected() -> bool:
    """Whether this process is one of several; torch, which takes seconds to load, is not loaded to tell."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and bool(distributed.is_initialized())


def is_first_process() -> bool:
    """Whether this process writes the files that belong to all."""
    return _place()[0] == 0


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if _place()[1] > 1:
        from torch import distributed

        distributed.barrier()


def share_of(items: Sequence[T], required: bool = False) -> list[T]:
    """The part of a list that this process works on: every Nth item.

    Args:
        items: the same list in every process.
        required: refuse a list that leaves a process without work, as an engine without data ends too early.

    Raises:
        ValueError: see `required`.
    """
    rank, count = _place()
    if required and len(items) < count:
        raise ValueError(f"{len(items)} cases cannot be shared by {count} processes, start {len(items) or 1} at most")
    return list(items[rank::count])


def of_all_processes(part: T) -> list[T]:
    """What each process has, in the order of the processes."""
    parts: list[Any] = [part] * _place()[1]
    if len(parts) > 1:
        from torch import distributed

        distributed.all_gather_object(parts, part)
    return parts


def in_order(results: Sequence[T]) -> list[T]:
    """Results of all processes, one for each item of a shared list, in the list's order.

    Args:
        results: one for each item of this process's share, in its order.
    """
    parts = of_all_processes(list(results))
    total = sum(len(part) for part in parts)
    return [parts[number % len(parts)][number // len(parts)] for number in range(total)]
