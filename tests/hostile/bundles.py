"""Archives that must not be unpacked, and weights that must not be loaded."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ArchiveCase:
    """A bundle as an archive; whoever imports it must refuse, and write nothing."""

    name: str
    make: Callable[[], bytes]


@dataclass(frozen=True)
class WeightsCase:
    """A file of weights made from good ones; whoever loads it must refuse, and `canary` must not come into being."""

    name: str
    make: Callable[[State, Path], bytes | None]  # of good weights and the canary's place; None for a folder

    def write(self, folder: Path, good: State) -> tuple[Path, Path]:
        """Write the file; return its path and the canary's."""
        path, canary = folder / "model.pt", folder / "canary"
        content = self.make(good, canary)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        return path, canary


def archive_cases() -> Iterator[ArchiveCase]:
    """Zip and tar files that reach out of their folder, or fill the disk."""
    for name in ("../x", "a/../../x", "/tmp/hostile-canary", "C:\\x", "..\\x", "a/\0x"):
        yield ArchiveCase(f"zip of {name!r}", lambda name=name: zip_of({name: b"x"}))
    yield ArchiveCase("zip of one name twice", lambda: zip_of({"a": b"x"}, {"a": b"y"}))
    yield ArchiveCase("zip of names that differ in case", lambda: zip_of({"Config.json": b"x", "config.JSON": b"y"}))
    yield ArchiveCase("zip of a gigabyte", lambda: zip_of({"a": bytes(2**30)}))
    yield ArchiveCase("zip of 100000 files", lambda: zip_of({str(i): b"" for i in range(100_000)}))
    yield ArchiveCase("zip of a link", lambda: zip_of({"link": b"/etc/passwd"}, mode=0o120777))
    yield ArchiveCase("zip in part", lambda: zip_of({"a": bytes(1000)})[:80])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        yield ArchiveCase(f"tar of type {kind.decode()}", lambda kind=kind: tar_of(kind))


def zip_of(*files: dict[str, bytes], mode: int = 0o100644) -> bytes:
    """A zip file; several dicts may name a file twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (item for group in files for item in group.items()):
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.compress_type = name, mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return buffer.getvalue()


def tar_of(kind: bytes) -> bytes:
    """A tar file with one member of a kind that is no file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("member")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    return buffer.getvalue()


class Gadget:
    """What runs a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def weights_cases() -> Iterator[WeightsCase]:
    """Code, damage, and weights of another network."""
    yield WeightsCase("code: system", lambda _, canary: saved({"w": Gadget(os.system, f"touch '{canary}'")}))
    yield WeightsCase("code: open", lambda _, canary: saved({"w": Gadget(open, str(canary), "w")}))
    yield WeightsCase("code: plain pickle", lambda _, canary: pickle.dumps(Gadget(Path.touch, canary)))
    for part in (1, 5, 9):
        yield WeightsCase(f"{part} of 10", lambda good, _, part=part: saved(good)[: len(saved(good)) * part // 10])
    for index in range(20):  # in the record of names and shapes, where a flip is always seen
        yield WeightsCase(f"bit flip {index}", lambda good, _, index=index: flipped(saved(good), index))
    yield WeightsCase("a key missing", lambda good, _: saved(dict(list(good.items())[1:])))
    yield WeightsCase("a key more", lambda good, _: saved({**good, "more": torch.zeros(1)}))
    yield WeightsCase("other shapes", lambda good, _: saved({name: tensor[..., None] for name, tensor in good.items()}))
    yield WeightsCase(
        "not a number", lambda good, _: saved({name: tensor * torch.nan for name, tensor in good.items()})
    )
    yield WeightsCase("no bytes", lambda *_: b"")
    yield WeightsCase("a folder", lambda *_: None)
    yield WeightsCase("a list", lambda good, _: saved(list(good.values())))
    yield WeightsCase("numbers", lambda good, _: saved({name: 1.0 for name in good}))


def saved(content: object) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def flipped(data: bytes, index: int) -> bytes:
    """One bit changed within the pickle that describes the tensors."""
    start = data.index(b"data.pkl") + 200 + 7 * index
    return data[:start] + bytes([data[start] ^ (1 << (index % 8))]) + data[start + 1 :]
