"""One global batch -> one gradient.

Axes: B pairs of the global batch, n texts of this rank, D embedding size.

The loss needs all embeddings at once, the encoder cannot hold all activations at once. Between
the two stands a leaf: the matrix of this rank's embeddings. The loss sends its gradient to the
leaf, the gradient cache sends it on through the micro-batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from opengte.contracts import BatchSource
from opengte.losses.inputs import EmbeddedBatch
from opengte.models.length_groups import make_length_groups
from opengte.records import Batch
from opengte.text.truncation import TokenizedText
from opengte.training.activation_memory import ActivationModel
from opengte.training.batching import (
    BatchLayout,
    MicroBatch,
    Reader,
    check_batch,
    lay_out,
    micro_batches,
    tokenize_batch,
)
from opengte.training.config import TrainingConfig
from opengte.training.distributed import World
from opengte.training.gradient_cache import GradientCache, num_kept
from opengte.training.parallel import Parallelism
from opengte.training.random_state import derive_seed
from opengte.training.teacher_columns import Teach, TeacherColumns

if TYPE_CHECKING:
    from opengte.models.encoder import Encoder

Loss = Callable[[EmbeddedBatch], Float[Tensor, ""]]


@dataclass(frozen=True)
class PreparedBatch:
    """A batch whose texts of this rank are tokenised.

    Attributes:
        batch: the global batch of strings.
        layout: who holds what.
        micro_batches: this rank's texts.
        teacher: what a teacher says of the batch.
        vocabulary: distinct token ids of the global batch, ascending, where a sparse loss needs
            them.
    """

    batch: Batch
    layout: BatchLayout
    micro_batches: Sequence[MicroBatch]
    teacher: TeacherColumns | None = None
    vocabulary: NDArray[np.int64] | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that this rank reads."""
        return sum(part.num_tokens for part in self.micro_batches)

    @property
    def num_positions(self) -> int:
        """Positions that attention computes: tokens, and padding to the longest of a group."""
        return sum(attended_positions(part.lengths) for part in self.micro_batches)

    @property
    def num_truncated(self) -> int:
        """Texts of this rank of which an end is left out."""
        return sum(text.truncated for part in self.micro_batches for text in part.texts)


@dataclass(frozen=True)
class StepOutcome:
    """What a step gave; the gradient stands in the parameters.

    Attributes:
        loss: of the global batch, nats per pair.
        num_tokens: read by all ranks.
        num_truncated: texts of all ranks of which an end is left out.
        padding: share of the positions attention computed that held no token.
        num_recomputed: micro-batches of this rank that went through the encoder twice.
        stop: whether some rank was asked to stop.
        bad_rows: rows of the global batch whose embeddings are not finite.
    """

    loss: float
    num_tokens: int
    num_truncated: int
    padding: float
    num_recomputed: int
    stop: bool
    bad_rows: Sequence[int]


