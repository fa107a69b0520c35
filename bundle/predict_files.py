"""Predict files and folders: list the scans, write each prediction with its files, list all in `index.json`.

`lesions.csv` has one row for each lesion of all of them.
"""

from __future__ import annotations

import csv
import errno
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from .core import documents, filenames, files, weights_report
from .errors import UserError, reason_of, root_cause
from .manifest import read_json
from .pictures.views import scan_line
from .predictor import Predictor

__all__ = ["NO_SCAN", "own_path", "predict_files"]

LESIONS = "lesions.csv"
PLACES = {"slices": ("first_slice", "last_slice"), "centroid": "ijk", "centroid_mm": "xyz"}  # columns of lists
OF_BOUND = ("kind", "state", "tumor_probability", "flags")
NO_SCAN = "no such file or folder; name a scan, or a folder of scans"
FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)

Scan = Mapping[str, Any]  # "image" and "name"
Entry = dict[str, Any]  # of the index


def own_path(entry: str | Path) -> Path:
    """The path of "PATH" or "NAME=PATH"."""
    name, _, path = str(entry).partition("=")
    return Path(path if name and path and not Path(entry).exists() else entry)


def escape_config_reference(path: str | Path) -> str:
    """Prefix a relative path that begins with a character which a config evaluates."""
    return f"./{path}" if str(path)[:1] in ("$", "@", "%") else str(path)


