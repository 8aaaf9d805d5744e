"""Losses of a rank's own texts together: the model's outputs in one leaf, its gradient cached.

Between a model that cannot hold all activations at once and a loss that needs all outputs of its
rows stands a leaf, as in contrastive training; but nothing is gathered, for a row's loss depends
on its own texts alone. Losses are divided by the rows of the global batch, so that the ranks'
parts add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from opengte.contracts import BatchSource
from opengte.records import Batch
from opengte.text.truncation import TokenizedText
from opengte.training.activation_memory import (
    ActivationModel,
    activation_budget,
    measure_activations,
)
from opengte.training.batching import MicroBatch, check_batch, lay_out, micro_batches
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.gradient_cache import GradientCache, num_kept
from opengte.training.parallel import Parallelism
from opengte.training.random_state import derive_seed
from opengte.training.step import PreparedBatch, StepOutcome, at_least_float32
from opengte.training.summed_step import refuse_sharding

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


class LeafObjective(Protocol):
    """Which texts a row becomes, and what is made of their outputs.

    Attributes:
        identity: what must be equal for a run to go on; plain values.
    """

    identity: object

    def tokenize(self, part: Batch, first_row: int) -> list[TokenizedText]:
        """The texts of a rank's rows, in the order that ``loss`` expects."""
        ...

    def forward(self, model: Any, micro_batch: MicroBatch) -> Tensor:
        """One output a text, (n, L)."""
        ...

    def loss(
        self, model: Any, outputs: Tensor, part: Batch, first_row: int, num_rows: int
    ) -> Tensor:
        """The part of the loss that these rows have.

        Args:
            model: parts of it may stand behind the outputs (a classifier).
            outputs: of all texts of ``tokenize``, in their order.
            part: as in ``tokenize``.
            first_row: as in ``tokenize``.
            num_rows: of the global batch.
        """
        ...


class LeafLearner:
    """A ``Learner`` of such an objective.

    Args:
        objective: which.
        max_tokens: longest text.
    """

    def __init__(self, objective: LeafObjective, *, max_tokens: int) -> None:
        self.objective = objective
        self.max_tokens = max_tokens
        self.identity = objective.identity
        self.learned: nn.Module = nn.Identity()
        self.activations: ActivationModel

    def look_at(self, model: Encoder, config: TrainingConfig) -> None:
        """What activations take; weights cannot be sharded."""
        refuse_sharding(config)
        self.activations = measure_activations(model, max_tokens=self.max_tokens)

    def make_step(
        self,
        model: Encoder,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
        parameters: Mapping[str, nn.Parameter],
    ) -> LeafStep:
        """See ``Learner``."""
        return LeafStep(
            model,
            self.objective,
            config,
            world=world,
            parallelism=parallelism,
            activations=self.activations,
            activation_budget=activation_budget(config, world, parameters.values()),
        )


class LeafStep:
    """Turns batches into gradients.

    Args:
        model: what learns.
        objective: what its outputs are used for.
        config: budgets, caching, seed.
        world, parallelism: the ranks, and how they share the work.
        activations: what a micro-batch's activations take.
        activation_budget: bytes that kept ones may take.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: LeafObjective,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
        activations: ActivationModel,
        activation_budget: int,
    ) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.world, self.parallelism = world, parallelism
        self.activations, self.activation_budget = activations, activation_budget

    def prepare(self, batches: BatchSource, step: int) -> PreparedBatch:
        """Draw and tokenise the batch of a step; needs nothing of the steps before it."""
        batch = batches.batch(step)
        check_batch(batch, step, self.world.size)
        layout = lay_out(batch, self.world.rank, self.world.size)
        texts = self.objective.tokenize(self._part(batch), layout.rows.start)
        parts = micro_batches(texts, max_tokens=self.config.micro_batch_tokens)
        return PreparedBatch(batch, layout, parts)

    def run(
        self, prepared: PreparedBatch, *, scale: float = 1.0, stop: bool = False
    ) -> StepOutcome:
        """Add the gradient of the global batch to the parameters."""
        batch, first = prepared.batch, prepared.layout.rows.start
        cache = self._cache(prepared.micro_batches, batch.step)
        leaf = at_least_float32(cache.embed(prepared.micro_batches)).requires_grad_()
        part = self.objective.loss(self.model, leaf, self._part(batch), first, len(batch))
        loss, num_tokens, num_positions, num_truncated, stopped = self._add_up(part, prepared, stop)
        if np.isfinite(loss):
            (part * (scale * self.parallelism.gradient_factor)).backward()
            assert leaf.grad is not None
            cache.backward(leaf.grad, around=self.parallelism.around)
        return StepOutcome(
            loss=loss,
            num_tokens=int(num_tokens),
            num_truncated=int(num_truncated),
            padding=1.0 - num_tokens / max(1.0, num_positions),
            num_recomputed=cache.num_passes - cache.num_kept,
            stop=stopped > 0,
            bad_rows=[] if np.isfinite(loss) else list(prepared.layout.rows),
        )

    def _part(self, batch: Batch) -> Batch:
        return batch.slice(self.world.rank, self.world.size)

    def _cache(self, parts: Sequence[MicroBatch], step: int) -> GradientCache:
        own = num_kept(
            parts,
            self.activations,
            mode=self.config.gradient_cache,
            budget=self.activation_budget,
        )
        kept, passes = self.parallelism.agree(own, len(parts))
        return GradientCache(
            lambda micro_batch: self.objective.forward(self.model, micro_batch),
            num_kept=kept,
            num_passes=passes,
            seed=derive_seed(self.config.seed, step, self.world.rank),
            device=self.world.device,
        )

    def _add_up(self, part: Tensor, prepared: PreparedBatch, stop: bool) -> list[float]:
        own = [
            float(part.detach()),
            prepared.num_tokens,
            prepared.num_positions,
            prepared.num_truncated,
            float(stop),
        ]
        values = torch.tensor(own, dtype=torch.float64, device=self.world.device)
        return [float(value) for value in self.world.sum(values)]