class TrainingStep:
    """Turns batches into gradients.

    Args:
        encoder: in training mode.
        loss: embeddings of the global batch -> the part of its rows, divided by B.
        config: budgets, caching, seed.
        reader: how texts become tokens.
        world, parallelism: the ranks, and how they share the work.
        activations: what a micro-batch's activations take.
        activation_budget: bytes that kept ones may take.
        teach: asked about every batch, for distillation.
        lexical: let the encoder give lexical weights behind its embeddings.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: Loss,
        config: TrainingConfig,
        *,
        reader: Reader,
        world: World,
        parallelism: Parallelism,
        activations: ActivationModel,
        activation_budget: int,
        teach: Teach | None = None,
        lexical: bool = False,
    ) -> None:
        self.encoder = encoder
        self.reader = reader
        self.loss = loss
        self.config = config
        self.world = world
        self.parallelism = parallelism
        self.activations = activations
        self.activation_budget = activation_budget
        self.teach = teach
        self.lexical = lexical

    def prepare(self, batches: BatchSource, step: int) -> PreparedBatch:
        """Draw and tokenise the batch of a step; needs nothing of the steps before it."""
        batch = batches.batch(step)
        check_batch(batch, step, self.world.size)
        texts = tokenize_batch(
            batch.slice(self.world.rank, self.world.size),
            self.reader,
        )
        parts = micro_batches(texts, max_tokens=self.config.micro_batch_tokens)
        layout = lay_out(batch, self.world.rank, self.world.size)
        teacher = None if self.teach is None else self.teach(batch)
        return PreparedBatch(batch, layout, parts, teacher, self._vocabulary(batch, texts))

    def _vocabulary(self, batch: Batch, own: Sequence[TokenizedText]) -> NDArray[np.int64] | None:
        """Every rank must name the columns alike, so each reads the texts of all."""
        if not self.lexical:
            return None
        texts = own if self.world.size == 1 else tokenize_batch(batch, self.reader)
        return np.unique(np.concatenate([text.ids for text in texts])).astype(np.int64)

    def run(
        self, prepared: PreparedBatch, *, scale: float = 1.0, stop: bool = False
    ) -> StepOutcome:
        """Add the gradient of the global batch to the parameters.

        Args:
            prepared: of this rank.
            scale: the gradient is multiplied by it (float16).
            stop: whether this rank was asked to stop; every rank learns of it.

        Returns:
            The outcome; where the loss is not finite no gradient was computed.
        """
        with self._lexical(prepared):
            return self._run(prepared, scale=scale, stop=stop)

    def _lexical(self, prepared: PreparedBatch) -> contextlib.AbstractContextManager[None]:
        if prepared.vocabulary is None:
            return contextlib.nullcontext()
        return self.encoder.lexical(torch.from_numpy(prepared.vocabulary).to(self.world.device))

    def _run(self, prepared: PreparedBatch, *, scale: float, stop: bool) -> StepOutcome:
        cache = self._cache(prepared)
        leaf = at_least_float32(cache.embed(prepared.micro_batches)).requires_grad_()
        gathered = self.world.gather_rows(leaf, prepared.layout.num_texts)
        part = self.loss(embedded_batch(gathered, prepared, self.world.device))
        loss, num_tokens, num_positions, num_truncated, stopped = self._add_up(part, prepared, stop)
        finite = np.isfinite(loss)
        if finite:
            (part * (scale * self.parallelism.gradient_factor)).backward()
            assert leaf.grad is not None
            cache.backward(leaf.grad, around=self.parallelism.around)
        return StepOutcome(
            loss=loss,
            num_tokens=int(num_tokens),
            num_truncated=int(num_truncated),
            padding=1.0 - num_tokens / num_positions,
            num_recomputed=cache.num_passes - cache.num_kept,
            stop=stopped > 0,
            bad_rows=[] if finite else rows_not_finite(gathered.detach(), prepared.layout),
        )

    def _cache(self, prepared: PreparedBatch) -> GradientCache:
        own_kept = num_kept(
            prepared.micro_batches,
            self.activations,
            mode=self.config.gradient_cache,
            budget=self.activation_budget,
        )
        kept, passes = self.parallelism.agree(own_kept, len(prepared.micro_batches))
        return GradientCache(
            self._forward,
            num_kept=kept,
            num_passes=passes,
            seed=derive_seed(self.config.seed, prepared.batch.step, self.world.rank),
            device=self.world.device,
        )

    def _forward(self, micro_batch: MicroBatch) -> Float[Tensor, "N D"]:
        return self.parallelism.forward(self.encoder.pack(micro_batch.texts))

    def _add_up(self, part: Tensor, prepared: PreparedBatch, stop: bool) -> list[float]:
        """Over all ranks: loss, tokens, positions, truncated texts, requests to stop."""
        own = [
            float(part.detach()),
            prepared.num_tokens,
            prepared.num_positions,
            prepared.num_truncated,
            stop,
        ]
        # float64: token counts stay exact, and no rank's loss is rounded away.
        values = torch.tensor(own, dtype=torch.float64, device=self.world.device)
        return [float(value) for value in self.world.sum(values)]


def attended_positions(lengths: NDArray[np.int64]) -> int:
    """Tokens of a micro-batch, and the padding that grouping them by length costs attention."""
    groups = make_length_groups(lengths, num_heads=1, device=torch.device("cpu")).groups
    return sum(group.num_texts * group.length for group in groups)


def at_least_float32(embeddings: Tensor) -> Tensor:
    """Losses at a temperature of 0.01 need more digits than 16-bit embeddings have."""
    wide = embeddings.dtype in (torch.float32, torch.float64)
    return embeddings if wide else embeddings.float()


def embedded_batch(
    gathered: Float[Tensor, "total D"], prepared: PreparedBatch, device: torch.device
) -> EmbeddedBatch:
    """Name the gathered embeddings as losses expect them."""
    batch, layout = prepared.batch, prepared.layout
    order = torch.from_numpy(layout.gathered_order()).to(device)
    num_rows, num_negatives = len(batch), sum(layout.num_negatives)
    queries, documents, negatives = gathered[order].split([num_rows, num_rows, num_negatives])

    def on_device(values: NDArray[np.generic] | None) -> Tensor | None:
        return None if values is None else torch.from_numpy(np.ascontiguousarray(values)).to(device)

    embedded = EmbeddedBatch(
        queries=queries,
        documents=documents,
        negatives=negatives if num_negatives else None,
        negative_owners=on_device(layout.negative_owners) if num_negatives else None,
        query_labels=on_device(batch.query_labels),
        document_labels=on_device(layout.document_labels),
        negative_labels=on_device(layout.negative_labels),
        scores=on_device(batch.scores),
        in_batch_negatives=batch.in_batch_negatives,
        rows=layout.rows,
    )
    return embedded if prepared.teacher is None else prepared.teacher.put_into(embedded)


def rows_not_finite(gathered: Tensor, layout: BatchLayout) -> list[int]:
    """Rows of the global batch of which some text has an embedding that is not finite."""
    order = layout.gathered_order()
    num_rows = sum(layout.num_rows)
    bad = np.flatnonzero(~torch.isfinite(gathered).all(dim=1).cpu().numpy()[order])
    owners = np.concatenate([np.arange(num_rows), np.arange(num_rows), layout.negative_owners])
    return sorted({int(row) for row in owners[bad]})
