"""Every config instantiates, refuses what it does not know, and has what MONAI looks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundle.loading import load_workflow, run_workflow, suppress_monai_warnings

TRAINING = [
    ["train.yaml"],
    ["train.yaml", "stage2_classification.yaml"],
    ["train.yaml", "stage3_joint.yaml"],
]


def ready(configs: list[str], workflow_type: str | None = None, **overrides: Any) -> Any:
    """An initialized workflow."""
    workflow = load_workflow(configs, workflow_type=workflow_type, **overrides)
    with suppress_monai_warnings():
        workflow.initialize()
    return workflow


@pytest.mark.parametrize("configs", TRAINING, ids=lambda configs: configs[-1])
def test_training_configs_instantiate(configs: list[str], store: Path, pipeline_run: Path, tmp_path: Path) -> None:
    weights = str(pipeline_run / "stage1" / "model.pt")
    workflow = ready(configs, dataset_dir=str(store), output_dir=str(tmp_path), initial_weights=weights)
    trainer = workflow.parser.get_parsed_content("train#trainer")
    assert trainer.state.max_epochs > 0 and len(trainer.data_loader) > 0


def test_evaluation_instantiates(store: Path, pipeline_run: Path, tmp_path: Path) -> None:
    weights = str(pipeline_run / "stage3" / "model.pt")
    settings = {"dataset_dir": str(store), "output_dir": str(tmp_path), "model_path": weights}
    workflow = ready(["train.yaml", "evaluate.yaml"], **settings)
    assert len(workflow.parser.get_parsed_content("evaluate#dataloader")) > 0


def test_inference_instantiates(pipeline_run: Path, synthetic: Path, tmp_path: Path) -> None:
    weights = str(pipeline_run / "models" / "model.pt")
    workflow = ready(
        ["inference.yaml"], dataset_dir=str(synthetic / "kaggle"), output_dir=str(tmp_path), model_path=weights
    )
    assert workflow.parser.get_parsed_content("evaluator") is not None


def test_preprocessing_instantiates(synthetic: Path, tmp_path: Path) -> None:
    settings = {
        "volumes": str(synthetic / "brats"),
        "images": str(synthetic / "kaggle"),
        "dataset_dir": str(tmp_path),
    }
    workflow = ready(["preprocess.yaml"], **settings)
    assert len(workflow.parser.get_parsed_content("cases")) == 30


def test_monai_finds_every_property_of_a_training_bundle(store: Path, tmp_path: Path) -> None:
    workflow = ready(["train.yaml"], "train", dataset_dir=str(store), output_dir=str(tmp_path))
    assert workflow.check_properties() == []


def test_monai_finds_every_property_of_an_inference_bundle(synthetic: Path, tmp_path: Path) -> None:
    workflow = ready(["inference.yaml"], "infer", dataset_dir=str(synthetic / "kaggle"), output_dir=str(tmp_path))
    assert workflow.check_properties() == []


RUNS = [
    ("preprocessing", ["preprocess.yaml"]),
    *(("training", configs) for configs in TRAINING),
    ("evaluating", ["train.yaml", "evaluate.yaml"]),
    ("run", ["inference.yaml"]),
]


@pytest.mark.parametrize(("run_id", "configs"), RUNS, ids=lambda value: value[-1] if isinstance(value, list) else "")
def test_an_unknown_key_is_refused_before_the_run(run_id: str, configs: list[str], tmp_path: Path) -> None:
    """A misspelled override is an error, not ignored."""
    key = "dataset_dir" if run_id != "preprocessing" else "output"
    with pytest.raises(RuntimeError) as error:
        run_workflow(run_id, configs, **{"max_epoch": 3, key: str(tmp_path)})
    causes = []
    cause: BaseException | None = error.value
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__
    assert any("unknown config keys: max_epoch" in text for text in causes)
    assert not list(tmp_path.iterdir())


def test_the_resolved_config_is_saved_beside_the_weights(pipeline_run: Path) -> None:
    """With overrides applied."""
    import json

    config = json.loads((pipeline_run / "stage3" / "config.json").read_text())
    assert config["max_epochs"] == 1 and config["encoder_lr"] == 1e-4 and config["other_lr"] == 3e-4
