"""Batches -> a better encoder: the loop, and what it does between two steps.

The state after step t depends on the settings and the batches alone, so that a run which was
killed and went on ends with the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opengte.contracts import BatchSource, Progress, StepContext, TrainingCallback
from opengte.errors import ConfigError
from opengte.losses.config import LossConfig
from opengte.models.freezing import freeze
from opengte.models.lora import LoraSettings, add_lora, merge_lora
from opengte.training.config import LoraConfig, TrainingConfig
from opengte.training.distributed import World, join_world
from opengte.training.divergence import DivergenceGuard
from opengte.training.learners import EmbeddingLearner, Learner
from opengte.training.optimizer import LossScaler, decayed_names, trainable_parameters
from opengte.training.precision import set_precision
from opengte.training.reporting import Reporter
from opengte.training.run_state import RunState, Totals, run_identity
from opengte.training.saving import RunSaver
from opengte.training.schedule import learning_rate_factor
from opengte.training.step import PreparedBatch, StepOutcome
from opengte.training.stop_signals import StopRequest, TrainingStopped, stop_requests
from opengte.training.strategies import make_parallelism

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run did.

    Attributes:
        num_steps, num_pairs, num_tokens: of the whole run, over all ranks and interruptions.
        num_truncated: texts of which an end was left out.
        num_skipped: rows left out of batches because a text of theirs stood there already.
        seconds: wall time of the steps.
        first_losses, last_losses: nats per pair, by source.
        best_step, best_value: of ``best_metric``; None without one.
        checkpoint: the last one.
    """

    num_steps: int
    num_pairs: int
    num_tokens: int
    num_truncated: int
    num_skipped: int
    seconds: float
    first_losses: Mapping[str, float]
    last_losses: Mapping[str, float]
    best_step: int | None
    best_value: float | None
    checkpoint: Path


def train(
    encoder: Encoder,
    batches: BatchSource,
    config: TrainingConfig,
    *,
    loss: LossConfig,
    folder: Path,
    callbacks: Sequence[TrainingCallback] = (),
    progress: Progress | None = None,
) -> TrainingResult:
    """Train ``encoder`` in place; go on where the checkpoints in ``folder`` end.

    Started by torchrun, every rank calls it with the same arguments.

    Args:
        encoder: afterwards it holds the weights of the last step, in evaluation mode.
        batches: the batch of every step, the same on every rank.
        config: how.
        loss: towards what.
        folder: gets ``checkpoints/`` and ``metrics.jsonl``.
        callbacks: called after every step, in this order.
        progress: told (finished steps, all steps) instead of the line on stderr.

    Raises:
        ConfigError: contradicting settings, or the folder holds another run.
        DivergenceError: the loss is not finite or has exploded; the checkpoints stay.
        CheckpointError: every checkpoint is damaged.
        StorageError: a checkpoint could not be written; the one before it is whole.
        TrainingStopped: after SIGTERM or Ctrl-C, with a checkpoint of the last step.
    """
    return train_with(
        EmbeddingLearner(loss),
        encoder,
        batches,
        config,
        folder=folder,
        callbacks=callbacks,
        progress=progress,
    )


def train_with(
    learner: Learner,
    encoder: Encoder,
    batches: BatchSource,
    config: TrainingConfig,
    *,
    folder: Path,
    callbacks: Sequence[TrainingCallback] = (),
    progress: Progress | None = None,
) -> TrainingResult:
    """Train towards any objective; everything else as ``train``.

    Args:
        learner: the objective.
        encoder: what learns: an encoder, or another model with a ``backbone``.
        batches: the batch of every step, the same on every rank.
        config: how.
        folder: gets ``checkpoints/`` and ``metrics.jsonl``.
        callbacks: called after every step, in this order.
        progress: told (finished steps, all steps) instead of the line on stderr.

    Raises:
        ConfigError, DivergenceError, CheckpointError, StorageError, TrainingStopped: as ``train``.
    """
    if config.num_steps is None:
        raise ConfigError("num_steps is not set; resolve max_training_tokens with steps_for_tokens")
    with join_world() as world, stop_requests() as stop:
        run = TrainingRun(
            encoder,
            batches,
            config,
            learner=learner,
            folder=folder,
            callbacks=callbacks,
            world=world,
        )
        with run.opened(progress):
            run.resume()
            run.run_steps(stop)
            return run.result()


