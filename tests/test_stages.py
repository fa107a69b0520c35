"""Three stages on synthetic data: what is handed over, what stays, what continues."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ignite.engine import Events

from bundle.errors import UserError, reason_of, root_cause
from bundle.loading import BUNDLE_ROOT, load_workflow, run_workflow, suppress_monai_warnings
from bundle.workflows.stages import source_folders
from scripts.core.files import sha256_of
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import load_weights


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(torch.load(path, weights_only=True))


def test_stage_two_leaves_stage_ones_segmentation_bit_for_bit(pipeline_run: Path) -> None:
    """Stage 2 changes neither weights nor statistics of encoder and decoder."""
    first, second = (
        load_weights(multi_task_unet("cpu"), pipeline_run / stage / "model.pt").eval() for stage in ("stage1", "stage2")
    )
    image = torch.linspace(-4, 5, 256 * 256).reshape(1, 1, 256, 256)
    with torch.no_grad():
        assert torch.equal(first(image)["seg"], second(image)["seg"])


def test_stage_two_trains_the_head(pipeline_run: Path) -> None:
    first, second = (weights(pipeline_run / stage / "model.pt") for stage in ("stage1", "stage2"))
    assert any(not torch.equal(first[name], second[name]) for name in first if name.startswith("head."))


def test_stage_three_trains_everything(pipeline_run: Path) -> None:
    second, third = (weights(pipeline_run / stage / "model.pt") for stage in ("stage2", "stage3"))
    for part in ("encoder.", "decoder.", "head."):
        assert any(not torch.equal(second[name], third[name]) for name in second if name.startswith(part))


def training(store: Path, output: Path, **overrides: Any) -> Any:
    """The trainer of a short joint stage, not run yet."""
    settings = {"kinds": ["volume", "image"], "do_cls": True, "max_epochs": 2, "samples_per_epoch": 16}
    workflow = load_workflow(
        ["train.yaml"], dataset_dir=str(store), output_dir=str(output), **{**settings, **overrides}
    )
    with suppress_monai_warnings():
        workflow.initialize()
        return workflow.parser.get_parsed_content("train#trainer")


@pytest.fixture(scope="module")
def uninterrupted(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    training(store, output).run()
    return output


def final_state(output: Path) -> dict[str, torch.Tensor]:
    """Weights after the last epoch, best or not."""
    return dict(torch.load(output / "checkpoints" / "epoch_0002.pt", weights_only=True)["network"])


def test_the_same_seed_gives_the_same_weights(uninterrupted: Path, store: Path, tmp_path: Path) -> None:
    training(store, tmp_path, num_workers=2).run()
    assert sha256_of(tmp_path / "model.pt") == sha256_of(uninterrupted / "model.pt")


def test_an_interrupted_run_continues_to_the_same_weights(uninterrupted: Path, store: Path, tmp_path: Path) -> None:
    trainer = training(store, tmp_path)

    def power_cut(engine: Any) -> None:
        if engine.state.epoch == 2 and engine.state.iteration % 2 == 0:
            raise KeyboardInterrupt

    trainer.add_event_handler(Events.ITERATION_COMPLETED, power_cut)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.pt")] == ["epoch_0001.pt"]
    training(store, tmp_path).run()
    resumed, expected = final_state(tmp_path), final_state(uninterrupted)
    assert all(torch.equal(resumed[name], expected[name]) for name in expected)
    assert sha256_of(tmp_path / "model.pt") == sha256_of(uninterrupted / "model.pt")


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_stopped_run_continues_within_its_epoch_or_validation(
    step: int, uninterrupted: Path, store: Path, tmp_path: Path
) -> None:
    """SIGTERM in a step, in the validation after the second step, and in the first step of the second epoch."""
    trainer = training(store, tmp_path)
    event = Events.ITERATION_STARTED(once=step) if step != 2 else Events.ITERATION_COMPLETED(once=2)
    trainer.add_event_handler(event, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as end:
        trainer.run()
    assert end.value.code == 143
    left = {1: "epoch_0000_step_00001.pt", 2: "epoch_0000_step_00002.pt", 3: "epoch_0001_step_00001.pt"}
    assert left[step] in [path.name for path in (tmp_path / "checkpoints").glob("*.pt")]
    training(store, tmp_path).run()
    assert sha256_of(tmp_path / "model.pt") == sha256_of(uninterrupted / "model.pt")


def test_a_loss_that_is_not_finite_names_the_cases(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss is nan in step \d of epoch 1, in a batch of brats/PHANTOM_\d") as error:
        training(store, tmp_path, encoder_lr=1e30, other_lr=1e30, warmup_steps=0).run()
    assert "\n" not in str(error.value) and not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_a_damaged_split_is_one_line(content: str, store: Path, tmp_path: Path) -> None:
    split = tmp_path / "splits.json"
    split.write_text(content)
    with pytest.raises(RuntimeError) as error:
        training(store, tmp_path / "run", split_file=str(split))
    assert str(reason_of(error.value)).startswith(f"{split}: ") and "remove it and run" in str(reason_of(error.value))


def test_monai_ends_with_one_line(store: Path, tmp_path: Path) -> None:
    """Also a device that this machine lacks is told in one line, and without a traceback."""
    words = ["run", "training", "--config_file", "configs/train.yaml", "--dataset_dir", str(store)]
    words += ["--output_dir", str(tmp_path), "--device", "cuda:99"]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words], cwd=BUNDLE_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr + done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: device: 'cuda:99' cannot be used (")


def test_a_finished_run_is_not_trained_again(uninterrupted: Path, store: Path) -> None:
    before = (uninterrupted / "model.pt").stat().st_mtime_ns
    training(store, uninterrupted).run()
    assert (uninterrupted / "model.pt").stat().st_mtime_ns == before


def test_a_run_that_fails_writes_no_weights(store: Path, tmp_path: Path) -> None:
    trainer = training(store, tmp_path)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda engine: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run()
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("order", ["alternating", "mixed"])
def test_both_orders_of_batches_train(order: str, store: Path, tmp_path: Path) -> None:
    trainer = training(store, tmp_path, order=order, max_epochs=1)
    seen: list[list[str]] = []

    def note(engine: Any) -> None:
        seen.append(sorted({output["label"]["source"] for output in engine.state.output}))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    assert seen == ([["brats"], ["kaggle"]] * 2 if order == "alternating" else [["brats", "kaggle"]] * 2)


def test_parameter_groups_have_the_configured_rates(store: Path, tmp_path: Path) -> None:
    trainer = training(store, tmp_path, encoder_lr=1e-4, other_lr=3e-4, warmup_steps=0)
    encoder, others = trainer.optimizer.param_groups
    assert encoder["initial_lr"] == 1e-4 and others["initial_lr"] == 3e-4
    assert len(encoder["params"]) == len(list(trainer.network.encoder.parameters()))


def test_style_augmentation_is_switched_by_config(store: Path, tmp_path: Path) -> None:
    lengths = [
        len(training(store, tmp_path, style_augmentation=on).data_loader.loaders[0].dataset.transform.transforms)
        for on in (True, False)
    ]
    style = yaml.safe_load((BUNDLE_ROOT / "configs" / "train.yaml").read_text())["train"]["style"]
    assert len(style) > 5 and lengths[0] - lengths[1] == len(style)


def test_best_weights_have_their_score(pipeline_run: Path) -> None:
    for stage, metric in (("stage1", "mean_dice"), ("stage2", "roc_auc"), ("stage3", "dice_and_auc")):
        note = json.loads((pipeline_run / stage / "model.json").read_text())
        assert note["key_metric"] == metric and metric in note["metrics"]
        assert note["sha256"] == sha256_of(pipeline_run / stage / "model.pt")


def test_the_run_is_logged_for_tensorboard(pipeline_run: Path) -> None:
    assert list((pipeline_run / "stage1" / "tensorboard").glob("events.*"))


def test_weights_are_not_scored_on_what_they_were_trained_on(pipeline_run: Path, store: Path, tmp_path: Path) -> None:
    """Another fold's test set contains training cases of these weights, or of earlier stages."""
    settings = {"dataset_dir": str(store), "output_dir": str(tmp_path), "fold": 1}
    with pytest.raises(RuntimeError) as error:
        run_workflow(
            "evaluating",
            ["train.yaml", "evaluate.yaml"],
            model_path=str(pipeline_run / "stage3/model.pt"),
            **settings,
        )
    assert "stage3/model.pt: trained on" in str(root_cause(error.value))


