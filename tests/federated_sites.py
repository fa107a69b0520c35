"""Sites of federated learning: phantoms of their own, and the FLARE job of `bundle/flare` with few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle.datasets.phantoms import write_images, write_volumes
from bundle.loading import run_workflow

FLARE = Path(__file__).resolve().parents[1] / "bundle" / "flare"
ROUNDS, STEPS = 2, 2
SHORT = {"max_epochs": ROUNDS, "samples_per_epoch": 8 * STEPS, "num_workers": 0}


def write_store(store: Path, seed: int) -> None:
    """Write the slice store of a site, with data that depend on the seed."""
    sources = store.with_name(f"{store.name}_sources")
    write_volumes(sources / "brats", 3, slices=10, side=96, seed=seed)
    write_images(sources / "kaggle", 6, seed=seed)
    named = {"volumes": str(sources / "brats"), "images": str(sources / "kaggle")}
    run_workflow("preprocessing", ["preprocess.yaml"], dataset_dir=str(store), folds=3, **named)


def flare_config(name: str, **variables: str) -> dict[str, Any]:
    """A JSON file of the job or its policy, with FLARE's variables filled in."""
    text = (FLARE / name).read_text()
    for variable, value in variables.items():
        text = text.replace(f"{{{variable}}}", value)
    return dict(json.loads(text))
