"""The whole pipeline on synthetic data: run this first."""

from __future__ import annotations

import json
from pathlib import Path

from .datasets.phantoms import write_images, write_volumes
from .manifest import Manifest, contents, lock_folder, removed_if_refused
from .predict_files import predict_files
from .predictor import Predictor
from .workflows.pipeline import run_pipeline, settings_of

__all__ = ["run_demo"]

PATIENTS, SLICES, SPACING_MM, IMAGES = 10, 16, 8.0, 60
TIMES = {"data": "20 s", "calibration": "10 s", "evaluation_stage1": "10 s", "evaluation": "20 s", "models": "1 s"}


def run_demo(output: Path) -> dict[str, Path]:
    """Write phantoms, train, evaluate, predict.

    Returns:
        Where the results are, by their names.

    Raises:
        UserError: when the folder holds other results, or an active run.
    """
    synthetic, kept = output / "phantoms", contents(output)
    with lock_folder(output), removed_if_refused(output, kept):
        Manifest(output, settings_of("demo"))
        if not (synthetic / "complete").is_file():
            print(f"phantoms: write {PATIENTS} synthetic volumes and {IMAGES} images, about 5 s ...", flush=True)
            write_volumes(synthetic / "brats", PATIENTS, slices=SLICES, spacing_mm=SPACING_MM)
            write_images(synthetic / "kaggle", IMAGES)
            (synthetic / "complete").touch()
    models = run_pipeline(output, synthetic / "brats", [str(synthetic / "kaggle")], preset="demo", times=TIMES)

    split = json.loads((output / "data" / "splits.json").read_text())["cases"]
    unseen = [case for case, entry in split.items() if entry["fold"] == 0]
    volume = next(case for case in unseen if case.startswith("brats/"))
    image = next(case for case in unseen if case.startswith("kaggle/yes/"))
    scans = [synthetic / volume / f"{Path(volume).name}_flair.nii.gz", synthetic / image]
    predictions = output / "predictions"
    predict_files(Predictor(models / "model.pt"), scans, predictions, overwrite=True)
    return {
        "report": output / "evaluation" / "report.json",
        "volumes": output / "evaluation" / "overlays_brats.png",
        "images": output / "evaluation" / "overlays_kaggle.png",
        "predictions": predictions,
        "weights": models / "model.pt",
    }