def test_notes_beside_the_weights_list_training_cases_of_earlier_stages(pipeline_run: Path) -> None:
    notes = [
        json.loads((pipeline_run / stage / "model.json").read_text())["trained_on"] for stage in ("stage1", "stage2")
    ]
    split = json.loads((pipeline_run / "data" / "splits.json").read_text())["cases"]
    seen = {case: entry for case, entry in split.items() if entry["fold"] != 0}
    assert {case: (note["sha256"], note["phash"], note["group"]) for case, note in notes[1].items()} == {
        case: (entry["sha256"], entry.get("phash"), entry["group"]) for case, entry in seen.items()
    }
    assert {note["subset"] for case, note in notes[1].items() if seen[case]["fold"] == 1} == {"val"}
    assert {note["subset"] for case, note in notes[1].items() if seen[case]["fold"] != 1} == {"train"}
    assert notes[0].items() <= notes[1].items()


def test_checkpoints_of_another_run_are_refused(uninterrupted: Path, store: Path) -> None:
    """Another fold, seed or rate must not continue from weights that saw other cases."""
    before = (uninterrupted / "config.json").read_text()
    with pytest.raises(ValueError, match="checkpoints: checkpoints of another run"):
        training(store, uninterrupted, fold=1).run()
    assert (uninterrupted / "config.json").read_text() == before, "what the weights there were trained with"


