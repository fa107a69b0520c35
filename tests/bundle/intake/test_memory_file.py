"""Files without a name."""

from __future__ import annotations

import os

import pytest

from bundle.intake import MemoryFile
from bundle.intake.memory_file import path_of_descriptor


@pytest.mark.parametrize("in_memory", [True, False])
def test_bytes_are_read_again_and_given_back(monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    file = MemoryFile(b"abc")
    file.write(b"defg" * 1000)
    assert (file.size, file.head(5), file.content()) == (4003, b"abcde", b"abc" + b"defg" * 1000)
    assert path_of_descriptor(file.descriptor).read_bytes() == file.content()
    descriptor = file.descriptor
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_an_unused_file_is_closed() -> None:
    descriptor = MemoryFile(b"abc").descriptor
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
