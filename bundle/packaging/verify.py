"""Every gate that a packed bundle meets in a model zoo, offline, and our own: outputs are as described."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from ..errors import reason_of
from ..loading import load_workflow, make_importable, run_workflow, silence_loggers, suppress_monai_warnings
from ..manifest import read_json
from ..weights import pins_of
from .pack import NEEDED

__all__ = ["GATES", "Verdict", "verify"]

SECTIONS = ("overview", "data", "training", "input", "output", "performance", "commands", "references", "license")
EXACT_PIN = re.compile(r"\d+(\.\d+)+([a-z]+\d+)?")
PERSONAL_PATH = re.compile(r"(/home/|/Users/|/root/|[A-Z]:\\{1,2}Users)")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Verdict:
    """Of one gate.

    Args:
        gate: its name.
        passed: None where it could not be asked.
        reason: what failed, or why it was not asked.
    """

    gate: str
    passed: bool | None
    reason: str = ""


class GateError(Exception):
    """A gate is not passed; the message is one line."""


class NotAsked(Exception):
    """A gate cannot be asked here; the message is one line."""


def verify(folder: Path, schema: Path | None = None) -> Iterator[Verdict]:
    """Ask every gate, one after the other.

    Args:
        folder: a packed bundle.
        schema: file of the metadata's schema, which is fetched from elsewhere and not part of the bundle.
    """
    silence_loggers()
    logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
    make_importable(folder)
    for name, gate in GATES.items():
        try:
            gate(folder, schema)
            yield Verdict(name, True)
        except NotAsked as why:
            yield Verdict(name, None, str(why))
        except GateError as error:
            yield Verdict(name, False, str(error))
        except Exception as error:
            yield Verdict(name, False, reason_of(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300])


def structure(folder: Path, _: Path | None) -> None:
    """Files, sections of the model card, no path of somebody's machine."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    weights = [name for name in ("models/model.pt", "models/model.ts", "large_files.yml") if (folder / name).is_file()]
    if missing or not weights:
        raise GateError(f"missing: {', '.join(missing) or 'weights, or large_files.yml'}")
    card = (folder / "docs" / "README.md").read_text().lower()
    absent = [section for section in SECTIONS if not re.search(rf"^#+ .*{section}", card, re.MULTILINE)]
    if absent:
        raise GateError(f"docs/README.md has no section about {', '.join(absent)}")
    for path in sorted(
        [*folder.rglob("*.py"), *folder.rglob("*.yaml"), *folder.rglob("*.json"), *folder.rglob("*.md")]
    ):
        if found := PERSONAL_PATH.search(path.read_text(errors="replace")):
            raise GateError(f"{path.relative_to(folder)}: names a path of somebody's machine ({found.group()})")


def changelog(folder: Path, _: Path | None) -> None:
    """The version is in the changelog."""
    metadata = read_json(folder / "configs" / "metadata.json")
    if metadata["version"] not in metadata["changelog"]:
        raise GateError(f"version {metadata['version']} is not in the changelog")


def pins(folder: Path, _: Path | None) -> None:
    """Every package has one exact version, and this environment does not contradict it."""
    from importlib.metadata import PackageNotFoundError, version

    metadata = read_json(folder / "configs" / "metadata.json")
    for name, pin in pins_of(metadata).items():
        if not EXACT_PIN.fullmatch(pin):
            raise GateError(f"{name}: '{pin}' is no exact version")
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            raise GateError(f"{name}: not installed here, so nothing else was checked with it") from None
        if installed != pin:
            raise GateError(f"{name}: {installed} is installed here, {pin} is named")


def schema_of_metadata(folder: Path, schema: Path | None) -> None:
    """MONAI's own check of the metadata, with a schema that is there already."""
    from monai.bundle import verify_metadata

    if schema is None:
        raise NotAsked("needs the schema that metadata.json names: --schema FILE")
    verify_metadata(meta_file=str(folder / "configs" / "metadata.json"), filepath=str(schema))


def network_shapes(folder: Path, _: Path | None) -> None:
    """MONAI's own check that the network's input and output are as the metadata say."""
    from monai.bundle import verify_net_in_out

    with suppress_monai_warnings():
        verify_net_in_out("network_def", **_files(folder), device="cpu", bundle_root=str(folder))