def test_checkpoints_of_another_slice_store_are_refused(uninterrupted: Path, store: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(store, tmp_path / "store")
    index = json.loads((moved / "store.json").read_text())
    (moved / "store.json").write_text(json.dumps({**index, "fingerprint": "another"}))
    with pytest.raises(ValueError, match="checkpoints: checkpoints of another run"):
        training(moved, uninterrupted).run()


def test_folder_names_may_contain_an_equals_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run=3" / "lr=0.1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "run=3")
    inside = tmp_path / "run=3" / "lr=0.1"
    found = source_folders(None, ["lr=0.1", str(inside), f"mine={inside}", "mine=lr=0.1"])
    assert found == {"volumes": None, "images": [str(inside), str(inside), f"mine={inside}", f"mine={inside}"]}
    with pytest.raises(UserError, match=r"lr=0\.2: no such folder"):
        source_folders(None, ["mine=lr=0.2"])


def test_the_split_contains_its_folds_and_modalities(store: Path, tmp_path: Path) -> None:
    for wrong, message in ({"fold": 99}, "fold is 99"), ({"modalities": ["t1"]}, r"holds the modalities \['flair'\]"):
        with pytest.raises(RuntimeError) as error:
            training(store, tmp_path, **wrong)
        assert re.search(message, str(root_cause(error.value)))


def test_a_run_can_be_tracked_with_mlflow(store: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    short = {"max_epochs": 1, "samples_per_epoch": 16, "dataset_dir": str(store), "output_dir": str(tmp_path)}
    run_workflow("training", ["train.yaml"], tracking="mlflow", **short)
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    runs = [run for experiment in client.search_experiments() for run in client.search_runs([experiment.experiment_id])]
    assert {"train_loss", "mean_dice"} <= {name for run in runs for name in run.data.metrics}
