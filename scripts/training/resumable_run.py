"""Resume a run from its newest checkpoint; save one after each epoch, every few minutes, and when it has to stop."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import ignite.distributed as idist
import torch
from ignite.distributed import one_rank_only
from ignite.engine import Engine, Events
from tqdm import tqdm

from ..core.files import lock_folder, write_json
from ..dataset.sampling import SourceLoader
from ..networks.weights import CheckpointFolder

__all__ = ["ResumableRun", "StopSignals", "lock_output"]

CHECKPOINT_LAYOUT = 2  # of what a checkpoint holds
DUE = 1  # a checkpoint is due; not the number of a signal that is caught

logger = logging.getLogger(__name__)

lock_output = one_rank_only()(lock_folder)  # one lock for all processes of a run


class StopSignals:
    """Note SIGTERM and SIGINT instead of ending at once; a second one has its usual effect.

    Outside of the main thread, as in a server, nothing is caught.

    Args:
        noted: called when a signal was noted.
    """

    def __init__(self, noted: Callable[[], None]) -> None:
        self.received = 0  # the signal's number
        self.noted = noted
        self.before: dict[int, Any] = {}

    def catch(self) -> None:
        """Begin to note the signals."""
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}

    def release(self) -> None:
        """Handle the signals as before."""
        while self.before:
            number, handler = self.before.popitem()
            signal.signal(number, handler or signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.release()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises when its workers end, and a group gets the signal
        self.noted()


class ResumableRun:
    """Resume a run from its newest checkpoint, so that it ends with the same weights as an uninterrupted run.

    The loader's order is set from the seed and the epoch, torch's generator from the seed and the step; a checkpoint
    holds all other states and the position in the epoch. SIGTERM or SIGINT ends the run after the step, with a
    checkpoint and the exit code 143 or 130; a validation is repeated. Must be the last handler, so that no other
    handler overwrites the loaded states, or changes them after they are saved.

    Args:
        folder: of the checkpoints.
        objects: name -> object with `state_dict` and `load_state_dict`: network, optimizer, scheduler, ...
        loader: the training loader.
        evaluator: its best score is part of the state.
        seed: of dropout; the loader has its own.
        identity: hash of the run's settings and data; checkpoints of another run are refused.
        config: of the run, with all overrides; written to `config.json` beside the folder.
        minutes: between two checkpoints, at most a step more.
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
        minutes: float = 10.0,
        keep: int = 2,
        resume: bool = True,
    ) -> None:
        self.may_resume = resume
        self.checkpoints, self.objects = CheckpointFolder(folder, keep), dict(objects)
        self.loader, self.evaluator, self.seed, self.identity = loader, evaluator, seed, identity
        self.config = {key: value for key, value in config.items() if key != "_meta_"}
        self.seconds, self.saved_at = 60 * minutes, time.monotonic()
        self.signals = StopSignals(self.stop_between_steps)
        self.steps_done = 0  # of the epoch that is resumed

    def attach(self, engine: Engine) -> None:
        self.engine = engine
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.set_epoch)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self.skip_finished_steps)
        engine.add_event_handler(Events.ITERATION_STARTED, self.seed_step)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.finish_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.finish_epoch)
        engine.add_event_handler(Events.COMPLETED, self.signals.release)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.fail)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.cut_validation)

    def resume(self, engine: Engine) -> None:
        """Load the newest checkpoint, if there is one, and begin to note signals."""
        content, folder = self.checkpoints.latest() if self.may_resume else None, self.checkpoints.folder
        if content is not None and content.get("layout") != CHECKPOINT_LAYOUT:
            raise ValueError(
                f"{folder}: checkpoints of another version of the bundle, remove the folder and train again"
            )
        if content is not None and content["identity"] != self.identity:
            differing = "settings, slices, split or initial weights differ"
            raise ValueError(f"{folder}: checkpoints of another run ({differing}), remove them first")
        self._write_config()
        self.signals.catch()
        self.saved_at = time.monotonic()
        if content is None:
            return
        for name, target in self.objects.items():
            target.load_state_dict(content[name])
        engine.state.epoch, engine.state.iteration = content["epoch"], content["iteration"]
        self.steps_done = content["steps"]
        self.evaluator.state.best_metric = content["best_metric"]
        self.evaluator.state.best_metric_epoch = content["best_metric_epoch"]
        logger.info(
            "resuming after epoch %d of %d and %d steps", content["epoch"], engine.state.max_epochs, self.steps_done
        )

    @one_rank_only()
    def _write_config(self) -> None:
        write_json(self.checkpoints.folder.parent / "config.json", self.config)

    def set_epoch(self, engine: Engine) -> None:
        if isinstance(self.loader, SourceLoader):
            self.loader.set_epoch(engine.state.epoch, self.steps_done)

    def skip_finished_steps(self, engine: Engine) -> None:
        """Of an epoch that was interrupted in its validation, repeat the validation only."""
        if self.steps_done == engine.state.epoch_length:
            engine.terminate_epoch()
        self.steps_done = 0

    def seed_step(self, engine: Engine) -> None:
        step = engine.state.iteration * idist.get_world_size() + idist.get_rank()
        torch.manual_seed((self.seed << 32) + step)

    def finish_step(self, engine: Engine) -> None:
        """Save if it is time to, or the run has to stop."""
        wanted = self._agreed(self.signals.received or DUE * (time.monotonic() - self.saved_at >= self.seconds))
        if wanted:
            self.save(engine, epoch=engine.state.epoch - 1)
        if wanted > DUE:
            self._stop(engine, wanted)

    def finish_epoch(self, engine: Engine) -> None:
        """Save; an epoch whose validation was cut short is not finished."""
        wanted = self._agreed(self.signals.received)
        self.save(engine, epoch=engine.state.epoch - bool(self.evaluator.should_terminate))
        if wanted:
            self._stop(engine, wanted)

    def cut_validation(self, evaluator: Engine) -> None:
        """End a validation when the run has to stop; among several processes each one finishes it."""
        if self.signals.received and idist.get_world_size() == 1:
            evaluator.terminate()

    def stop_between_steps(self) -> None:
        """Stop at once while the run waits for a batch, which may take long; a single process needs no agreement."""
        if self.engine.last_event_name == Events.GET_BATCH_STARTED and idist.get_world_size() == 1:
            self.save(self.engine, epoch=self.engine.state.epoch - 1)
            self._stop(self.engine, self.signals.received)

    def fail(self, engine: Engine, error: BaseException) -> None:
        self.signals.release()
        for bar in list(getattr(tqdm, "_instances", [])):
            bar.close()  # so that the error has its own line
        raise error

    @staticmethod
    def _agreed(wanted: int) -> int:
        """What any of the processes wants, so that all stop after the same step."""
        return int(idist.all_reduce(wanted, "MAX")) if idist.get_world_size() > 1 else wanted

    def _stop(self, engine: Engine, number: int) -> None:
        state, name = engine.state, signal.Signals(number).name
        if idist.get_rank() == 0:
            done = f"saved after step {state.iteration} of {state.max_epochs * state.epoch_length}"
            tqdm.write(f"{name}: {done}; run the same command again to resume", file=sys.stderr)
        raise SystemExit(128 + number)

    @one_rank_only()
    def save(self, engine: Engine, epoch: int) -> None:
        """Write a checkpoint.

        Args:
            engine: the trainer.
            epoch: number of finished epochs; further steps belong to the next one.
        """
        best, steps = self.evaluator.state, engine.state.iteration - epoch * engine.state.epoch_length
        content = {name: source.state_dict() for name, source in self.objects.items()}
        content |= {"epoch": epoch, "steps": steps, "iteration": engine.state.iteration}
        content |= {"identity": self.identity, "layout": CHECKPOINT_LAYOUT}
        content |= {"best_metric": float(best.best_metric), "best_metric_epoch": int(best.best_metric_epoch)}
        self.checkpoints.save(epoch, content, steps)
        self.saved_at = time.monotonic()
