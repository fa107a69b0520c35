"""The Python of the browser app in a process without torch, and what differs between its result and the predictor's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bundle.predictor import Predictor
from bundle.web.site import write_app

CLOSE = 1e-3  # of a probability
SIDE = 256

PAGE = """
import sys, json
import numpy as np
app, place = sys.argv[1:]
sys.path.insert(0, app)
from bundle_web.predict import Prediction
prediction = Prediction(app + "/model")
for scan in map(str.strip, sys.stdin):
    np.save(place + "/slices.npy", prediction.begin(scan))
    print("asked", flush=True)
    sys.stdin.readline()
    outputs = np.load(place + "/outputs.npz")
    found = prediction.finish(outputs["packed"], outputs["features"], len(outputs["packed"]), SIDE, SIDE)
    open(place + "/" + found["mask_name"], "wb").write(found["mask"])
    print(json.dumps([found["result"], found["mask_name"]]), flush=True)
assert not hasattr(sys.modules["torch"], "__version__"), "torch was imported"
""".replace("SIDE", str(SIDE))


def predictions_without_browser(
    predictor: Predictor, scans: Sequence[Path], folder: Path
) -> Iterator[tuple[Any, str, bytes]]:
    """Result, name of the mask's file and its bytes of each scan, from the app's Python; the network runs here."""
    write_app(predictor, folder / "app", third_party=False)
    (folder / "page.py").write_text(PAGE)
    words = [sys.executable, str(folder / "page.py"), str(folder / "app"), str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdin and page.stdout

        def said(line: str) -> str:
            print(line, file=page.stdin, flush=True)
            return page.stdout.readline()  # type: ignore[union-attr]

        for scan in scans:
            assert said(str(scan.resolve())) == "asked\n", scan
            np.savez(folder / "outputs.npz", **outputs_of(predictor.network, np.load(folder / "slices.npy")))
            result, name = json.loads(said(""))
            yield json.loads(result), name, (folder / name).read_bytes()
    assert page.returncode == 0


def outputs_of(network: Any, slices: np.ndarray, batch_size: int = 8) -> dict[str, np.ndarray]:
    """What the exported network gives, from the network itself."""
    packed, features = [np.zeros((0, 2, SIDE, SIDE), np.float32)], [np.zeros((0, 1), np.float32)][:0]
    with torch.inference_mode():
        for image in torch.from_numpy(slices).split(batch_size) if len(slices) else ():
            bottleneck = network.encoder(image)[-1]
            features.append(network.head.average(bottleneck, network.foreground(image)).numpy())
            packed.append(network(image).numpy())
    return {"packed": np.concatenate(packed), "features": np.concatenate(features) if features else np.zeros((0, 1))}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of two results differs: the state, the flags, a probability, the mask's volume."""
    told = [
        f"{name}: {found.get(name)}, {expected.get(name)}"
        for name in ("kind", "state")
        if found[name] != expected[name]
    ]
    codes = [[flag["code"] for flag in result["flags"]] for result in (found, expected)]
    told += [f"flags: {codes}"] * (codes[0] != codes[1])
    pairs = [[result["tumor_probability"], *result.get("slice_probabilities", [])] for result in (found, expected)]
    for one, other in zip(*pairs, strict=True):
        if (one is None) != (other is None) or (one is not None and abs(one - other) > CLOSE):
            told.append(f"probability: {one}, {other}")
    for name in ("volume_ml", "area_mm2"):
        if abs(found.get(name, 0.0) - expected.get(name, 0.0)) > 0.01 * max(1.0, expected.get(name, 0.0)):
            told.append(f"{name}: {found.get(name)}, {expected.get(name)}")
    return told
