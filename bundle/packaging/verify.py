"""The checks of a model zoo on a packed bundle, offline, and our own: outputs are as the metadata describes them.

Those of `static_checks.py` come first and run nothing; those here run the folder's code, on request only.
"""

from __future__ import annotations

import logging
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
from .static_checks import STATIC_CHECKS, CheckError, CheckSkipped, Given

__all__ = ["CHECKS", "CODE_CHECKS", "CheckResult", "verify"]

NOT_ASKED = "runs the folder's code: only with --run-code"
TOLERANCE = 1e-4


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Args:
        name: of the check.
        passed: None if the check was skipped.
        reason: why it failed or was skipped.
    """

    name: str
    passed: bool | None
    reason: str = ""


def verify(
    folder: Path,
    schema: Path | None = None,
    signers: Path | None = None,
    run_code: bool = False,
    key: Path | None = None,
) -> Iterator[CheckResult]:
    """Run every check, one after the other; those that run the folder's code last, on request only.

    Args:
        folder: a packed bundle.
        schema: file of the metadata's JSON schema, which is not part of the bundle.
        signers: file of accepted keys, see `static_checks.signature`.
        run_code: also run its Python files and configs, in this process and with its rights, if all else is right.
        key: file of a public key; the folder must be signed by its owner, see `signing.py`.
    """
    given, sound = Given(schema, signers, key), True
    for name, check in STATIC_CHECKS.items():
        result = _result(name, check, folder, given)
        sound = sound and result.passed is not False
        yield result
    if run_code and sound:
        silence_loggers()
        logging.getLogger("monai.bundle.scripts").setLevel(logging.WARNING)
        make_importable(folder)
    for name, check in CODE_CHECKS.items():
        if run_code and sound:
            yield _result(name, check, folder, given)
        else:
            yield CheckResult(name, None, NOT_ASKED if not run_code else "a check before failed, its code is not run")


def _result(name: str, check: Callable[[Path, Given], None], folder: Path, given: Given) -> CheckResult:
    """Result of one check; any error is a failure."""
    try:
        check(folder, given)
    except CheckSkipped as reason:
        return CheckResult(name, None, str(reason))
    except CheckError as error:
        return CheckResult(name, False, str(error))
    except Exception as error:
        reason_text = reason_of(error) or " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return CheckResult(name, False, reason_text)
    return CheckResult(name, True)


def network_shapes(folder: Path, _: Given) -> None:
    """MONAI's check that the network's input and output are as the metadata describes them."""
    from monai.bundle import verify_net_in_out

    with suppress_monai_warnings(folder):
        verify_net_in_out("network_def", **_files(folder), device="cpu", bundle_root=str(folder))


def torchscript(folder: Path, _: Given) -> None:
    """MONAI's export to TorchScript works, and the export gives the network's logits."""
    import torch
    from monai.bundle import ckpt_export

    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        raise CheckSkipped("the weights are missing, download them first")
    network = _parsed(folder, "loaded").eval()
    with tempfile.TemporaryDirectory() as place, suppress_monai_warnings(folder):
        exported = Path(place) / "model.ts"
        ckpt_export("network_def", str(exported), str(weights), **_files(folder), bundle_root=str(folder))
        scripted = torch.jit.load(str(exported)).eval()
        image = torch.randn(1, *_input_shape(folder), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            difference = float((scripted(image) - network(image)).abs().max())
    if not difference <= TOLERANCE:  # NaN is no prediction either
        raise CheckError(f"the exported network differs by {difference:g}")


def properties(folder: Path, _: Given) -> None:
    """MONAI finds all properties of a bundle for inference."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as place:
        scan = Path(place) / "scan.png"
        Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(scan)
        settings = {"dataset_dir": str(scan), "output_dir": f"{place}/predictions"}
        absent = _absent(load_workflow(["inference.yaml"], folder, workflow_type="infer", **settings))
    if absent:
        raise CheckError(f"inference.yaml lacks {', '.join(absent)}")


