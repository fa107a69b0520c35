"""The slice store: network-ready slices with their metadata on disk, one folder a case.

    STORE/store.json                     fingerprint of the preprocessing, modalities, list of cases
    STORE/splits.json                    see `splits`
    STORE/cases/<id>/image.npy           float16 (S, C, H, W), exactly the network's input; one channel where its
                                         sequence is unknown
    STORE/cases/<id>/mask.npy            uint8 (S, H, W), whole tumor, or (S, R, H, W), the regions, where they are
                                         asked for and known; absent where the case has no mask
    STORE/cases/<id>/brain.npy           uint8 (S, H, W), the brain of a volume with a skull, where it was asked for
    STORE/cases/<id>/case.json           the case, its hashes, and of each slice index, brain and tumor pixels, checksum

Plain arrays, memory-mapped: one slice is read without decompressing anything, nor reading the rest of its case, at the
price of more disk space than compressed .npz files would take.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from ..core.documents import SCHEMA_VERSION, StoreIndex, UnreadableCase
from ..core.filenames import first_file
from ..core.files import content_sha256, inflated_sha256, read_json, sha256_of, write_json
from ..core.shared_work import in_order, is_first_process, share_of, wait_for_all
from ..io.datalists import Case
from .case_counts import count_cases
from .stored_slices import is_undamaged, read_slice, remove_remains, slices_of, write_arrays

logger = logging.getLogger(__name__)

__all__ = ["SliceStore", "build_store", "content_hash", "reason_in_one_line"]

REPEAT = "run the preprocessing again"
OF_MASK = ("tumor_codes", "region_codes")  # of a case: how its mask is read
TOLD = ("class_name",)  # of a case, where the user or its folder tells it
OF_SLICES = {"slices": np.int32, "brain_pixels": np.int32, "tumor_pixels": np.int32, "own_statistics": np.float32}

FINGERPRINTED_SOURCES = (  # their change makes a store stale
    *("core/file_types.py", "core/geometry.py", "core/label_codes.py"),
    *("io/case_channels.py", "io/kaggle_3m.py", "io/nifti_geometry.py", "io/readers.py", "io/volumes.py"),
    *("dicom/choice.py", "dicom/frames.py", "dicom/headers.py", "dicom/jpeg_lossless.py", "dicom/pixels.py"),
    "dicom/reading.py",
    *("transforms/background.py", "transforms/brain_extraction.py", "transforms/channels.py", "transforms/head.py"),
    *("transforms/preprocessing.py", "transforms/skull.py", "transforms/tumor_regions.py"),
    *("dataset/stored_slices.py", "dataset/slice_store.py"),
)


class SliceStore:
    """Read access to a store.

    Args:
        root: folder that `build_store` wrote.

    Raises:
        FileNotFoundError: when there is no store; the message says which command makes one.
        ValueError: when another version of the bundle made it, or what is read is damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        index = self.root / "store.json"
        command = "python -m monai.bundle run preprocessing --config_file configs/preprocess.yaml"
        remedy = f"make one with: {command} --volumes DIR --images DIR --dataset_dir {self.root}"
        if not index.is_file():
            raise FileNotFoundError(f"{self.root}: no slice store here, {remedy}")
        self.index: StoreIndex = read_json(index, REPEAT)
        self.checksums: dict[str, dict[str, list[int]]] = {}  # of the cases that were read
        if self.index.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"{self.root}: a slice store of another version of the bundle, {remedy}")

    def cases(self) -> list[Case]:
        """Every case's metadata, in the order of ids."""
        return [self.case(id) for id in self.index["cases"]]

    def case(self, case_id: str) -> Case:
        """Metadata of one case; what it says of each slice is an array, which takes a tenth of a list's memory."""
        file = self.folder(case_id) / "case.json"
        if not file.is_file():
            raise ValueError(f"{file}: missing, {REPEAT}")
        case: Case = read_json(file, REPEAT)
        of_slices = {name: np.asarray(case[name], dtype) for name, dtype in OF_SLICES.items() if name in case}
        checksums = {name: np.asarray(values, np.uint32) for name, values in case.get("crc32", {}).items()}
        return {**case, **of_slices, "crc32": checksums}

    def folder(self, case_id: str) -> Path:
        return self.root / "cases" / case_id

    def read(self, case_id: str, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        """One slice: image float32 (C, H, W), and its mask uint8 (1, H, W), or (R, H, W) of the regions, or None."""
        image = self._read(case_id, "image", position)
        mask = self._read(case_id, "mask", position)
        if image is None:
            raise ValueError(f"{self.folder(case_id) / 'image.npy'}: missing, {REPEAT}")
        return image.astype(np.float32), mask if mask is None or mask.ndim == 3 else mask[None]

    def read_brain(self, case_id: str, position: int) -> np.ndarray | None:
        """The brain in one slice, uint8 (1, H, W), or None where it is not known."""
        brain = self._read(case_id, "brain", position)
        return brain if brain is None else brain[None]

    def _read(self, case_id: str, name: str, position: int) -> np.ndarray | None:
        """A slice of one of a case's arrays, None if the case has no such array."""
        if case_id not in self.checksums:
            self.checksums[case_id] = self.case(case_id).get("crc32", {})
        file = self.folder(case_id) / f"{name}.npy"
        known = self.checksums[case_id]
        return read_slice(file, position, known) if name in known or file.is_file() else None


def build_store(
    cases: Sequence[Case],
    transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    root: str | Path,
    min_brain_pixels: int,
    settings: Mapping[str, Any],
    skip_unreadable: bool = False,
    num_workers: int = 1,
) -> None:
    """Write every case that is not in the store yet, then the index.

    A case is written to a temporary folder and renamed, so an interruption leaves complete cases only, and running
    again continues; other processes may write to the same store meanwhile, and share the cases if `torchrun` started
    them. An unreadable case is named with its reason at the end, after all others are stored.

    Args:
        cases: from `datalists`.
        transform: dict transform that turns a case's paths into "image" (C, H, W, D) and, where it has one, "label".
        root: folder of the store.
        min_brain_pixels: slices with less tissue are left out.
        settings: other settings of the content; part of the fingerprint.
        skip_unreadable: warn about unreadable cases instead of failing.
        num_workers: processes.

    Raises:
        ValueError: at the end, one line per case that could not be read.
    """
    root = Path(root)
    fingerprint = _fingerprint({**settings, "min_brain_pixels": min_brain_pixels})
    if is_first_process():
        remove_remains(root / "cases")
    wait_for_all()
    mine = share_of(cases)
    jobs = (delayed(_store_case)(case, transform, root, min_brain_pixels, fingerprint) for case in mine)
    results = Parallel(n_jobs=num_workers, return_as="generator")(jobs)
    shown = tqdm(results, total=len(mine), desc="preprocessing", unit="case", disable=not is_first_process())
    problems = [problem for problem in in_order(list(shown)) if problem]
    if is_first_process():
        _write_index(cases, root, fingerprint, settings, problems)
    wait_for_all()
    if problems:
        lines = "\n".join(f"  {problem['reason']}" for problem in problems)
        message = f"{len(problems)} of {len(cases)} cases could not be read, the others are stored:\n{lines}"
        if not skip_unreadable or len(problems) == len(cases):
            raise ValueError(message)
        logger.warning(message)


def _write_index(
    cases: Sequence[Case],
    root: Path,
    fingerprint: str,
    settings: Mapping[str, Any],
    problems: Sequence[UnreadableCase],
) -> None:
    """Write `store.json`, and warn about codes of masks that are not taken for tumor."""
    done = sorted({case["id"] for case in cases} - {problem["id"] for problem in problems})
    stored = (json.loads((root / "cases" / id / "case.json").read_text()) for id in done)  # one at a time in memory
    counted = count_cases(cases, stored)
    index = {"schema_version": SCHEMA_VERSION, "fingerprint": fingerprint, "settings": dict(settings)}
    write_json(root / "store.json", {**index, "counts": counted, "cases": done, "problems": problems})
    for source, counts in counted.items():
        for code, masks in counts.get("left_out", {}).items():
            logger.warning(f"{source}: {code}, is in {masks} masks and not taken for tumor (--labels changes it)")


def _store_case(
    case: Case, transform: Callable[[Any], Any], root: Path, min_brain_pixels: int, fingerprint: str
) -> UnreadableCase | None:
    """Write one case; return what is wrong with it, or None."""
    folder = root / "cases" / case["id"]
    try:
        hashes: dict[str, str] = {key: content_hash(case[key]) for key in ("image", "label") if key in case}
        written = _current(folder, hashes, fingerprint)
        if written is not None and all(written.get(key) == case.get(key) for key in OF_MASK):
            kept = {key: value for key, value in written.items() if key not in TOLD}
            if written != {**kept, **case}:  # the same files, at another place, or of another type
                write_json(folder / "case.json", {**kept, **case})
            return None
        arrays, meta = slices_of(transform(case), min_brain_pixels)
    except Exception as error:
        return {"id": case["id"], "reason": reason_in_one_line(error, case)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".writing-{os.getpid()}-", dir=folder.parent))
    try:
        meta["crc32"] = write_arrays(temporary, arrays)
        write_json(temporary / "case.json", {**case, **meta, "sha256": hashes, "fingerprint": fingerprint})
    except OSError:  # a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if written is not None:  # of other codes
        shutil.rmtree(folder, ignore_errors=True)
    aside = temporary.with_name(f"{temporary.name}-old")
    while _current(folder, hashes, fingerprint) is None:  # else another process was faster
        with suppress(FileNotFoundError):
            folder.replace(aside)
            shutil.rmtree(aside, ignore_errors=True)
        try:
            temporary.replace(folder)
            return None
        except OSError:
            if not folder.is_dir():
                raise
    shutil.rmtree(temporary, ignore_errors=True)
    return None