def torchscript(folder: Path, _: Path | None) -> None:
    """MONAI's own export, and that it predictions what the network predictions."""
    import torch
    from monai.bundle import ckpt_export

    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        raise NotAsked("the weights are to be fetched first")
    network = _parsed(folder, "loaded").eval()
    with tempfile.TemporaryDirectory() as place, suppress_monai_warnings():
        exported = Path(place) / "model.ts"
        ckpt_export("network_def", str(exported), str(weights), **_files(folder), bundle_root=str(folder))
        scripted = torch.jit.load(str(exported)).eval()
        image = torch.randn(1, *_input_shape(folder), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            difference = float((scripted(image) - network(image)).abs().max())
    if not difference <= TOLERANCE:  # NaN is no prediction either
        raise GateError(f"the exported network differs by {difference:g}")


def properties(folder: Path, _: Path | None) -> None:
    """MONAI finds everything that it looks for in a bundle for inference."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        scan = Path(place) / "scan.png"
        Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(scan)
        settings = {"dataset_dir": str(scan), "output_dir": f"{place}/predictions"}
        absent = _absent(load_workflow(["inference.yaml"], folder, workflow_type="infer", **settings))
    if absent:
        raise GateError(f"inference.yaml lacks {', '.join(absent)}")


def training(folder: Path, _: Path | None) -> None:
    """From files of random heads to trained weights that are scored and prediction, by the bundle's own workflows."""
    from ..datasets.phantoms import write_images, write_volumes

    with tempfile.TemporaryDirectory() as place, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        write_volumes(Path(place) / "brats", 3, slices=10, side=96)
        write_images(Path(place) / "kaggle", 6)
        data, trained = {"dataset_dir": f"{place}/data", "folds": 3}, f"{place}/trained"
        sources = {"brats_dir": f"{place}/brats", "kaggle_dir": f"{place}/kaggle"}
        run_workflow("preprocessing", ["preprocess.yaml"], folder, **data, **sources)
        short = {"dataset_dir": data["dataset_dir"], "max_epochs": 1, "samples_per_epoch": 16, "num_workers": 0}
        joint = {"kinds": ["volume", "image"], "do_cls": True}
        workflow = load_workflow(["train.yaml"], folder, workflow_type="train", **short, output_dir=trained, **joint)
        if absent := _absent(workflow):
            raise GateError(f"train.yaml lacks {', '.join(absent)}")
        run_workflow("training", ["train.yaml"], folder, **short, output_dir=trained, **joint)
        scored = {"dataset_dir": data["dataset_dir"], "model_path": f"{trained}/model.pt"}
        run_workflow("evaluating", ["train.yaml", "evaluate.yaml"], folder, **scored, output_dir=f"{place}/scores")
        predictions = {"model_path": f"{trained}/model.pt", "output_dir": f"{place}/predictions"}
        run_workflow("run", ["inference.yaml"], folder, dataset_dir=f"{place}/kaggle/yes", **predictions)
        if not list((Path(place) / "predictions").glob("*.json")):
            raise GateError("inference.yaml left no prediction")


def inference(folder: Path, _: Path | None) -> None:
    """Random files of every kind are predicted, and every output is as the metadata describe it."""
    import numpy as np

    from ..predictor import Predictor

    if not (folder / "models" / "model.pt").is_file():
        raise NotAsked("the weights are to be fetched first")
    described = read_json(folder / "configs" / "metadata.json")["network_data_format"]["outputs"]
    predictor, rng = Predictor(folder / "models" / "model.pt", root=folder), np.random.default_rng(0)
    head = np.hypot(*(np.mgrid[:96, :96] - 48)) < 40
    for shape, spacing in (((96, 96), None), ((96, 96, 4), (2.0, 2.0, 3.0))):
        noise = rng.uniform(20, 200, shape) * (head if len(shape) == 2 else head[..., None])
        found = predictor.predict(noise, spacing)
        mask, result = found["pred"], found["result"]
        values = {float(value) for value in mask.unique()}
        if not values <= {float(name) for name in described["pred"]["channel_def"]}:
            raise GateError(f"pred holds {sorted(values)}, which its channel_def does not name")
        if tuple(mask.shape[1 : 1 + len(shape)]) != shape:
            raise GateError(f"pred has the shape {tuple(mask.shape)}, the scan {shape}")
        if absent := described.keys() - found.keys():
            raise GateError(f"the metadata describe outputs that are not there: {', '.join(sorted(absent))}")
        classes = found["probabilities"].tolist()
        (low, high), count = (described["probabilities"][name] for name in ("value_range", "num_channels"))
        if len(classes) != count or not low <= min(classes) <= max(classes) <= high:
            raise GateError(f"probabilities are {classes}")
        if abs(classes[1] - result["tumor_probability"]) > 1e-6:
            raise GateError(f"probabilities are {classes}, the result says {result['tumor_probability']}")


def _absent(workflow: Any) -> list[str]:
    """What MONAI looks for in a workflow of its type and does not find."""
    with suppress_monai_warnings():
        workflow.initialize()
        return list(workflow.check_properties() or [])


def _files(folder: Path) -> dict[str, str]:
    return {
        "meta_file": str(folder / "configs" / "metadata.json"),
        "config_file": str(folder / "configs" / "inference.yaml"),
    }


def _input_shape(folder: Path) -> tuple[int, ...]:
    image = read_json(folder / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]
    return image["num_channels"], *image["spatial_shape"]


def _parsed(folder: Path, name: str) -> Any:
    from ..loading import parse

    return parse("inference.yaml", [name], folder)[name]


GATES: dict[str, Callable[[Path, Path | None], None]] = {
    "structure": structure,
    "version in changelog": changelog,
    "exact pins": pins,
    "metadata schema": schema_of_metadata,
    "network in and out": network_shapes,
    "TorchScript": torchscript,
    "properties": properties,
    "inference on random files": inference,
    "training on random files": training,
}
