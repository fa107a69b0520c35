"""Handlers for MONAI's engines: resume a run, keep the best weights, average weights, clip gradients, show progress."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.distributed import one_rank_only
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..core.files import nan_to_none, write_json
from ..dataset.sampling import SliceDataset, SourceLoader
from ..networks.weights import CheckpointFolder, save_weights, trained_on, unknown_lineage

__all__ = ["AverageWeights", "BestWeights", "ClipGradients", "Progress", "ResumableRun", "WritePredictions"]

CHECKPOINT_LAYOUT = 1  # of what a checkpoint holds

logger = logging.getLogger(__name__)


class ResumableRun:
    """Resume a run from its newest checkpoint, so that it ends with the same weights as an uninterrupted run.

    Before each epoch the loader's order and torch's generator are set from the seed and the epoch; after each epoch
    all states are saved. Must be the last handler, so that no other handler overwrites the loaded states.

    Args:
        folder: of the checkpoints.
        objects: name -> object with `state_dict` and `load_state_dict`: network, optimizer, scheduler, ...
        loader: the training loader.
        evaluator: its best score is part of the state.
        seed: of dropout; the loader has its own.
        identity: hash of the run's settings and data; checkpoints of another run are refused.
        config: of the run, with all overrides; written to `config.json` beside the folder.
        keep: number of checkpoints to keep.
        resume: False loads no checkpoint, for federated learning, where each round starts from the server's weights.

    Raises:
        ValueError: at the start, when the folder has checkpoints of another run, or of another version of the bundle.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        loader: SourceLoader,
        evaluator: Engine,
        seed: int,
        identity: str,
        config: Mapping[str, Any],
        keep: int = 2,
        resume: bool = True,
    ) -> None:
        self.may_resume = resume
        self.checkpoints, self.objects = CheckpointFolder(folder, keep), dict(objects)
        self.loader, self.evaluator, self.seed, self.identity = loader, evaluator, seed, identity
        self.config = {key: value for key, value in config.items() if key != "_meta_"}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.seed_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def resume(self, engine: Engine) -> None:
        content, folder = self.checkpoints.latest() if self.may_resume else None, self.checkpoints.folder
        if content is not None and content.get("layout") != CHECKPOINT_LAYOUT:
            raise ValueError(
                f"{folder}: checkpoints of another version of the bundle, remove the folder and train again"
            )
        if content is not None and content["identity"] != self.identity:
            differing = "settings, slices, split or initial weights differ"
            raise ValueError(f"{folder}: checkpoints of another run ({differing}), remove them first")
        self._write_config()
        if content is None:
            return
        for name, target in self.objects.items():
            target.load_state_dict(content[name])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        self.evaluator.state.best_metric = content["best_metric"]
        self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        logger.info("resuming after epoch %d of %d", content["epoch"], engine.state.max_epochs)

    @one_rank_only()
    def _write_config(self) -> None:
        write_json(self.checkpoints.folder.parent / "config.json", self.config)

    def seed_epoch(self, engine: Engine) -> None:
        torch.manual_seed(self.seed * 1_000_003 + engine.state.epoch)
        if isinstance(self.loader, SourceLoader):
            self.loader.set_epoch(engine.state.epoch)

    @one_rank_only()
    def save(self, engine: Engine) -> None:
        best = self.evaluator.state
        content = {name: source.state_dict() for name, source in self.objects.items()}
        content |= {"epoch": engine.state.epoch, "iteration": engine.state.iteration, "identity": self.identity}
        content["layout"] = CHECKPOINT_LAYOUT
        content |= {"best_metric": float(best.best_metric), "best_metric_epoch": int(best.best_metric_epoch)}
        self.checkpoints.save(engine.state.epoch, content)


