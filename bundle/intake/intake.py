"""From untrusted files or bytes to the tensor that MONAI's `LoadImage` returns."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..core import file_types, filenames
from ..loading import BUNDLE_ROOT, silence_loggers, suppress_monai_warnings
from .errors import IntakeError
from .interrupt import Interrupt
from .limits import LOCAL, MIB, Limits
from .memory_file import MemoryFile
from .sandbox import Sandbox

if TYPE_CHECKING:
    import numpy as np
    from monai.data import MetaTensor
    from monai.transforms import LoadImage

__all__ = ["Intake", "local_intake"]

Source = str | Path | bytes | MemoryFile
MISSING = Path(filenames.ABSENT)


class Intake:
    """Read scans from files or bytes; each one is decoded in a process of its own, under limits.

    Safe to use from several threads. As a context manager it ends its process at the end of the block; otherwise call
    `close`, or end the program.

    Args:
        limits: for every request.
        workers: scans that are decoded at the same time.
        root: the bundle's folder; its inference config names the reader.
        settings: overrides of that config, such as `modalities`.
    """

    def __init__(
        self, limits: Limits | None = None, workers: int = 1, root: Path = BUNDLE_ROOT, **settings: Any
    ) -> None:
        self.limits = limits or Limits()
        self._sandbox = Sandbox(root, settings, workers)
        self._close = weakref.finalize(self, self._sandbox.close)

    def __enter__(self) -> Intake:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the decoding process now, before the first scan."""
        self._sandbox.start()

    def close(self) -> None:
        """End the decoding process."""
        self._close()

    def read(self, source: Source | Sequence[Source | None], interrupt: Interrupt | None = None) -> MetaTensor:
        """Decode a scan as the first transform of the bundle's preprocessing does.

        Args:
            source: path or content of a NIfTI, NRRD, MetaImage, DICOM or picture file, path of a folder with one DICOM
                series, or one of these per modality, None for a sequence that the case does not have.
            interrupt: ends the decoding from another thread.

        Returns:
            (C, H, W, D), float32, with affine, `spatial_shape`, `spacing_known` and the first file's name, which is
            empty for bytes.

        Raises:
            IntakeError: when it is refused; the message gives the file's name and the reason.
            Interrupted: when the interrupt is set.
        """
        given = [source] if isinstance(source, (str, Path, bytes, MemoryFile)) else list(source)
        sources: list[Source] = [MISSING if item is None else item for item in given]
        if not sources:
            raise IntakeError("missing", "no file was given")
        names = [None if isinstance(item, (bytes, MemoryFile)) else str(item) for item in sources]
        try:
            decoded = self._sandbox.decode(self._admit(sources), self.limits, interrupt)
        except IntakeError as error:
            raise error.named(names[error.file]) from None
        first = next((name for name in names if name != filenames.ABSENT), None) or ""
        image = self._load(first, reader=decoded)
        image.meta["filename_or_obj"] = first
        return image

    def segment(
        self,
        source: str | Path | bytes | MemoryFile,
        mask: np.ndarray,
        model: Mapping[str, Any],
        regions: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """Encode a mask as DICOM SEG, in a process of its own, which reads the scan's files once more.

        Args:
            source: path or content of a DICOM file, or path of a folder with one series.
            mask: (H, W, D), uint8, on the grid of the scan.
            model: "version" and "sha256" of the weights.
            regions: of the mask, see `segmentation_of`.

        Raises:
            IntakeError: when the series lacks what a segmentation needs.
        """
        if isinstance(source, bytes):
            source = MemoryFile(source)
        file = source if isinstance(source, MemoryFile) else _absolute(source)
        return self._sandbox.segment(file, mask, model, self.limits, regions)

    @cached_property
    def _load(self) -> LoadImage:
        from monai.transforms import LoadImage

        silence_loggers()
        with suppress_monai_warnings():
            return LoadImage()

    def _admit(self, sources: Sequence[Source]) -> list[Path | MemoryFile]:
        """Check size and type; put bytes into files that the decoding process can read."""
        admitted: list[Path | MemoryFile] = []
        allowed = self.limits.request_bytes
        for index, source in enumerate(sources):
            if isinstance(source, (str, Path)) and str(source) == filenames.ABSENT:
                admitted.append(MISSING)
                continue
            try:
                allowed -= self._measure(source, allowed)
            except IntakeError as error:
                error.file = index
                raise
            if isinstance(source, MemoryFile):
                admitted.append(source)
            else:
                admitted.append(MemoryFile(source) if isinstance(source, bytes) else _absolute(source))
        return admitted

    def _measure(self, source: Source, allowed: int) -> int:
        """Number of bytes of one source, after checks of its size and type."""
        try:
            size, head = self._look(source)
        except OSError as error:
            raise IntakeError("missing", error.strerror or "cannot be opened") from None
        if size > allowed:
            raise IntakeError("too_large", f"more than the {self.limits.request_bytes / MIB:g} MiB that are allowed")
        if head is not None and file_types.file_type_of(head) is None:
            raise IntakeError("unsupported", file_types.why_unsupported(head))
        return size

    def _look(self, source: Source) -> tuple[int, bytes | None]:
        """Size and first bytes of a file; size of all files in a folder, and None."""
        if isinstance(source, bytes):
            return len(source), source[: file_types.HEAD_BYTES]
        if isinstance(source, MemoryFile):
            return source.size, source.head(file_types.HEAD_BYTES)
        path = _absolute(source)
        if path.is_dir():
            sizes = [entry.stat().st_size for entry in os.scandir(path) if entry.is_file()]
            if len(sizes) > self.limits.files:
                raise IntakeError("too_large", f"holds {len(sizes)} files, {self.limits.files} are allowed")
            return sum(sizes), None
        size = path.stat().st_size
        if not path.is_file():
            raise IntakeError("unsupported", "not a regular file")
        with path.open("rb") as file:
            return size, file.read(file_types.HEAD_BYTES)


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


@cache
def local_intake(root: Path = BUNDLE_ROOT, modalities: tuple[str, ...] = ()) -> Intake:
    """The intake for local files, one for the whole program; its process starts at once, in the background.

    Args:
        root: the bundle's folder.
        modalities: channels, in order; those of the config if empty.
    """
    settings: dict[str, Any] = {"modalities": list(modalities)} if modalities else {}
    intake = Intake(LOCAL, root=root, **settings)
    intake.start()
    return intake
