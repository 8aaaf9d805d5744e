"""What is learned -> the step that learns it: the socket between the loop and its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from torch import nn

from opengte.contracts import BatchSource
from opengte.losses.config import LossConfig, make_loss
from opengte.losses.sparse import DenseAndSparseLoss, SparseConfig
from opengte.training.activation_memory import (
    ActivationModel,
    activation_budget,
    measure_activations,
)
from opengte.training.batching import Reader
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.parallel import Parallelism
from opengte.training.step import PreparedBatch, StepOutcome, TrainingStep
from opengte.training.teacher_columns import Teach

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder


class Step(Protocol):
    """Batches into gradients, one at a time."""

    def prepare(self, batches: BatchSource, step: int) -> PreparedBatch:
        """Draw and tokenise the batch of a step; needs nothing of the steps before it."""
        ...

    def run(
        self, prepared: PreparedBatch, *, scale: float = 1.0, stop: bool = False
    ) -> StepOutcome:
        """Add the gradient of the global batch to the parameters."""
        ...


class Learner(Protocol):
    """One objective.

    Attributes:
        identity: what must be equal for a run to go on; plain values.
        learned: parameters beside the model's own.
    """

    identity: object
    learned: nn.Module

    def look_at(self, model: Encoder, config: TrainingConfig) -> None:
        """Measure what must be known before the model is shared out."""
        ...

    def make_step(
        self,
        model: Encoder,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
        parameters: Mapping[str, nn.Parameter],
    ) -> Step:
        """The step of the model as the ranks hold it."""
        ...


class EmbeddingLearner:
    """Losses of the embeddings of a whole batch: contrastive ones, distillation.

    Args:
        loss: which.
        teach: what a teacher says of every batch.
        teacher: names that teacher; a run goes on with the same one.
        sparse: trains the encoder's sparse head beside its embeddings (mGTE).
    """

    def __init__(
        self,
        loss: LossConfig,
        *,
        teach: Teach | None = None,
        teacher: str = "",
        sparse: SparseConfig | None = None,
    ) -> None:
        more = {"teacher": teacher, "sparse": None if sparse is None else asdict(sparse)}
        self.identity: object = {"loss": asdict(loss), **more} if any(more.values()) else loss
        self.teach, self.sparse = teach, sparse
        self.loss = make_loss(loss)
        self.learned = self.loss if isinstance(self.loss, nn.Module) else nn.Identity()
        self.reader: Reader
        self.activations: ActivationModel

    def look_at(self, model: Encoder, config: TrainingConfig) -> None:
        """Lengths, and what activations take."""
        self.reader = Reader.of(model, config)
        self.activations = measure_activations(model, max_tokens=self.reader.max_tokens)
        self.dimensions = model.dimensions

    def make_step(
        self,
        model: Encoder,
        config: TrainingConfig,
        *,
        world: World,
        parallelism: Parallelism,
        parameters: Mapping[str, nn.Parameter],
    ) -> TrainingStep:
        """See ``Learner``."""
        loss = self.loss
        if self.sparse is not None:
            loss = DenseAndSparseLoss(loss, self.dimensions, self.sparse)
        return TrainingStep(
            model,
            loss,
            config,
            reader=self.reader,
            world=world,
            parallelism=parallelism,
            activations=self.activations,
            activation_budget=activation_budget(config, world, parameters.values()),
            teach=self.teach,
            lexical=self.sparse is not None,
        )
