"""A run <-> its checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from opengte.training.checkpoint import (
    CheckpointStore,
    Snapshot,
    TensorStream,
    read_checkpoint,
)
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.optimizer import Updater
from opengte.training.parallel import Parallelism
from opengte.training.run_state import RunState

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

CHECKPOINTS = "checkpoints"


class RunSaver:
    """Saves a run and brings it back, on any number of ranks.

    Args:
        folder: of the run.
        config: how many checkpoints, and whether they are written behind the scenes.
        world: the ranks; rank 0 writes, all read.
        parallelism: how weights are held.
        updater: whose moments are saved.
        parameters: what is trained, by name.
        state: everything else.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        world: World,
        parallelism: Parallelism,
        updater: Updater,
        parameters: Mapping[str, nn.Parameter],
        state: RunState,
    ) -> None:
        self.folder, self.world, self.parallelism = folder, world, parallelism
        self.updater, self.parameters, self.state = updater, parameters, state
        self.copy = config.asynchronous_checkpoints
        self.store = CheckpointStore(
            folder / CHECKPOINTS,
            keep_last=config.keep_last,
            asynchronous=config.asynchronous_checkpoints,
        )

    def resume(self) -> list[str]:
        """Load the newest whole checkpoint, where there is one.

        Returns:
            A line about each damaged checkpoint that was passed over.
        """
        checkpoint, warnings = self.store.latest() if self.world.is_first else (None, [])
        step = self.world.from_first(0 if checkpoint is None else checkpoint.step)
        if not step:
            return warnings
        if checkpoint is None:
            checkpoint = self.store.open(step)  # rank 0 has checked its bytes
        self.state.check(checkpoint.state, self.folder)
        weights = checkpoint.weights()
        for name, parameter in self.parameters.items():
            self.parallelism.fill(parameter, weights[name])
        self.updater.load_moments(checkpoint.optimizer())
        self.state.load(checkpoint.state)
        return warnings

    def save(self) -> None:
        """Write a checkpoint of this moment; every rank must ask."""
        weights = (
            (name, self.parallelism.whole(parameter)) for name, parameter in self.parameters.items()
        )
        snapshot = Snapshot(
            step=self.state.totals.step,
            weights=self._held(weights),
            optimizer=self._held(self.updater.moments()),
            state={**self.state.state_dict(), "world_size": self.world.size},
        )
        if self.world.is_first:
            self.store.save(snapshot, best_step=self.state.totals.best_step)

    def _held(self, tensors: Iterable[tuple[str, Tensor]]) -> TensorStream:
        """What rank 0 writes: copies, where later steps go on beside the writing."""
        held: dict[str, Tensor] = {}
        for name, tensor in tensors:
            if self.world.is_first:
                held[name] = tensor.detach().to("cpu", copy=True) if self.copy else tensor
        return TensorStream.of(held)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step stands."""
        return self.store.path(step)

    def wait(self) -> None:
        """Wait until everything is written; raise what went wrong."""
        self.store.wait()

    def close(self) -> None:
        """Wait until everything is written, while another error is on its way."""
        with contextlib.suppress(Exception):
            self.store.wait()


def load_checkpoint_weights(encoder: Encoder, path: Path) -> dict[str, Any]:
    """Put the weights of a checkpoint folder into an encoder, e.g. those of the best step.

    Returns:
        The state that was saved beside them.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    checkpoint = read_checkpoint(path)
    parameters = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, values in checkpoint.weights().items():
            if name in parameters:
                parameters[name].copy_(values)
    return checkpoint.state
