"""Losses that are sums over the texts of a batch: one micro-batch at a time, forward and back.

Nothing of one text's loss depends on another text, so no embeddings are gathered and no activation
outlives its micro-batch. Sums are divided by counts over all ranks, so that any number of ranks
takes the same step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from opengte.contracts import BatchSource
from opengte.errors import ConfigError
from opengte.records import Batch
from opengte.training.batching import MicroBatch, check_batch, lay_out
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.parallel import Parallelism
from opengte.training.random_state import derive_seed, seeded
from opengte.training.step import PreparedBatch, StepOutcome

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


class SummedObjective(Protocol):
    """What is summed.

    Attributes:
        identity: what must be equal for a run to go on; plain values.
    """

    identity: object

    def cut(self, part: Batch, first_row: int) -> Sequence[MicroBatch]:
        """A rank's rows, tokenised, in micro-batches.

        Args:
            part: the rows of this rank.
            first_row: number of the first of them in the global batch, which names what is drawn.
        """
        ...

    def counts(self, micro_batch: Any) -> tuple[float, ...]:
        """What a micro-batch adds to the numbers that sums are divided by."""
        ...

    def loss(self, model: Any, micro_batch: Any, totals: Sequence[float]) -> Tensor:
        """A micro-batch's part of the loss.

        Args:
            model: in training mode.
            micro_batch: from ``cut``.
            totals: sums of ``counts`` over all micro-batches of all ranks.
        """
        ...


class SummedLearner:
    """A ``Learner`` of a summed objective.

    Args:
        objective: which.
    """

    def __init__(self, objective: SummedObjective) -> None:
        self.objective = objective
        self.identity = objective.identity
        self.learned: nn.Module = nn.Identity()

    def look_at(self, model: Encoder, config: TrainingConfig) -> None:
        """Refuse what a model that is no plain encoder cannot be trained with.

        Raises:
            ConfigError: sharded weights.
        """
        refuse_sharding(config)

    def make_step(
        self,
        model: Encoder,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
        parameters: Mapping[str, nn.Parameter],
    ) -> SummedStep:
        """See ``Learner``."""
        return SummedStep(model, self.objective, config, world=world, parallelism=parallelism)


class SummedStep:
    """Turns batches into gradients, text by text.

    Args:
        model: what learns.
        objective: what is summed.
        config: for the seed.
        world, parallelism: the ranks, and how they share the work.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: SummedObjective,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
    ) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.world, self.parallelism = world, parallelism

    def prepare(self, batches: BatchSource, step: int) -> PreparedBatch:
        """Draw, tokenise and cut the batch of a step; needs nothing of the steps before it."""
        batch = batches.batch(step)
        check_batch(batch, step, self.world.size)
        layout = lay_out(batch, self.world.rank, self.world.size)
        part = batch.slice(self.world.rank, self.world.size)
        return PreparedBatch(batch, layout, self.objective.cut(part, layout.rows.start))

    def run(
        self, prepared: PreparedBatch, *, scale: float = 1.0, stop: bool = False
    ) -> StepOutcome:
        """Add the gradient of the global batch to the parameters."""
        own = np.sum([self.objective.counts(m) for m in prepared.micro_batches], axis=0)
        totals = self._add_up(own.tolist())
        last = len(prepared.micro_batches) - 1
        loss = 0.0
        for number, micro_batch in enumerate(prepared.micro_batches):
            seed = derive_seed(self.config.seed, prepared.batch.step, self.world.rank, number)
            with self.parallelism.around(number == last), seeded(seed, self.world.device):
                part = self.objective.loss(self.model, micro_batch, totals)
                (part * (scale * self.parallelism.gradient_factor)).backward()
            loss += float(part.detach())
        sums = self._add_up(
            [
                loss,
                prepared.num_tokens,
                prepared.num_positions,
                prepared.num_truncated,
                float(stop),
            ]
        )
        return StepOutcome(
            loss=sums[0],
            num_tokens=int(sums[1]),
            num_truncated=int(sums[3]),
            padding=1.0 - sums[1] / max(1.0, sums[2]),
            num_recomputed=0,
            stop=sums[4] > 0,
            bad_rows=[],
        )

    def _add_up(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self.world.device)
        return [float(value) for value in self.world.sum(total)]


def refuse_sharding(config: TrainingConfig) -> None:
    """Only plain encoders can be sharded.

    Raises:
        ConfigError: the strategy shards weights.
    """
    if config.strategy in ("fsdp", "deepspeed"):
        raise ConfigError(
            f"strategy {config.strategy} shards encoders alone; this stage trains more than one: "
            "use auto, single or ddp, with gradient_checkpointing or lora where memory is short"
        )
