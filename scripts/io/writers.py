"""Write predictions as files: NAME.json, NAME_mask.png or NAME_mask.nii.gz, and others beside them."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from ..core.documents import SCHEMA_VERSION, PredictionIndex
from ..core.filenames import first_file, stem
from ..core.files import content_sha256, write_atomic, write_json
from ..core.weights_report import learned_of
from ..dicom.headers import DicomError
from ..dicom.reading import is_dicom
from ..dicom.segmentation import segmentation_of
from ..dicom.structure_set import structure_set_of
from ..dicom.structured_report import report_of
from .nifti_geometry import image_on
from .scan_lists import INDEX
from .volumes import UnreadableImageError

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["PredictionWriter"]

Source = str | Path | Sequence[str]
OF_SERIES = ("seg", "sr", "rtstruct")  # DICOM files that refer to a series
BESIDE = (
    "mask.png",
    "mask.nii.gz",
    "seg.dcm",
    "sr.dcm",
    "rtstruct.dcm",
    "overlay.png",
    "probability.png",
    "probability.nii.gz",
)  # NAME.json


class PredictionWriter:
    """Write one scan's prediction and mask; files of other predictions are kept by default.

    The JSON is written last. Until then a hidden file, .NAME.unfinished, lists what is being written: the same command
    replaces what a killed process left.

    Args:
        output_dir: folder for the files.
        overwrite: replace what is there.
        dicom_seg: write the mask of a DICOM series as NAME_seg.dcm as well.
        dicom_sr: write its values as NAME_sr.dcm, which refers to NAME_seg.dcm.
        rtstruct: write the mask's outlines as NAME_rtstruct.dcm.
        modalities: sequences that were read: of a folder with several series, that one is referred to.
    """

    def __init__(
        self,
        output_dir: str | Path,
        overwrite: bool = False,
        dicom_seg: bool = False,
        modalities: Sequence[str] = ("flair",),
        dicom_sr: bool = False,
        rtstruct: bool = False,
    ) -> None:
        self.output_dir, self.overwrite = Path(output_dir), overwrite
        wanted = {"seg": dicom_seg or dicom_sr, "sr": dicom_sr, "rtstruct": rtstruct}
        self.of_series = [name for name in OF_SERIES if wanted[name]]
        self.modalities = tuple(modalities)

    def __call__(
        self, data: Mapping[str, Any], name: str | None = None, beside: Mapping[str, bytes] | None = None
    ) -> dict[str, str]:
        """Write.

        Args:
            data: postprocessed: "pred", the mask (1, H, W, D) on the input's grid, and "result".
            name: name of the files without suffix, may hold folders; the input's stem if absent.
            beside: content of further files, by the end of their names, such as "overlay.png".

        Returns:
            {"json": path, "mask": path}, "seg", "sr" and "rtstruct" where these were written, and further files
            likewise. Of weights that were not trained on masks there is no mask.

        Raises:
            FileExistsError: when a file of another prediction is there and must not be overwritten.
            UnreadableImageError: see `encode_dicom`.
        """
        mask, meta = data["pred"], data["pred"].meta
        source = Path(first_file(list(map(str, meta.get("files", ()))) or str(meta["filename_or_obj"])))
        suffix, content = self.encode(mask)
        target = self.output_dir / (name or stem(source.name))
        masked = "segmentation" in learned_of(data["result"].get("model", {}))
        contents = {**({f"mask.{suffix}": content} if masked else {}), **(beside or {})}
        if self.of_series and masked and is_series(source):
            contents |= self._encode_series(mask, source, data["result"])
        files = {"json": target.with_name(f"{target.name}.json")}
        files |= {of.partition(".")[0]: target.with_name(f"{target.name}_{of}") for of in contents}
        scan = meta.get("files", source)
        unfinished = _unfinished(target)
        if not self.overwrite and not self._is_of(files["json"], scan, data["result"].get("model", {})):
            left = {target.with_name(name) for name in _listed(unfinished)} - {files["json"]}
            for path in files.values():
                if path.exists() and path not in left:
                    raise FileExistsError(_exists(path))
        write_json(unfinished, sorted(path.name for path in files.values()))
        for of, encoded in contents.items():
            write_atomic(files[of.partition(".")[0]], partial(_write, content=encoded))
        write_json(files["json"], {"input": source.name, "input_sha256": _hash_of(scan), **data["result"]})
        unfinished.unlink()
        return {kind: str(path) for kind, path in files.items()}

    def encode_dicom(
        self,
        mask: MetaTensor,
        source: Path | bytes,
        model: Mapping[str, Any],
        regions: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """Encode a mask as a DICOM Segmentation that refers to its series; see `segmentation_of`.

        Raises:
            UnreadableImageError: when the series lacks what a segmentation must refer to.
        """
        try:
            return segmentation_of(source, mask.as_tensor()[0].cpu().numpy(), model, self.modalities, regions)
        except DicomError as error:
            name = "the file" if isinstance(source, bytes) else source
            raise UnreadableImageError(name, str(error), error.code) from None

    def _encode_series(self, mask: MetaTensor, source: Path, result: Mapping[str, Any]) -> dict[str, bytes]:
        """The wanted DICOM files of a prediction, by the end of their names; see `encode_dicom` for errors."""
        voxels, made, regions = mask.as_tensor()[0].cpu().numpy(), {}, result.get("regions", ())
        if "seg" in self.of_series:
            made["seg.dcm"] = self.encode_dicom(mask, source, result["model"], regions)
        try:
            if "sr" in self.of_series:
                made["sr.dcm"] = report_of(source, made["seg.dcm"], result, self.modalities)
            if "rtstruct" in self.of_series:
                made["rtstruct.dcm"] = structure_set_of(source, voxels, result["model"], self.modalities, regions)
        except DicomError as error:
            raise UnreadableImageError(source, str(error), error.code) from None
        return made

    @staticmethod
    def encode(volume: MetaTensor, steps: int = 1) -> tuple[str, bytes]:
        """Encode a mask or a map on the scan's own grid, with the geometry of its file and no other metadata.

        Args:
            volume: (1, H, W, D) in [0, 1], or a mask of codes, see `LabelRegionsd`.
            steps: between 0 and 1: 1 for a mask, at most 255 for a map.

        Returns:
            Suffix and content: of a picture a PNG of 0 to 255, else a NIfTI of 0 to 1, or of a mask's codes.
        """
        shape = [int(side) for side in volume.meta["spatial_shape"]]
        levels = (volume.as_tensor()[0].cpu() * steps).round().numpy().astype(np.uint8).reshape(shape, order="A")
        if not volume.meta.get("spacing_known", True):
            buffer = BytesIO()
            Image.fromarray(levels * np.uint8(255 // volume.meta.get("highest_code", steps))).save(buffer, format="PNG")
            return "png", buffer.getvalue()
        values = levels if steps == 1 else levels.astype(np.float32) / steps
        affine = np.asarray(volume.meta["original_affine"], dtype=np.float64)
        image = image_on(volume.meta.get("nifti_geometry"), values, affine)
        image.set_data_dtype(np.uint8)  # nibabel finds the slope
        return "nii.gz", _compressed(image.to_bytes())

    def done_before(
        self, name: str, source: Source, model: Mapping[str, Any], beside: Sequence[str] = ()
    ) -> dict[str, str] | None:
        """Files of an earlier prediction with the same content, version, weights and decision; None if one is missing.

        Args:
            name: see `__call__`.
            source: the scan: a file, a folder, or one file per modality.
            model: the "model" entry to compare with, see `SummarizePredictiond`.
            beside: further files that are wanted: "overlay", "probability".

        Raises:
            FileExistsError: when a file of another prediction is there and must not be overwritten.
        """
        target = self.output_dir / f"{name}.json"
        if self.overwrite or not target.is_file():
            return None
        if not self._is_of(target, source, model):
            raise FileExistsError(_exists(target))
        if _unfinished(self.output_dir / name).exists():
            return None
        paths = [(of, target.with_name(f"{Path(name).name}_{of}")) for of in BESIDE]
        there = {of.partition(".")[0]: str(path) for of, path in paths if path.is_file()}
        of_mask = {"mask", *(self.of_series if is_series(_paths(source)[0]) else ())}
        wanted = {*beside} | (of_mask if "segmentation" in learned_of(model) else set())
        found = {"json": str(target), **{kind: there[kind] for kind in sorted(wanted & there.keys())}}
        return found if wanted <= there.keys() else None

    @staticmethod
    def _is_of(file: Path, source: Source, model: Mapping[str, Any]) -> bool:
        """Whether a prediction is of this scan by these weights and rules."""
        try:
            prediction = json.loads(file.read_text())
            return bool(prediction["model"] == dict(model) and prediction["input_sha256"] == content_sha256(source))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def update_index(self, entries: Mapping[str, Any]) -> None:
        """Add entries to `index.json`, which has the files of every prediction, or why there is none.

        Only one process at a time writes to a folder's index.
        """
        path = self.output_dir / f"{INDEX}.json"
        self.output_dir.mkdir(parents=True, exist_ok=True)
        with _exclusive_lock(self.output_dir):
            try:
                before = json.loads(path.read_text())
                scans = before["scans"] if before["schema_version"] == SCHEMA_VERSION else {}
            except (OSError, ValueError, KeyError, TypeError):  # none yet, a damaged one, or one of an older layout
                scans = {}
            index: PredictionIndex = {"schema_version": SCHEMA_VERSION, "scans": {**scans, **entries}}
            write_json(path, index)


def _compressed(content: bytes) -> bytes:
    """As gzip, by repeated bytes alone: maps become as small as with a search for patterns, in half of its time."""
    stream = zlib.compressobj(wbits=16 + zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return stream.compress(content) + stream.flush()


def _exists(path: Path) -> str:
    return f"{path}: exists already, of another scan, weights or threshold; name another folder, or add --overwrite"


def _unfinished(target: Path) -> Path:
    """The file that lists what is being written of a prediction."""
    return target.with_name(f".{target.name}.unfinished")


def _listed(file: Path) -> list[str]:
    """Names in the file of `_unfinished`; none if there is no such file."""
    return list(json.loads(file.read_text())) if file.is_file() else []


def is_series(source: Path) -> bool:
    """Whether a scan is a DICOM file, or a folder of them."""
    return source.is_dir() or is_dicom(source)


@contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock the folder against other processes; does nothing on a file system without locks."""
    from fcntl import LOCK_EX, flock

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hash_of(source: Source) -> str | None:
    """Hash that distinguishes scans of the same name; None if a file is gone."""
    return content_sha256(source) if all(path.exists() for path in _paths(source)) else None


def _paths(source: Source) -> list[Path]:
    return [Path(path) for path in ([source] if isinstance(source, (str, Path)) else source)]


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)
