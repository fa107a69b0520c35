"""Handlers for MONAI's engines: keep the best weights, average weights, clip gradients, show progress."""

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
from ..core.weights_report import TASKS, learned_by
from ..dataset.sampling import SliceDataset
from ..networks.weights import save_weights, trained_on, unknown_lineage
from .prepare_batch import PrepareMultiTaskBatch

__all__ = ["AverageWeights", "BestWeights", "ClipGradients", "Progress", "RequireFiniteLoss", "WritePredictions"]

logger = logging.getLogger(__name__)


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
        prepare_batch: of the training; its tasks are noted too, with those of the initial weights if the encoder is
            frozen.
        trained_with: of weights that read several sequences, see `ModelCard`; noted.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        evaluator: Engine,
        datasets: Mapping[str, SliceDataset],
        initial_weights: str | Path | None = None,
        prepare_batch: PrepareMultiTaskBatch | None = None,
        trained_with: Mapping[str, bool] | None = None,
    ) -> None:
        self.trained_with = {"trained_with": dict(trained_with)} if trained_with else {}
        batches, kept = prepare_batch or PrepareMultiTaskBatch(), "encoder" in getattr(network, "frozen", ())
        trained = dict(zip(TASKS, (batches.do_seg, batches.do_cls), strict=True))
        before = learned_by(initial_weights) if kept else ()
        self.learned = [task for task in TASKS if trained[task] or task in before]
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
        notes = {"learned": self.learned, **self.trained_with, **self.origin, "trained_on": self.trained_on}
        write_json(self.path.with_suffix(".json"), {**score, "sha256": sha256, **notes})


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


class RequireFiniteLoss:
    """End the run when a loss is NaN or infinite, before it changes the weights.

    Raises:
        ValueError: naming the step and the cases of its batch.
    """

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        _require_finite("loss", engine.state.output["loss"], engine)


class ClipGradients:
    """Clip the norm of the gradients before each step.

    Args:
        network: the trained network.
        max_norm: largest norm.

    Raises:
        ValueError: when a gradient is not finite, naming the step and the cases of its batch.
    """

    def __init__(self, network: nn.Module, max_norm: float) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        _require_finite("norm of the gradients", norm, engine)


def _require_finite(name: str, value: torch.Tensor, engine: Engine) -> None:
    if not torch.isfinite(value).all():
        cases = ", ".join(sorted(set(engine.state.output["label"]["case"])))
        where = f"step {engine.state.iteration} of epoch {engine.state.epoch}"
        remedy = "look at these cases, or lower encoder_lr and other_lr"
        raise ValueError(f"the {name} is {float(value.detach())} in {where}, in a batch of {cases}: {remedy}")


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
