"""Download the two open data sets with MONAI and kagglehub; print their licenses first.

A download is written to a hidden folder under the root and renamed when it is complete. The hidden folder of a killed
process may be deleted.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# monai.apps (with torch) and kagglehub are imported in the functions that need them: importing them takes seconds.

__all__ = ["BRATS", "KAGGLE", "DataSource", "DownloadError", "fetch_brats", "fetch_kaggle"]


class DownloadError(RuntimeError):
    """A data set could not be downloaded; the message is one line with its name and the reason."""


@dataclass(frozen=True)
class DataSource:
    """A public data set and its terms."""

    name: str
    homepage: str
    license: str
    citation: str

    def announce(self) -> None:
        """Print name, license and citation, before the download begins."""
        print(f"{self.name}, {self.homepage}\nLicense: {self.license}\nCitation: {self.citation}", flush=True)


BRATS = DataSource(
    name="Task01_BrainTumour",
    homepage="http://medicaldecathlon.com",
    license="CC BY-SA 4.0; the images originate from BraTS 2016 and 2017.",
    citation="M. Antonelli et al., The Medical Segmentation Decathlon, Nat Commun 13:4128, 2022.",
)
KAGGLE = DataSource(
    name="navoneel/brain-mri-images-for-brain-tumor-detection",
    homepage="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
    license="none that can be verified (the uploader collected the images from the web): "
    "use them for research and evaluation only, and do not redistribute them without checking their terms.",
    citation='N. Chakrabarty, "Brain MRI Images for Brain Tumor Detection", Kaggle, 2019.',
)


def fetch_brats(root: Path, *, url: str | None = None, md5: str | None = None) -> Path:
    """Download Task01_BrainTumour of the Medical Segmentation Decathlon with MONAI: 7 GB, 14 GB while it is unpacked.

    Args:
        root: folder for the data set; made if needed.
        url: address of the tar archive (default: MONAI's).
        md5: checksum of the archive (default: MONAI's).

    Returns:
        The folder with imagesTr, labelsTr and dataset.json. If it exists, nothing is downloaded.
    """
    BRATS.announce()
    target = root / BRATS.name
    with _failures_in_one_line(BRATS.name):
        if target.exists():
            if gap := _first_missing(target):
                raise DownloadError(f"{target} is incomplete, it lacks {gap}: remove the folder and try again")
            return target
        from monai.apps.datasets import DecathlonDataset
        from monai.apps.utils import download_and_extract

        url, md5 = url or DecathlonDataset.resource[BRATS.name], md5 or DecathlonDataset.md5[BRATS.name]
        with _unfinished(root) as folder:
            download_and_extract(url, output_dir=folder, hash_val=md5, hash_type="md5")
            if gap := _first_missing(folder / BRATS.name):
                raise DownloadError(f"{BRATS.name}: the archive lacks {gap}")
            (folder / BRATS.name).rename(target)
        return target


def fetch_kaggle(root: Path, *, handle: str = KAGGLE.name) -> Path:
    """Download images sorted into yes/ and no/ with kagglehub.

    Args:
        root: folder for the data set; made if needed.
        handle: owner/name at Kaggle.

    Returns:
        The folder with yes/ and no/ (upper or lower case). If it exists, nothing is downloaded.
    """
    other = DataSource(handle, f"https://www.kaggle.com/datasets/{handle}", "see its page", "see its page")
    (KAGGLE if handle == KAGGLE.name else other).announce()
    target = root / handle.replace("/", "-")
    with _failures_in_one_line(handle):
        if target.exists():
            return _class_folder(target, handle)
        try:
            import kagglehub
        except ImportError as error:
            extra = "brain-mri-tumor-segmentation-classification[kaggle]"
            raise DownloadError(f"{handle}: kagglehub is missing, pip install '{extra}'") from error

        with _unfinished(root) as folder:
            fetched = Path(kagglehub.dataset_download(handle, output_dir=str(folder / "fetched")))
            # Copied, not moved: in a notebook at Kaggle or Colab this is a read-only mount outside the root.
            shutil.copytree(_class_folder(fetched, handle), folder / "whole")
            (folder / "whole").rename(target)
        return target


@contextmanager
def _failures_in_one_line(name: str) -> Iterator[None]:
    """Turn any exception of a library into DownloadError; MONAI wraps some failures in a bare Exception."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:
        kind = type(error.__cause__ or error).__name__
        raise DownloadError(f"{name}: {kind}: {' '.join(str(error).split())}") from error


@contextmanager
def _unfinished(root: Path) -> Iterator[Path]:
    """A folder for the unfinished download, removed at the end in any case.

    Python's temporary files go there too: MONAI downloads into one, and /tmp is often too small for the archive.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=root) as folder:
        usual, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = usual


def _first_missing(task: Path) -> str | None:
    """First missing file of a Decathlon folder: its index, or a scan that the index lists."""
    index = task / "dataset.json"
    if not index.is_file():
        return index.name
    pairs = json.loads(index.read_text(encoding="utf-8"))["training"]
    names = (str(pair[kind]) for pair in pairs for kind in ("image", "label"))
    return next((name for name in names if not (task / name).is_file()), None)


def _class_folder(top: Path, name: str) -> Path:
    """Outermost folder that directly holds yes/ and no/; the data set contains a second copy of both."""
    folders = [top, *(path for path in top.rglob("*") if path.is_dir())]
    for folder in sorted(folders, key=lambda path: len(path.parts)):
        if {"yes", "no"} <= {path.name.lower() for path in folder.iterdir() if path.is_dir()}:
            return folder
    raise DownloadError(f"{name}: no folder has both yes/ and no/")
