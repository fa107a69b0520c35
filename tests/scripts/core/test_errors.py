"""What the user reads of an error: one line with the file, the reason and the remedy; a bug keeps its traceback."""

from __future__ import annotations

import errno
import logging
import os
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from scripts.core.errors import OUT_OF_MEMORY, end_in_one_line, reason_of


def chained(error: Exception) -> RuntimeError:
    """An error as MONAI passes it on."""
    outer = RuntimeError("Failed to evaluate")
    outer.__cause__ = RuntimeError("Failed to instantiate component")
    outer.__cause__.__cause__ = error
    return outer


def full_disk(file: str) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("splits.json: damaged"), "splits.json: damaged"),
        (full_disk("a.pt"), "a.pt: No space left on device; free some space, then run the same command again"),
        (PermissionError(13, "no", "b"), "b: no; change its permissions, or choose another folder"),
        (OSError(errno.EROFS, "read-only", "c"), "c: read-only; choose another folder"),
        (FileNotFoundError(2, "none", "d"), "d: none"),
        (MemoryError(), OUT_OF_MEMORY),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate"), OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OUT_OF_MEMORY),
        (TypeError("a bug"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_reason_of_an_error(error: Exception, reason: str | None) -> None:
    assert reason_of(error) == reason_of(chained(error)) == reason


class Damaged(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError("image.npy: damaged: run again")


def test_an_error_of_a_loading_process_is_one_line() -> None:
    with pytest.raises(ValueError) as error:
        next(iter(DataLoader(Damaged(), num_workers=1)))
    assert "Traceback" in str(error.value) and reason_of(error.value) == "image.npy: damaged: run again"


def test_other_programs_keep_their_hook_and_the_engine_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    before = sys.excepthook
    end_in_one_line()
    assert sys.excepthook is before
    logger = logging.getLogger("ignite.engine.engine.SupervisedTrainer")
    logger.error("raised too")
    logger.warning("seen")
    assert [record.message for record in caplog.records] == ["seen"]
