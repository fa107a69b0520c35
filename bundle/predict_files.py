"""Predict files and folders: list the scans, write each prediction and mask, list all in `index.json`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .errors import UserError, reason_of, root_cause
from .loading import parse
from .manifest import read_json
from .predictor import Predictor

__all__ = ["own_path", "predict_files"]

FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


def own_path(entry: str | Path) -> Path:
    """The path of "PATH" or "NAME=PATH"."""
    name, _, path = str(entry).partition("=")
    return Path(path if name and path and not Path(entry).exists() else entry)


def escape_config_reference(path: str | Path) -> str:
    """Prefix a relative path that begins with a character which a config evaluates."""
    return f"./{path}" if str(path)[:1] in ("$", "@", "%") else str(path)


def _scans(
    root: Path, paths: Sequence[str | Path], settings: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """List the scans at all paths, the skipped files and the errors of paths without a scan; see `predict_files`."""

    def list_scans(folders: Sequence[str | Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        overrides = {**settings, "dataset_dir": [escape_config_reference(path) for path in folders]}
        parts = parse("inference.yaml", ["dataset#data", "skipped"], root, **overrides)
        return list(parts["dataset#data"]), {path: {"skipped": why} for path, why in parts["skipped"].items()}

    try:
        return list_scans(paths)
    except Exception:
        errors: dict[str, Any] = {}
        for path in (path for path in paths if own_path(path).is_dir()):
            try:
                list_scans([path])
            except Exception as error:
                if (reason := reason_of(error)) is None:
                    raise
                errors[str(path)] = {"error": reason}
        if not 0 < len(errors) < len(paths):
            raise
        scans, skipped = list_scans([path for path in paths if str(path) not in errors])
        return scans, skipped | errors


def _require_writable(folder: Path) -> None:
    """Make a folder and check that files can be written there, before the work begins."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror}") from None


def predict_files(
    predictor: Predictor,
    paths: Sequence[str | Path],
    output_dir: str | Path,
    overwrite: bool = False,
    dicom_seg: bool = False,
) -> dict[str, Any]:
    """Predict files and folders; write predictions, masks and `index.json`.

    A prediction of the same scan by the same version, weights and decision is kept.

    Args:
        predictor: the network.
        paths: files, and folders, each "PATH" or "NAME=PATH"; the tree of a folder is kept, below NAME.
        output_dir: folder of the predictions.
        overwrite: replace existing predictions.
        dicom_seg: also write the masks of DICOM series as DICOM SEG.

    Returns:
        The index: input -> {"state", "json", "mask", "seg"}, files relative to `output_dir`, {"error": reason}, or
        {"skipped": reason} for a file in a folder that is skipped, being a mask or another sequence by its name.

    Raises:
        UserError: when no path exists, or the folder of the predictions cannot be written to or is full.
    """
    from tqdm import tqdm

    output_dir = Path(output_dir)
    settings: dict[str, Any] = {
        "output_dir": escape_config_reference(output_dir),
        "overwrite": overwrite,
        "dicom_seg": dicom_seg,
    }
    settings["modalities"] = list(predictor.parts["modalities"])
    try:
        write = parse("inference.yaml", ["writer"], predictor.root, **settings)["writer"]
        index = {
            str(path): {"error": f"{path}: no such file or folder"} for path in paths if not own_path(path).exists()
        }
        scans, errors = _scans(predictor.root, [path for path in paths if str(path) not in index], settings)
        index |= errors
    except Exception as error:
        reason = reason_of(error)
        raise (UserError(reason) if reason else error) from None
    _require_writable(output_dir)
    model = {**predictor.parts["model_card"], "decision": predictor.parts["decision"].digest()}
    try:
        try:
            for scan in tqdm(scans, desc="predicting", unit="scan", disable=len(scans) < 2):
                index[_first_file(scan)] = _predicted(predictor, write, scan, model)
        finally:
            write.update_index(index)
    except OSError as error:
        remedy = "finished predictions are kept; make room and run the same command again to resume"
        raise UserError(f"{output_dir}: {error.strerror}; {remedy}") from None
    return index


def _first_file(scan: Mapping[str, Any]) -> str:
    """The file of a scan, or that of its first modality."""
    return str(scan["image"] if isinstance(scan["image"], str) else scan["image"][0])


def _predicted(predictor: Predictor, write: Any, scan: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, str]:
    """Predict one scan; return its entry of the index, which has the error if there is one.

    Raises:
        OSError: when the disk is full.
    """
    try:
        done = write.done_before(scan["name"], scan["image"], model)
        files = done or write(predictor.predict(scan["image"]), scan["name"])
        beside = {kind: str(Path(file).relative_to(write.output_dir)) for kind, file in files.items()}
        return {"state": read_json(Path(files["json"]))["state"], **beside}
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        if (reason := reason_of(error)) is None:
            logger.exception("%s: not predicted", _first_file(scan))
            reason = f"{_first_file(scan)}: internal error ({type(root_cause(error)).__name__})"
        return {"error": reason}