def content_hash(paths: str | Sequence[str]) -> str:
    """Hash of a case's files, independent of compression."""
    files = [paths] if isinstance(paths, str) else paths
    hashes = (content_sha256(file) if Path(file).is_dir() else inflated_sha256(file) for file in files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _current(folder: Path, hashes: Mapping[str, str], fingerprint: str) -> dict[str, Any] | None:
    """A stored case if it is complete, undamaged, and of the same content and settings, else None."""
    arrays = [folder / {"image": "image.npy", "label": "mask.npy"}[key] for key in hashes]
    if not all(array.is_file() for array in arrays):
        return None
    try:
        written: dict[str, Any] = json.loads((folder / "case.json").read_text())
        same = (written["sha256"], written["fingerprint"]) == (hashes, fingerprint)
        return written if same and is_undamaged(folder, written["crc32"]) else None
    except (OSError, ValueError, KeyError):
        return None


def _fingerprint(settings: Mapping[str, Any]) -> str:
    """Hash of settings and code, which determine a store's content besides the data."""
    code = "".join(sha256_of(Path(__file__).parents[1] / name) for name in FINGERPRINTED_SOURCES)
    return hashlib.sha256((json.dumps(settings, sort_keys=True, default=str) + code).encode()).hexdigest()


def reason_in_one_line(error: Exception, case: Case) -> str:
    """The reason in one line that names the file, from MONAI's chain of errors."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    image = first_file(case["image"])
    return text if image in text or str(case.get("label", image)) in text else f"{image}: {text}"