class BestWeights:
    """Write the weights with the best validation score, and this score.

    Without a validation score (empty validation list, validation cases without tumor) the last weights of a finished
    run are written, with a warning; a failed run writes nothing. Must come after the ValidationHandler.

    Args:
        path: the weights file; the score is written to the same name with `.json`.
        network: the validated network.
        evaluator: the validation engine.
        datasets: "train" and "val"; their cases are noted beside the weights, with those of the initial weights, or
            that these are unknown.
        initial_weights: file of the initial weights, or None.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        evaluator: Engine,
        datasets: Mapping[str, SliceDataset],
        initial_weights: str | Path | None = None,
    ) -> None:
        self.path, self.network, self.evaluator = Path(path), network, evaluator
        self.validates = len(datasets["val"].data) > 0
        self.trained_on = trained_on(initial_weights)
        self.origin = {"unknown_lineage": True} if unknown_lineage(initial_weights) else {}
        for subset in ("val", "train"):
            for record in datasets[subset].data:
                entry = {**{key: record[key] for key in ("sha256", "phash", "group")}, "subset": subset}
                if self.trained_on.get(record["case"], {}).get("subset") != "train":  # a training case stays one
                    self.trained_on[record["case"]] = entry

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.keep_best)
        engine.add_event_handler(Events.COMPLETED, self.keep_last)

    def keep_best(self, engine: Engine) -> None:
        if self._is_scored() and self.evaluator.state.best_metric_epoch == engine.state.epoch:
            self._write(engine)

    def keep_last(self, engine: Engine) -> None:
        if self._is_scored():
            return
        if self.validates:
            logger.warning("no validation score: the last weights are kept")
        self._write(engine)

    def _is_scored(self) -> bool:
        """Whether a validation gave a finite score; MONAI treats the first NaN as the best."""
        state = self.evaluator.state
        return bool(state.best_metric_epoch != -1 and math.isfinite(state.best_metric))

    @one_rank_only()
    def _write(self, engine: Engine) -> None:
        state = self.evaluator.state
        score = {
            "key_metric": state.key_metric_name,
            "epoch": engine.state.epoch,
            "metrics": nan_to_none(dict(state.metrics)),
        }
        sha256 = save_weights(self.network, self.path)
        write_json(
            self.path.with_suffix(".json"), {**score, "sha256": sha256, **self.origin, "trained_on": self.trained_on}
        )


class AverageWeights:
    """Update the moving average of the weights, which is validated and saved.

    The average starts from the weights after the first step. The average of frozen weights is bit-identical to them
    (ignite's EMAHandler rounds them), and running statistics are copied.

    Args:
        network: the trained network.
        average: torch's AveragedModel of it.
    """

    def __init__(self, network: nn.Module, average: AveragedModel) -> None:
        self.network, self.average = network, average

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def update(self, engine: Engine) -> None:
        self.average.update_parameters(self.network)


class WritePredictions:
    """Write each scan's prediction.

    Args:
        writer: called with the postprocessed item and the scan's name.
    """

    def __init__(self, writer: Callable[[Mapping[str, Any], str], Any]) -> None:
        self.writer = writer

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.writer(output, batch["name"])


class ClipGradients:
    """Clip the norm of the gradients before each step.

    Args:
        network: the trained network.
        max_norm: largest norm.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)


class Progress:
    """Progress bar of the whole run, with the remaining time.

    Args:
        description: label of the bar.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.advance)
        engine.add_event_handler(Events.COMPLETED, self.close)

    @one_rank_only()
    def open(self, engine: Engine) -> None:
        if not hasattr(self, "bar"):
            state = engine.state
            total = state.max_epochs * state.epoch_length
            self.bar = tqdm(desc=self.description, total=total, initial=state.iteration, unit="batch", mininterval=1.0)

    @one_rank_only()
    def advance(self, engine: Engine) -> None:
        output = engine.state.output[0]  # decollated: one per slice, each with the batch's loss
        if "loss" in output:
            self.bar.set_postfix(loss=f"{float(output['loss']):.3f}", refresh=False)
        self.bar.update()

    def close(self, engine: Engine) -> None:
        if hasattr(self, "bar"):
            self.bar.close()
