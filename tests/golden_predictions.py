"""What the released weights predict for a few phantoms. When weights change on purpose, make the file anew:

python -m tests.golden_predictions
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.predictor import Predictor

GOLDEN = Path(__file__).with_name("golden_predictions.json")
SEED = 21


def measure() -> dict[str, Any]:
    """Hash of the weights; of each phantom the probability, those of its slices, and a hash of its mask."""
    predictor = Predictor(device="cpu")
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_volumes(folder / "brats", 3, slices=20, side=160, seed=SEED)
        write_images(folder / "kaggle", 6, seed=SEED)
        scans = [*sorted(folder.glob("brats/*/*_flair.nii.gz")), *sorted(folder.glob("kaggle/*/*"))]
        found = {scan.name: _measured(predictor.predict(scan)) for scan in scans}
    return {"weights_sha256": predictor.parts["model_card"]["sha256"], "predictions": found}


def _measured(prediction: dict[str, Any]) -> dict[str, Any]:
    mask = np.ascontiguousarray(prediction["pred"].as_tensor().numpy().astype(np.uint8))
    numbers = {key: prediction["result"].get(key) for key in ("tumor_probability", "slice_probabilities")}
    return {**numbers, "mask_pixels": int(mask.sum()), "mask_sha256": hashlib.sha256(mask.tobytes()).hexdigest()}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(measure(), indent=1) + "\n")
