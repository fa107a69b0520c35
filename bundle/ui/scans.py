"""Scans of the page: uploaded files, the DICOM files of a folder being one scan, and phantoms as examples."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..core import file_types, filenames

__all__ = ["EXAMPLES", "Scan", "example", "scans_of"]

VOLUMES = (".nii", ".nii.gz", ".nrrd", ".mha")
MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, on Linux
SLICES, SLICE_MM = 24, 5.0  # of the volumes, as of many clinical scans
# title: kind, seed and label of the phantom; the released weights are right but for the last
EXAMPLES = {
    "Volume with a tumor": ("volume", 103, "yes"),
    "Image with a tumor": ("image", 111, "yes"),
    "Image without a tumor": ("image", 130, "no"),
    "A failure: missed tumor": ("volume", 102, "yes"),
}


@dataclass(frozen=True)
class Scan:
    """One scan in memory.

    Args:
        name: of its file, or of the folder of its files.
        files: contents, in the order of their names; several of a DICOM series.
        are_channels: whether they are the sequences of a case, in the order of the network's channels, empty where the
            case does not have one.
    """

    name: str
    files: tuple[bytes, ...]
    are_channels: bool = False

    @property
    def stem(self) -> str:
        """What its downloads are named after."""
        return filenames.stem(self.name).name

    @property
    def sha256(self) -> str:
        """SHA-256 of its file; of several, that of the lines of their hashes, as `predict` gives it for a folder."""
        hashes = [hashlib.sha256(content).hexdigest() for content in self.files]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @property
    def sequence_told(self) -> str:
        """Sequence by the name of its file, "" if the name does not tell; of a DICOM file its header does."""
        if self.are_channels or len(self.files) > 1 or self.is_dicom:
            return ""
        return filenames.parse_name(self.name).kind or ""

    @property
    def is_dicom(self) -> bool:
        """Whether it is DICOM, of which there can be a DICOM SEG."""
        return not self.are_channels and file_types.file_type_of(self.files[0][: file_types.HEAD_BYTES]) == "dicom"

    @contextmanager
    def source(self) -> Iterator[Any]:
        """What the predictor reads: the content of one file or of each sequence, or a folder in memory in the block."""
        if self.are_channels:
            yield [content or None for content in self.files]
            return
        if len(self.files) == 1:
            yield self.files[0]
            return
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as place:
            for number, content in enumerate(self.files):
                (Path(place) / f"{number:05}.dcm").write_bytes(content)
            yield Path(place)


def scans_of(files: Iterable[tuple[str, bytes]], modalities: Sequence[str] = ("flair",)) -> list[Scan]:
    """Put uploaded files together to scans, in the order of their names.

    All DICOM files of a folder are one scan, and so are the sequences of a case where the weights read several. Of an
    uploaded folder, files that are no scans are left out, and those that their names call masks or other sequences.
    Predictions are left out where their JSON is in the folder.

    Args:
        files: name, which begins with the folder's if one was uploaded, and content.
        modalities: sequences that the weights read.
    """
    series: dict[str, list[tuple[str, bytes]]] = {}
    given = sorted(files, key=lambda file: file[0])
    beside = {name for name, _ in given if name.endswith(".json") and "/" in name}
    unpredicted = [file for file in given if filenames.PREDICTED.sub(".json", file[0]) not in beside]
    scans, left = _cases_of(unpredicted, modalities)
    for name, content in left:
        kind = file_types.file_type_of(content[: file_types.HEAD_BYTES])
        path = PurePosixPath(name)
        if kind == "dicom":
            series.setdefault(str(path.parent), []).append((path.name, content))
        elif len(path.parts) < 2 or (kind is not None and filenames.parse_name(path.name).kind in (None, *modalities)):
            scans.append(Scan(path.name, (content,)))
    for folder, found in series.items():
        name = found[0][0] if len(found) == 1 or folder == "." else PurePosixPath(folder).name
        scans.append(Scan(name, tuple(content for _, content in found)))
    return sorted(scans, key=lambda scan: scan.name)


def _cases_of(
    files: Sequence[tuple[str, bytes]], modalities: Sequence[str]
) -> tuple[list[Scan], list[tuple[str, bytes]]]:
    """Cases with a file of any sequence, if the weights read several; and the other files."""
    cases: dict[tuple[str, str], dict[str, tuple[str, bytes]]] = {}
    for name, content in files if len(modalities) > 1 else ():
        path = PurePosixPath(name)
        told = filenames.parse_name(path.name)
        if told.kind in modalities and path.name.lower().endswith(VOLUMES):
            cases.setdefault((str(path.parent), told.case), {})[str(told.kind)] = (name, content)
    scans = [
        Scan(
            case or PurePosixPath(folder).name,
            tuple(kinds[m][1] if m in kinds else b"" for m in modalities),
            are_channels=True,
        )
        for (folder, case), kinds in cases.items()
    ]
    used = {name for kinds in cases.values() for name, _ in kinds.values()}
    return scans, [file for file in files if file[0] not in used]


def example(title: str) -> Scan:
    """A synthetic phantom, see `EXAMPLES`; takes up to a second."""
    import nibabel as nib
    import numpy as np

    from ..datasets.phantoms import write_images, write_volumes

    kind, seed, label = EXAMPLES[title]
    with tempfile.TemporaryDirectory() as place:
        if kind == "image":
            (path,) = (image for image in write_images(Path(place), 2, seed=seed) if image.parent.name == label)
            return Scan(f"phantom_{seed}{path.suffix.lower()}", (path.read_bytes(),))
        (folder,) = write_volumes(Path(place), 1, slices=SLICES, seed=seed)
        volume: Any = nib.load(folder / f"{folder.name}_flair.nii.gz")
        affine = volume.affine @ np.diag([1, 1, SLICE_MM, 1])
        return Scan(f"phantom_{seed}.nii", (nib.Nifti1Image(np.asarray(volume.dataobj), affine).to_bytes(),))
