"""Which weights a training leaves, and what is noted beside them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from torch import nn

from scripts.networks.weights import CheckpointFolder, save_weights, trained_on, unknown_lineage
from scripts.training.handlers import BestWeights
from scripts.training.prepare_batch import PrepareMultiTaskBatch
from scripts.training.resumable_run import ResumableRun

RECORD = {"case": "brats/A", "sha256": "a", "phash": None, "group": "brats/A"}


class Told(Metric):
    """A metric that says what it is told."""

    def __init__(self, values: Iterator[float]) -> None:
        super().__init__()
        self.values = values

    def reset(self) -> None: ...

    def update(self, output: Any) -> None: ...

    def compute(self) -> float:
        return next(self.values)


def train(
    folder: Path,
    scores: list[float],
    val: bool = True,
    initial: Path | None = None,
    batches_of: PrepareMultiTaskBatch | None = None,
    frozen: Sequence[str] = (),
) -> dict[str, Any]:
    """Train a network whose weight is the number of the epoch; return the notes beside the weights that are left."""
    network = nn.Linear(1, 1)
    network.frozen = frozen

    def step(engine: Engine, batch: Any) -> None:
        nn.init.constant_(network.weight, engine.state.epoch)

    batches = [{"image": torch.zeros(1, 1), "label": torch.zeros(1, 1)}]
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), batches if val else [], network, key_val_metric={"told": Told(iter(scores))}
    )
    trainer = Engine(step)
    ValidationHandler(1, evaluator).attach(trainer)
    datasets: Any = {"train": SimpleNamespace(data=[RECORD]), "val": SimpleNamespace(data=[RECORD] * val)}
    BestWeights(folder / "model.pt", network, evaluator, datasets, initial, batches_of).attach(trainer)
    trainer.run([None], max_epochs=3)
    notes: dict[str, Any] = json.loads((folder / "model.json").read_text())
    assert torch.load(folder / "model.pt", weights_only=True)["weight"].item() == notes["epoch"]
    return notes


@pytest.mark.parametrize(("scores", "epoch"), [([0.1, 0.3, 0.2], 2), ([0.3, 0.3, 0.3], 1), ([math.nan] * 3, 3)])
def test_the_best_weights_are_kept_or_the_last_without_a_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scores: list[float], epoch: int
) -> None:
    with caplog.at_level(logging.WARNING, "scripts.training.handlers"):
        assert train(tmp_path, scores)["epoch"] == epoch
    assert ("no validation score" in caplog.text) is math.isnan(scores[0])


def test_without_validation_the_last_weights_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "scripts.training.handlers"):
        assert train(tmp_path, [], val=False)["epoch"] == 3
    assert "no validation case" not in caplog.text


def test_unknown_lineage_is_noted_and_inherited(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("foreign", "first", "second", "own")]
    for folder in folders:
        folder.mkdir()
    save_weights(nn.Linear(1, 1), folders[0] / "model.pt")
    for before, after in ((folders[0], folders[1]), (folders[1], folders[2])):
        train(after, [0.5] * 3, initial=before / "model.pt")
        assert unknown_lineage(after / "model.pt") and trained_on(after / "model.pt").keys() == {"brats/A"}
    train(folders[3], [0.5] * 3)
    assert not unknown_lineage(folders[3] / "model.pt")


def test_the_learned_tasks_are_noted_and_kept_while_the_encoder_is_frozen(tmp_path: Path) -> None:
    masks, classes = PrepareMultiTaskBatch(do_cls=False), PrepareMultiTaskBatch(do_seg=False)
    folders = {name: tmp_path / name for name in ("stage1", "stage2", "alone")}
    for folder in folders.values():
        folder.mkdir()
    assert train(folders["stage1"], [0.5] * 3, batches_of=masks)["learned"] == ["segmentation"]
    before = folders["stage1"] / "model.pt"
    head = train(folders["stage2"], [0.5] * 3, initial=before, batches_of=classes, frozen=["encoder", "decoder"])
    assert head["learned"] == ["segmentation", "classification"]
    other = train(folders["alone"], [0.5] * 3, initial=before, batches_of=classes, frozen=["decoder"])
    assert other["learned"] == ["classification"], "another encoder than the decoder was trained with"


def resumed(folder: Path) -> int:
    """Train one epoch more than what the checkpoints hold; return the epoch that was begun with."""
    network, begun = nn.Linear(1, 1), []
    evaluator = SupervisedEvaluator(torch.device("cpu"), [], network)
    trainer = Engine(lambda engine, batch: begun.append(engine.state.epoch))
    run: Any = ResumableRun(folder, {"network": network}, None, evaluator, 0, "this run", {})  # type: ignore[arg-type]
    run.attach(trainer)
    trainer.run([None], max_epochs=2)
    return begun[0] if begun else 0


def test_checkpoints_of_another_version_are_refused_with_a_remedy(tmp_path: Path) -> None:
    assert resumed(tmp_path / "checkpoints") == 1
    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    content = checkpoints.latest()
    assert content is not None and content["epoch"] == 2
    checkpoints.save(1, {name: value for name, value in content.items() if name != "layout"})
    checkpoints.save(2, {name: value for name, value in content.items() if name != "layout"})
    with pytest.raises(ValueError, match="checkpoints of another version of the bundle, remove the folder") as error:
        resumed(tmp_path / "checkpoints")
    assert str(error.value).startswith(f"{tmp_path / 'checkpoints'}: ") and "\n" not in str(error.value)