def training(folder: Path, _: Given) -> None:
    """The bundle's workflows run on random heads: preprocess, train, evaluate, predict."""
    from ..datasets.phantoms import write_images, write_volumes

    with tempfile.TemporaryDirectory() as place, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        read = _parsed(folder, "modalities")
        write_volumes(Path(place) / "brats", 3, slices=10, side=96, modalities=read)
        write_images(Path(place) / "kaggle", 6)
        channels = {"modalities": read, "regions": _parsed(folder, "regions")}
        data, trained = {"dataset_dir": f"{place}/data", "folds": 3, **channels}, f"{place}/trained"
        sources = {"volumes": f"{place}/brats", "images": f"{place}/kaggle"}
        run_workflow("preprocessing", ["preprocess.yaml"], folder, **data, **sources)
        short = {"dataset_dir": data["dataset_dir"], "max_epochs": 1, "samples_per_epoch": 16, "num_workers": 0}
        types = {"tumor_types": _parsed(folder, "tumor_types")}
        short |= {**channels, **types}
        joint = {"kinds": ["volume", "image"], "do_cls": True}
        workflow = load_workflow(["train.yaml"], folder, workflow_type="train", **short, output_dir=trained, **joint)
        if absent := _absent(workflow):
            raise CheckError(f"train.yaml lacks {', '.join(absent)}")
        run_workflow("training", ["train.yaml"], folder, **short, output_dir=trained, **joint)
        scored = {"dataset_dir": data["dataset_dir"], "model_path": f"{trained}/model.pt", **channels, **types}
        run_workflow("evaluating", ["train.yaml", "evaluate.yaml"], folder, **scored, output_dir=f"{place}/scores")
        predictions = {"model_path": f"{trained}/model.pt", "output_dir": f"{place}/predictions"}
        run_workflow("run", ["inference.yaml"], folder, dataset_dir=f"{place}/kaggle/yes", **predictions)
        if not list((Path(place) / "predictions").rglob("*.json")):
            raise CheckError("inference.yaml wrote no prediction")


def inference(folder: Path, _: Given) -> None:
    """Random scans are predicted, and every output is as the metadata describes it."""
    import numpy as np

    from ..arrays import as_file
    from ..predictor import Predictor

    if not (folder / "models" / "model.pt").is_file():
        raise CheckSkipped("the weights are missing, download them first")
    described = read_json(folder / "configs" / "metadata.json")["network_data_format"]["outputs"]
    predictor, rng = Predictor(folder / "models" / "model.pt", root=folder), np.random.default_rng(0)
    channels = len(predictor.parts["modalities"])
    head = np.hypot(*(np.mgrid[:96, :96] - 48)) < 40
    for shape, spacing in (((96, 96), None), ((96, 96, 4), (2.0, 2.0, 3.0))):
        noise = rng.uniform(20, 200, shape) * (head if len(shape) == 2 else head[..., None])
        found = predictor.predict([as_file(noise, spacing)] * channels)
        mask, result = found["pred"], found["result"]
        values = {float(value) for value in mask.unique()}
        if not values <= {float(name) for name in described["pred"]["channel_def"]}:
            raise CheckError(f"pred holds {sorted(values)}, which are not in its channel_def")
        if tuple(mask.shape[1 : 1 + len(shape)]) != shape:
            raise CheckError(f"pred has the shape {tuple(mask.shape)}, the scan {shape}")
        if absent := described.keys() - found.keys():
            raise CheckError(f"outputs of the metadata are missing: {', '.join(sorted(absent))}")
        classes = found["probabilities"].tolist()
        (low, high), count = (described["probabilities"][name] for name in ("value_range", "num_channels"))
        if len(classes) != count or not low <= min(classes) <= max(classes) <= high:
            raise CheckError(f"probabilities are {classes}")
        if abs(classes[1] - result["tumor_probability"]) > 1e-6:
            raise CheckError(f"probabilities are {classes}, tumor_probability is {result['tumor_probability']}")


def _absent(workflow: Any) -> list[str]:
    """Required properties that MONAI does not find in a workflow."""
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


CODE_CHECKS: dict[str, Callable[[Path, Given], None]] = {
    "network in and out": network_shapes,
    "TorchScript": torchscript,
    "properties": properties,
    "inference on random files": inference,
    "training on random files": training,
}
CHECKS = STATIC_CHECKS | CODE_CHECKS