class TrainingRun:
    """One run on one rank; see ``train``."""

    def __init__(
        self,
        encoder: Encoder,
        batches: BatchSource,
        config: TrainingConfig,
        *,
        learner: Learner,
        folder: Path,
        callbacks: Sequence[TrainingCallback],
        world: World,
    ) -> None:
        assert config.num_steps is not None
        self.num_steps = config.num_steps
        self.original, self.batches, self.config, self.world = encoder, batches, config, world
        self.folder, self.callbacks = folder, callbacks
        prepare_encoder(encoder, config, world)
        identity = run_identity(config, learner.identity, batches.fingerprint, encoder)
        decayed = decayed_names(encoder)
        learner.look_at(encoder, config)
        self.parallelism = make_parallelism(config, world)
        self.encoder = self.parallelism.wrap(encoder)
        parameters = trainable_parameters(self.encoder, learner.learned.to(world.device))
        self.scaler = LossScaler(enabled=config.precision == "float16")
        self.updater = self.parallelism.make_updater(parameters, decayed, config, self.scaler)
        self.guard = DivergenceGuard(config.max_loss_growth)
        self.totals = Totals()
        state = RunState(identity, self.totals, self.scaler, self.guard, callbacks)
        self.saver = RunSaver(
            folder, config, world, self.parallelism, self.updater, parameters, state
        )
        self.step = learner.make_step(
            self.encoder,
            config,
            world=world,
            parallelism=self.parallelism,
            parameters=parameters,
        )

    @contextlib.contextmanager
    def opened(self, progress: Progress | None) -> Iterator[None]:
        """Everything that must be closed, whatever happens."""
        self.reporter = Reporter(self.folder, self.config, self.world, progress)
        try:
            yield
        finally:
            self.reporter.close()
            self.saver.close()
            # Sharded tensors hold on to the group of ranks, which must go before Python does.
            del self.step, self.saver, self.updater, self.parallelism, self.encoder

    def resume(self) -> None:
        """Load the newest whole checkpoint, where there is one."""
        for warning in self.saver.resume():
            self.reporter.note(f"warning: {warning}")
        self.reporter.begin(self.totals.step)
        self.world.barrier()

    def run_steps(self, stop: StopRequest) -> None:
        """Do the steps that are left."""
        self.encoder.train()
        with ThreadPoolExecutor(1, thread_name_prefix="opengte-batches") as ahead:
            following: Future[PreparedBatch] | None = None
            for number in range(self.totals.step, self.num_steps):
                current = following or ahead.submit(self.step.prepare, self.batches, number)
                prepared = current.result()
                # Tokenising the next batch costs no time beside the products of this one.
                following = (
                    ahead.submit(self.step.prepare, self.batches, number + 1)
                    if number + 1 < self.num_steps
                    else None
                )
                if self._do_step(prepared, stop=bool(stop)):
                    self.saver.wait()
                    self.reporter.note(f"stopped after step {number + 1}; the same command goes on")
                    raise TrainingStopped(stop.exit_code)
        self.saver.wait()
        self.parallelism.finish()
        if self.config.lora is not None:
            merge_lora(self.original)
        self.original.eval()

    def _do_step(self, prepared: PreparedBatch, *, stop: bool) -> bool:
        """One step and all that follows from it; whether the run must stop now."""
        started = time.perf_counter()
        outcome = self.step.run(prepared, scale=self.scaler.scale, stop=stop)
        self.guard.check_loss(outcome.loss, prepared.batch, bad_rows=outcome.bad_rows)
        moved = self._move_weights(prepared)
        seconds = time.perf_counter() - started
        self._count(prepared, outcome, seconds)
        numbers = self._call_callbacks(prepared, outcome)
        is_best = self._is_best(numbers)
        self.reporter.step(
            self.totals.step, prepared, outcome, seconds=seconds, extra={**moved, **numbers}
        )
        finished = self.totals.step == self.num_steps
        is_due = self.totals.step % self.config.checkpoint_every == 0
        if finished or outcome.stop or is_best or is_due:
            self.reporter.sync()  # a checkpoint counts on the lines before it
            self.saver.save()
        return outcome.stop and not finished

    def _move_weights(self, prepared: PreparedBatch) -> dict[str, float]:
        rate = self.config.learning_rate * learning_rate_factor(
            self.totals.step,
            self.num_steps,
            warmup=self.config.warmup,
            schedule=self.config.schedule,
            final=self.config.final_learning_rate,
        )
        may_overflow = self.scaler.may_overflow
        norm = self.updater.update(rate)
        if not may_overflow:
            self.guard.check_gradient(norm, prepared.batch)
        return {"learning_rate": rate, "gradient_norm": norm}

    def _count(self, prepared: PreparedBatch, outcome: StepOutcome, seconds: float) -> None:
        totals, source = self.totals, prepared.batch.source
        totals.step += 1
        totals.num_pairs += len(prepared.batch)
        totals.num_tokens += outcome.num_tokens
        totals.num_truncated += outcome.num_truncated
        totals.num_skipped += prepared.batch.num_skipped
        totals.seconds += seconds
        totals.first_losses.setdefault(source, outcome.loss)
        totals.last_losses[source] = outcome.loss

    def _call_callbacks(self, prepared: PreparedBatch, outcome: StepOutcome) -> dict[str, float]:
        if not self.callbacks:
            return {}
        numbers: dict[str, float] = {}
        with self.parallelism.whole_encoder() as encoder:
            encoder.eval()
            context = StepContext(
                step=self.totals.step,
                num_steps=self.num_steps,
                loss=outcome.loss,
                rank=self.world.rank,
                world_size=self.world.size,
                run_folder=self.folder,
                encoder=encoder,
                barrier=self.world.barrier,
                batch=prepared.batch,
            )
            for callback in self.callbacks:
                numbers.update(callback.on_step(context) or {})
            encoder.train()
        return numbers

    def _is_best(self, numbers: Mapping[str, float]) -> bool:
        """Whether the wanted metric, as rank 0 has it, beats all before it."""
        wanted = self.config.best_metric
        if wanted is None:
            return False
        value = self.world.from_first(numbers.get(wanted))
        if value is None or not self.totals.is_better(value, self.config.best_mode):
            return False
        self.totals.best_step, self.totals.best_value = self.totals.step, float(value)
        return True

    def result(self) -> TrainingResult:
        """What the run did, over all interruptions."""
        totals = dict(vars(self.totals))
        step = totals.pop("step")
        return TrainingResult(num_steps=step, checkpoint=self.saver.path(step), **totals)


def lora_settings(config: LoraConfig) -> LoraSettings:
    """A recipe's adapters, as the models' room takes them."""
    return LoraSettings(
        rank=config.rank, alpha=config.alpha, dropout=config.dropout, targets=config.modules
    )


def prepare_encoder(encoder: Encoder, config: TrainingConfig, world: World) -> None:
    """Set up what is trained, where, with which dropout, in which precision; in place."""
    encoder.to(world.device)
    if config.lora is not None:
        add_lora(encoder, lora_settings(config.lora), seed=config.seed)
    freeze(
        encoder,
        positions="positions" in config.frozen,
        words="words" in config.frozen,
        backbone="backbone" in config.frozen,
        first_layers=config.frozen_layers,
    )
    if not any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ConfigError("frozen: nothing is left to train; freeze less")
    hidden, attention = encoder.backbone.dropout
    encoder.backbone.set_dropout(
        hidden if config.dropout is None else config.dropout,
        attention if config.attention_dropout is None else config.attention_dropout,
    )
    encoder.backbone.gradient_checkpointing = config.gradient_checkpointing
    set_precision(encoder, config.precision, world.device)
