"""Batches -> a better encoder: the loop, its checkpoints, and what it tells others.

The state after step t depends on the settings and the batches alone, so that a run which was
killed and went on ends with the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opengte.contracts import BatchSource, Progress, StepContext, TrainingCallback
from opengte.errors import ConfigError
from opengte.losses.config import LossConfig, make_loss
from opengte.training.activation_memory import GIB, SHARE_OF_FREE_MEMORY, free_memory
from opengte.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    Snapshot,
    TensorStream,
    read_checkpoint,
)
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World, join_world
from opengte.training.divergence import DivergenceGuard
from opengte.training.live_line import LiveLine, StepReport, peak_memory_gib
from opengte.training.metrics_log import MetricsLog, Number
from opengte.training.optimizer import (
    LossScaler,
    clip_gradients,
    decayed_names,
    freeze,
    gradient_norm,
    make_optimizer,
    set_learning_rate,
    trainable_parameters,
)
from opengte.training.parallel import Parallelism, Replicated, SingleProcess, load_tensors
from opengte.training.precision import set_precision
from opengte.training.run_state import Totals, check_identity, run_identity
from opengte.training.schedule import learning_rate_factor
from opengte.training.step import PreparedBatch, StepOutcome, TrainingStep
from opengte.training.stop_signals import StopRequest, TrainingStopped, stop_requests

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


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
    if config.num_steps is None:
        raise ConfigError("num_steps is not set; resolve max_training_tokens with steps_for_tokens")
    with join_world() as world, stop_requests() as stop:
        run = TrainingRun(
            encoder, batches, config, loss=loss, folder=folder, callbacks=callbacks, world=world
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
        loss: LossConfig,
        folder: Path,
        callbacks: Sequence[TrainingCallback],
        world: World,
    ) -> None:
        assert config.num_steps is not None
        self.encoder, self.batches, self.config, self.world = encoder, batches, config, world
        self.folder, self.callbacks = folder, callbacks
        self.num_steps = config.num_steps
        self.loss = make_loss(loss)
        self.parallelism = self._prepare_encoder()
        self.identity = run_identity(config, loss, batches.fingerprint, encoder)
        loss_module = self.loss if isinstance(self.loss, nn.Module) else nn.Identity()
        self.parameters = trainable_parameters(encoder, loss_module.to(world.device))
        self.optimizer = make_optimizer(self.parameters, decayed_names(encoder), config)
        self.scaler = LossScaler(enabled=config.precision == "float16")
        self.guard = DivergenceGuard(config.max_loss_growth)
        self.totals = Totals()
        self.store = CheckpointStore(
            folder / CHECKPOINTS,
            keep_last=config.keep_last,
            asynchronous=config.asynchronous_checkpoints,
        )
        self.step = TrainingStep(
            encoder,
            self.loss,
            config,
            world=world,
            parallelism=self.parallelism,
            activation_budget=self._activation_budget(),
        )

    def _prepare_encoder(self) -> Parallelism:
        config, encoder = self.config, self.encoder
        freeze(encoder, config.frozen)
        encoder.to(self.world.device)
        set_precision(encoder, config.precision, self.world.device)
        hidden, attention = encoder.dropout
        encoder.dropout = (
            hidden if config.dropout is None else config.dropout,
            attention if config.attention_dropout is None else config.attention_dropout,
        )
        encoder.backbone.gradient_checkpointing = config.gradient_checkpointing
        parallelism = SingleProcess() if self.world.size == 1 else Replicated(self.world)
        parallelism.wrap(encoder)
        return parallelism

    def _activation_budget(self) -> int:
        if self.config.activation_memory_gib is not None:
            return int(self.config.activation_memory_gib * GIB)
        moments_and_gradients = 12 * sum(p.numel() for p in self.parameters.values())
        free = free_memory(self.world.device) - moments_and_gradients
        return int(SHARE_OF_FREE_MEMORY * max(0, free))

    @contextlib.contextmanager
    def opened(self, progress: Progress | None) -> Iterator[None]:
        """Everything that must be closed, whatever happens."""
        self.progress = progress
        self.live = LiveLine() if self.world.is_first and progress is None else None
        self.log: MetricsLog | None = None
        try:
            yield
        finally:
            if self.live is not None:
                self.live.close()
            if self.log is not None:
                self.log.close()
            with contextlib.suppress(Exception):  # the first error is the one to show
                self.store.wait()

    def resume(self) -> None:
        """Load the newest whole checkpoint, where there is one."""
        step = 0
        if self.world.is_first:
            checkpoint, warnings = self.store.latest()
            step = 0 if checkpoint is None else checkpoint.step
            for warning in warnings:
                self._note(f"warning: {warning}")
        step = self.world.from_first(step)
        if step:
            self._load(self.store.open(step, checked=self.world.is_first))
        if self.world.is_first:
            self.log = MetricsLog(self.folder / METRICS, step=self.totals.step)
        self.world.barrier()

    def _load(self, checkpoint: Checkpoint) -> None:
        check_identity(checkpoint.state["identity"], self.identity, self.folder)
        load_tensors(self.parallelism, self._weights(), checkpoint.weights())
        moments = checkpoint.optimizer()
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            for key in MOMENTS:
                like = torch.zeros((), device=parameter.device) if key == "step" else parameter
                state[key] = torch.zeros_like(like)
                self.parallelism.fill(state[key], moments[f"{name}/{key}"])
        self.scaler.load_state_dict(checkpoint.state["scaler"])
        self.guard.load_state_dict(checkpoint.state["guard"])
        self.totals = Totals(**checkpoint.state["totals"])
        for callback, state in zip(self.callbacks, checkpoint.state["callbacks"], strict=True):
            callback.load_state_dict(state)

    def run_steps(self, stop: StopRequest) -> None:
        """Do the steps that are left."""
        self.encoder.train()
        with ThreadPoolExecutor(1, thread_name_prefix="opengte-batches") as ahead:
            prepared: Future[PreparedBatch] | None = None
            for number in range(self.totals.step, self.num_steps):
                prepared = prepared or ahead.submit(self.step.prepare, self.batches, number)
                current = prepared.result()
                # Tokenising the next batch costs no time beside the products of this one.
                has_next = number + 1 < self.num_steps
                prepared = (
                    ahead.submit(self.step.prepare, self.batches, number + 1) if has_next else None
                )
                stopped = self._do_step(current, stop=bool(stop))
                if stopped:
                    self.store.wait()
                    self._note(f"stopped after step {number + 1}; the same command goes on")
                    raise TrainingStopped(stop.exit_code)
        self.store.wait()
        self.encoder.eval()

    def _do_step(self, prepared: PreparedBatch, *, stop: bool) -> bool:
        """One step and all that follows from it; whether the run must stop now."""
        started = time.perf_counter()
        batch, number = prepared.batch, self.totals.step + 1
        outcome = self.step.run(prepared, scale=self.scaler.scale, stop=stop)
        self.guard.check_loss(outcome.loss, batch, bad_rows=outcome.bad_rows)
        values = self._move_weights(prepared)
        seconds = time.perf_counter() - started
        self._count(prepared, outcome, seconds)
        numbers = self._call_callbacks(prepared, outcome)
        is_best = self._is_best(numbers)
        self._tell(prepared, outcome, seconds, {**values, **numbers})
        finished = number == self.num_steps
        if finished or outcome.stop or is_best or number % self.config.checkpoint_every == 0:
            self._save()
        return outcome.stop and not finished

    def _move_weights(self, prepared: PreparedBatch) -> dict[str, float]:
        parameters = list(self.parameters.values())
        self.parallelism.add_up_gradients(parameters)
        self.scaler.unscale(parameters)
        norm = gradient_norm(parameters)
        value = float(norm)
        rate = self.config.learning_rate * learning_rate_factor(
            self.totals.step,
            self.num_steps,
            warmup=self.config.warmup,
            schedule=self.config.schedule,
            final=self.config.final_learning_rate,
        )
        if self.scaler.update(value):
            self.guard.check_gradient(value, prepared.batch)
            clip_gradients(parameters, norm, self.config.max_grad_norm)
            set_learning_rate(self.optimizer, rate)
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {"learning_rate": rate, "gradient_norm": value}

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
        context = StepContext(
            step=self.totals.step,
            num_steps=self.num_steps,
            loss=outcome.loss,
            rank=self.world.rank,
            world_size=self.world.size,
            run_folder=self.folder,
            encoder=self.encoder,
            barrier=self.world.barrier,
            batch=prepared.batch,
        )
        self.encoder.eval()
        numbers: dict[str, float] = {}
        with self.parallelism.whole_encoder():
            for callback in self.callbacks:
                numbers.update(callback.on_step(context) or {})
        self.encoder.train()
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

    def _tell(
        self,
        prepared: PreparedBatch,
        outcome: StepOutcome,
        seconds: float,
        extra: Mapping[str, float],
    ) -> None:
        totals, batch = self.totals, prepared.batch
        memory = peak_memory_gib(self.world.device)
        if self.log is not None:
            line: dict[str, Number] = {
                "step": totals.step,
                "epoch": batch.epoch,
                "source": batch.source,
                "loss": outcome.loss,
                "num_pairs": len(batch),
                "num_tokens": outcome.num_tokens,
                "num_truncated": outcome.num_truncated,
                "num_skipped": batch.num_skipped,
                "padding": outcome.padding,
                "micro_batches": len(prepared.micro_batches),
                "recomputed": outcome.num_recomputed,
                "seconds": seconds,
                "tokens_per_second": outcome.num_tokens / max(seconds, 1e-9),
                "memory_gib": memory,
            }
            self.log.write({**line, **extra})
        if self.live is not None:
            report = StepReport(
                step=totals.step,
                num_steps=self.num_steps,
                source=batch.source,
                loss=outcome.loss,
                num_tokens=outcome.num_tokens,
                padding=outcome.padding,
                seconds=seconds,
                memory_gib=memory,
            )
            self.live.update(report)
        if self.progress is not None:
            self.progress(totals.step, self.num_steps)

    def _save(self) -> None:
        if self.log is not None:
            self.log.sync()
        snapshot = Snapshot(
            step=self.totals.step,
            weights=self._frozen(self._weights()),
            optimizer=self._frozen(self._moments()),
            state={
                "identity": self.identity,
                "world_size": self.world.size,
                "scaler": self.scaler.state_dict(),
                "guard": self.guard.state_dict(),
                "totals": asdict(self.totals),
                "callbacks": [callback.state_dict() for callback in self.callbacks],
            },
        )
        if self.world.is_first:
            self.store.save(snapshot, best_step=self.totals.best_step)

    def _frozen(self, tensors: Mapping[str, Tensor]) -> TensorStream:
        """Tensors that later steps do not change: copies where the writing goes on beside them."""
        copies = {n: self.parallelism.whole(t.detach()) for n, t in tensors.items()}
        if self.config.asynchronous_checkpoints:
            copies = {name: tensor.to("cpu", copy=True) for name, tensor in copies.items()}
        return TensorStream.of(copies)

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"{name}/{key}": self.optimizer.state[parameter][key]
            for name, parameter in self.parameters.items()
            for key in MOMENTS
        }

    def _note(self, message: str) -> None:
        if not self.world.is_first:
            return
        if self.live is not None:
            self.live.note(message)
        else:
            print(message, file=sys.stderr, flush=True)

    def result(self) -> TrainingResult:
        """What the run did, over all interruptions."""
        totals = {f.name: getattr(self.totals, f.name) for f in fields(self.totals)}
        step = totals.pop("step")
        return TrainingResult(num_steps=step, checkpoint=self.store.path(step), **totals)


def load_checkpoint_weights(encoder: Encoder, path: Path) -> dict[str, Any]:
    """Put the weights of a checked checkpoint folder into an encoder, e.g. those of the best step.

    Returns:
        The state that was saved beside them.
    """
    checkpoint = read_checkpoint(path)
    parameters = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, values in checkpoint.weights().items():
            if name in parameters:
                parameters[name].copy_(values)
    return checkpoint.state