def _scans(
    predictor: Predictor, paths: Sequence[str | Path], output_dir: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """List the scans at all paths, the skipped files and the errors of paths without a scan; see `predict_files`."""

    def list_scans(folders: Sequence[str | Path]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        named = {"dataset_dir": [escape_config_reference(path) for path in folders], "output_dir": output_dir}
        parts = predictor.parsed(["dataset#data", "skipped"], **named)
        return list(parts["dataset#data"]), {path: {"skipped": why} for path, why in parts["skipped"].items()}

    try:
        return list_scans(paths)
    except UserError:
        errors: dict[str, Any] = {}
        for path in (path for path in paths if own_path(path).is_dir()):
            try:
                list_scans([path])
            except UserError as error:
                errors[str(path)] = {"error": str(error)}
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
        raise UserError(f"{folder}: cannot be written to: {error.strerror}; name another folder") from None


def predict_files(
    predictor: Predictor,
    paths: Sequence[str | Path],
    output_dir: str | Path,
    overwrite: bool = False,
    dicom: Sequence[str] = (),
    probabilities: bool = False,
    say: Callable[[str], None] = lambda line: None,
    population: str | None = None,
) -> dict[str, Any]:
    """Predict files and folders; write predictions, masks, overlays and `index.json`.

    A prediction of the same scan by the same version, weights and decision is kept.

    Args:
        predictor: the network; it is loaded when there is a scan to predict.
        paths: files, and folders, each "PATH" or "NAME=PATH"; the tree of a folder is kept, below NAME.
        output_dir: folder of the predictions.
        overwrite: replace existing predictions.
        dicom: also write of DICOM series "dicom_seg" (the mask), "dicom_sr" (the values), "rtstruct" (its outlines).
        probabilities: also write the probability that each voxel belongs to the tumor, if the weights learned masks.
        say: gets one line for each prediction.
        population: which of the weights' populations the scans are of, for the bound on missed tumors.

    Returns:
        The index: input -> {"state", "json", "mask", "overlay", "probability", "seg", "sr", "rtstruct"}, files
        relative to `output_dir`, {"error": reason}, or {"skipped": reason} for a file in a folder that is skipped,
        being a mask or another sequence by its name.

    Raises:
        UserError: when no path exists, the weights have no such population, or the folder of the predictions cannot be
            written to or is full.
    """
    from tqdm import tqdm

    output_dir, literal = Path(output_dir), escape_config_reference(output_dir)
    parts = predictor.parsed(
        ["writer", "decision", "model_card", "no_tumor_bounds"],
        output_dir=literal,
        overwrite=overwrite,
        **dict.fromkeys(dicom, True),
    )
    _require_population(parts["no_tumor_bounds"], population)
    index = {str(path): {"error": f"{path}: {NO_SCAN}"} for path in paths if not own_path(path).exists()}
    scans, others = _scans(predictor, [path for path in paths if str(path) not in index], literal)
    index |= others
    _require_writable(output_dir)
    files = _Files(predictor, parts, scans, probabilities, say)
    try:
        try:
            index |= {file_of(scan): _entry(files.kept, scan) for scan in scans}
            left = [scan for scan in scans if not index[file_of(scan)]]
            if left:
                predictor.load()
            for scan in tqdm(left, desc="predicting", unit="scan", disable=len(left) < 2 or None):
                index[file_of(scan)] = _entry(files.predicted, scan)
        finally:
            parts["writer"].update_index({file: entry for file, entry in index.items() if entry})
            _write_lesions(output_dir)
        _write_bounds(parts["no_tumor_bounds"], population, index, output_dir)
    except OSError as error:
        remedy = "finished predictions are kept; make room and run the same command again to resume"
        raise UserError(f"{output_dir}: {error.strerror}; {remedy}") from None
    return index


def _require_population(bounds: Any, population: str | None) -> None:
    """Refuse a population that the weights have no bounds for."""
    if population is not None and population not in (known := sorted(bounds.populations if bounds else ())):
        words = f"these weights have {', '.join(known)}" if known else "these weights have no bounds on missed tumors"
        raise UserError(f"--population {population}: not known, {words}")


def _write_bounds(bounds: Any, population: str | None, index: Mapping[str, Entry], folder: Path) -> None:
    """Write to each prediction of no tumor what bounds the misses, or why nothing does; see `NoTumorBounds`."""
    places = {scan: folder / entry["json"] for scan, entry in index.items() if bounds and "json" in entry}
    results = {scan: {name: read_json(file)[name] for name in OF_BOUND} for scan, file in places.items()}
    said = bounds.of_folder(population, results) if results else {}
    for scan, file in places.items():
        content = read_json(file)
        if content.get("no_tumor_bound") != said.get(scan):
            kept = {name: value for name, value in content.items() if name != "no_tumor_bound"}
            files.write_json(file, {**kept, **({"no_tumor_bound": said[scan]} if scan in said else {})})


def _write_lesions(folder: Path) -> None:
    """Write the lesions of all predictions that the folder's index lists, one row for each."""
    buffer = StringIO()
    names = [name for key in documents.Lesion.__annotations__ for name in _columns(key)]
    table = csv.DictWriter(buffer, ["scan", *names], restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(_rows(folder))
    files.write_bytes(folder / LESIONS, buffer.getvalue().encode())


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for scan, entry in read_json(folder / "index.json")["scans"].items():
        file = folder / entry.get("json", "")
        for lesion in read_json(file).get("lesions", ()) if file.is_file() else ():
            row: dict[str, Any] = {"scan": scan}
            for key, value in lesion.items():
                row |= dict(zip(_columns(key), value if key in PLACES else [value], strict=True))
            yield row


def _columns(key: str) -> list[str]:
    """Columns of an entry of a lesion; a list has several."""
    names = PLACES.get(key, (key,))
    return list(names) if key == "slices" or key not in PLACES else [f"{key}_{name}" for name in names]


class _Files:
    """The files of each prediction.

    Args:
        predictor: see `predict_files`.
        parts: of the inference config: "writer", "decision", "model_card".
        scans: all of them.
        probabilities: see `predict_files`.
        say: see `predict_files`.
    """

    def __init__(
        self,
        predictor: Predictor,
        parts: Mapping[str, Any],
        scans: Sequence[Scan],
        probabilities: bool,
        say: Callable[[str], None],
    ) -> None:
        self.predictor, self.write, self.say = predictor, parts["writer"], say
        self.model = {**parts["model_card"], "decision": parts["decision"].digest()}
        self.probabilities = probabilities and "segmentation" in weights_report.learned_of(self.model)
        self.width = max((len(scan["name"]) for scan in scans), default=0)

    def kept(self, scan: Scan) -> Entry:
        """The entry of an earlier prediction; empty if there is none."""
        beside = ["overlay", *(["probability"] if self.probabilities else [])]
        files = self.write.done_before(scan["name"], scan["image"], self.model, beside)
        return self._noted(scan, files) if files else {}

    def predicted(self, scan: Scan) -> Entry:
        """Predict a scan and write its files."""
        from .pictures.overlay import overlay_png  # not for earlier predictions

        prediction = self.predictor.predict(scan["image"], include_probability=self.probabilities)
        beside = {"overlay.png": overlay_png(prediction)}
        if self.probabilities:
            suffix, content = self.write.encode(prediction["probability"], steps=255)
            beside[f"probability.{suffix}"] = content
        return self._noted(scan, self.write(prediction, scan["name"], beside))

    def _noted(self, scan: Scan, files: Mapping[str, str]) -> Entry:
        result = read_json(Path(files["json"]))
        self.say(scan_line(scan["name"], result, self.width))
        inside = {kind: str(Path(file).relative_to(self.write.output_dir)) for kind, file in files.items()}
        return {"state": result["state"], **inside}


def file_of(scan: Scan) -> str:
    """The file of a scan, or that of the first of its sequences."""
    return filenames.first_file(scan["image"])


def _entry(work: Callable[[Scan], Entry], scan: Scan) -> Entry:
    """The entry of a scan that the work returns, or its error.

    Raises:
        OSError: when the disk is full.
    """
    try:
        return work(scan)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        if (reason := reason_of(error)) is None:
            logger.exception("%s: not predicted", file_of(scan))
            reason = f"internal error ({type(root_cause(error)).__name__})"
        return {"error": reason if file_of(scan) in reason else f"{file_of(scan)}: {reason}"}
