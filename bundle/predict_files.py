"""Predict files and folders: find the scans, write each prediction beside its mask, list all in `index.json`."""

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

__all__ = ["predict_files"]

FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


def escape_config_reference(path: str | Path) -> str:
    """A path that a config takes for one: a relative name may begin with a sign that makes code of it there."""
    return f"./{path}" if str(path)[:1] in ("$", "@", "%") else str(path)


def _scans(
    root: Path, paths: Sequence[str | Path], settings: Mapping[str, Any]
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The scans at all paths; what is passed over, and the errors of paths without any scan; see `predict_files`."""

    def found(among: Sequence[str | Path]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        told = {**settings, "dataset_dir": [escape_config_reference(path) for path in among]}
        parts = parse("inference.yaml", ["dataset#data", "passed_over"], root, **told)
        return list(parts["dataset#data"]), {path: {"passed_over": why} for path, why in parts["passed_over"].items()}

    try:
        return found(paths)
    except Exception:
        errors: dict[str, Any] = {}
        for path in (path for path in paths if Path(path).is_dir()):
            try:
                found([path])
            except Exception as error:
                if (reason := reason_of(error)) is None:
                    raise
                errors[str(path)] = {"error": reason}
        if not 0 < len(errors) < len(paths):
            raise
        scans, passed_over = found([path for path in paths if str(path) not in errors])
        return scans, passed_over | errors


def _require_writable(folder: Path) -> None:
    """Make a folder; before the work and not after it a person hears that it takes no file."""
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

    What the same version predicted to the same scan with these weights and this decision is kept.

    Args:
        predictor: the network.
        paths: files, and folders whose tree is kept.
        output_dir: where the predictions go.
        overwrite: replace predictions that are there.
        dicom_seg: write the masks of DICOM series as DICOM SEG as well.

    Returns:
        The index: input -> {"state", "json", "mask", "seg"}, files relative to `output_dir`, {"error": reason}, or
        {"passed_over": reason} for a mask or another sequence in a folder, by its name.

    Raises:
        UserError: when there is no file at all, or the folder of the predictions cannot be written to, or is full.
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
        index = {str(path): {"error": f"{path}: no such file or folder"} for path in paths if not Path(path).exists()}
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
                index[scan["image"]] = _predicted(predictor, write, scan, model)
        finally:
            write.update_index(index)
    except OSError as error:
        kept = "what was predicted is kept, and the same command continues when it can be written"
        raise UserError(f"{output_dir}: {error.strerror}; {kept}") from None
    return index


def _predicted(predictor: Predictor, write: Any, scan: Mapping[str, str], model: Mapping[str, Any]) -> dict[str, str]:
    """Prediction one scan; return its entry of the index, an error as well, for the others are still to be predicted.

    Raises:
        OSError: when the disk is full, which it is for the others too.
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
            logger.exception("%s: not predicted", scan["image"])
            reason = f"{scan['image']}: internal error ({type(root_cause(error)).__name__})"
        return {"error": reason}
