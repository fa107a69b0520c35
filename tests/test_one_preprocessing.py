"""All paths into the network give it the same tensor."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bundle import Predictor
from bundle.loading import parse
from scripts.core.files import sha256_of
from scripts.dataset.sampling import SliceDataset
from scripts.dataset.slice_records import SliceRecords
from scripts.dataset.slice_store import SliceStore


def digest(planes: torch.Tensor) -> str:
    """Hash of (S, C, H, W) float32."""
    return hashlib.sha256(np.ascontiguousarray(planes.numpy(), dtype=np.float32).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def served(pipeline_run: Path, synthetic: Path) -> dict[str, Any]:
    """What the predictor passes to the network for one volume and one image, and the store's cases of them."""
    predictor = Predictor(pipeline_run / "models" / "model.pt")
    store = SliceStore(pipeline_run / "data")
    cases = {case["kind"]: case for case in store.cases()}
    tensors = {}
    for kind, case in cases.items():
        image = predictor.parts["preprocessing"]({"image": case["image"]})["image"].as_tensor()
        tensors[kind] = image.permute(3, 0, 1, 2)[case["slices"]]
    return {"cases": cases, "tensors": tensors, "store": pipeline_run / "data", "synthetic": synthetic}


@pytest.mark.parametrize("kind", ["volume", "image"])
def test_store_and_validation_contain_the_predictors_input(kind: str, served: dict[str, Any]) -> None:
    case = served["cases"][kind]
    dataset = SliceDataset(SliceRecords([{**case, "group": "any"}], 50), served["store"])
    stored = torch.stack([dataset[index]["image"] for index in range(len(dataset))])
    assert digest(stored) == digest(served["tensors"][kind])


@pytest.mark.parametrize("kind", ["volume", "image"])
def test_evaluation_reads_the_predictors_input(
    kind: str, served: dict[str, Any], pipeline_run: Path, tmp_path: Path
) -> None:
    from bundle.loading import load_workflow, suppress_monai_warnings

    settings = {"dataset_dir": str(served["store"]), "output_dir": str(tmp_path)}
    model = str(pipeline_run / "models" / "model.pt")
    workflow = load_workflow(["train.yaml", "evaluate.yaml"], model_path=model, **settings)
    with suppress_monai_warnings():
        workflow.initialize()
        transform = workflow.parser.get_parsed_content("evaluate#dataset").transform
    case = served["cases"][kind]
    image = transform({"image": case["image"]})["image"].as_tensor().permute(3, 0, 1, 2)[case["slices"]]
    assert digest(image) == digest(served["tensors"][kind])


def test_the_workflow_and_the_predictor_give_the_same_prediction(
    served: dict[str, Any], pipeline_run: Path, tmp_path: Path
) -> None:
    from bundle.loading import run_workflow

    model, scan = str(pipeline_run / "models" / "model.pt"), served["cases"]["volume"]["image"]
    run_workflow("run", ["inference.yaml"], dataset_dir=scan, output_dir=str(tmp_path), model_path=model)
    written = json.loads(next(tmp_path.glob("*.json")).read_text())
    prediction = Predictor(model).predict(scan)["result"]
    assert {key: written[key] for key in prediction} == json.loads(json.dumps(prediction))


@pytest.mark.parametrize("state", ["no_tumor", "tumor"])
def test_the_workflow_writes_the_predictors_files(
    state: str, constant_weights: dict[str, Path], served: dict[str, Any], tmp_path: Path, passes: list[int]
) -> None:
    """A mask of the whole head or an empty one, thresholds that differ from all defaults, one pass per slice."""
    from bundle.loading import run_workflow

    for kind, case in served["cases"].items():
        passes.clear()
        settings = {"dataset_dir": case["image"], "output_dir": str(tmp_path / kind)}
        run_workflow("run", ["inference.yaml"], model_path=str(constant_weights[state]), **settings)
        assert sum(passes) == len(case["slices"])
        predictor = Predictor(constant_weights[state])
        expected = predictor.predict(case["image"])
        written = json.loads(next((tmp_path / kind).glob("*.json")).read_text())
        source = {"input": Path(case["image"]).name, "input_sha256": sha256_of(Path(case["image"]))}
        assert written == {**source, **expected["result"]} and written["state"] == state
        (content,) = predictor.files(expected).values()
        assert next((tmp_path / kind).glob("*_mask.*")).read_bytes() == content


def test_the_golden_input_has_not_changed(served: dict[str, Any]) -> None:
    """Statistics of what is served for two fixed phantoms; a change here makes every released weight worthless."""
    preprocessing = parse("inference.yaml", ["preprocessing"])["preprocessing"]
    synthetic = served["synthetic"]
    volume = preprocessing({"image": str(synthetic / "brats/PHANTOM_001/PHANTOM_001_flair.nii.gz")})[
        "image"
    ].as_tensor()
    image = preprocessing({"image": str(synthetic / "kaggle/yes/PHANTOM_Y1.jpg")})["image"].as_tensor()
    golden = json.loads(Path(__file__).with_name("golden_inputs.json").read_text())
    for name, tensor in {"volume": volume, "image": image}.items():
        tissue = tensor[tensor > -4]
        found = {"shape": list(tensor.shape), "tissue": len(tissue), "sum": float(tensor.double().sum())}
        found["quantiles"] = torch.quantile(tissue.double(), torch.tensor([0.05, 0.5, 0.95]).double()).tolist()
        assert found["shape"] == golden[name]["shape"]
        assert found["tissue"] == pytest.approx(golden[name]["tissue"], rel=1e-3)
        assert found["sum"] == pytest.approx(golden[name]["sum"], rel=1e-3)
        assert found["quantiles"] == pytest.approx(golden[name]["quantiles"], abs=5e-3)
