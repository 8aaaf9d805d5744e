"""Lexical vectors beside embeddings -> mGTE's sparse loss beside a dense one.

Axes: B pairs, N hard negatives, D embedding size, U token ids of a batch.

mGTE (Zhang et al. 2024, arXiv:2407.19669, eq. 3): L = lambda L_sparse + L_dense, where the score of
two texts is the sum over shared tokens of the product of their weights, and L_sparse is InfoNCE
over it with a temperature of 0.01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from opengte.errors import ConfigError
from opengte.losses.inputs import EmbeddedBatch


@dataclass(frozen=True, kw_only=True)
class SparseConfig:
    """How the sparse loss is added.

    Attributes:
        weight: lambda, which mGTE does not publish.
        temperature: of the lexical scores (mGTE 0.01).
    """

    weight: float = 1.0
    temperature: float = 0.01

    def __post_init__(self) -> None:
        for name in ("weight", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be > 0, got {getattr(self, name)}")


class DenseAndSparseLoss(nn.Module):
    """A loss of the first D columns, and the sparse one of those behind them.

    Args:
        dense: of the embeddings.
        dimensions: D.
        config: of the sparse part.
    """

    def __init__(
        self,
        dense: Callable[[EmbeddedBatch], Float[Tensor, ""]],
        dimensions: int,
        config: SparseConfig,
    ) -> None:
        super().__init__()
        self.dense, self.dimensions, self.config = dense, dimensions, config

    def forward(self, batch: EmbeddedBatch) -> Float[Tensor, ""]:
        """Both, added up."""
        total: Tensor = self.dense(batch.truncated(self.dimensions))
        lexical = sparse_contrastive_loss(
            _behind(batch, self.dimensions), temperature=self.config.temperature
        )
        return total + self.config.weight * lexical


def sparse_contrastive_loss(batch: EmbeddedBatch, *, temperature: float) -> Float[Tensor, ""]:
    """InfoNCE of queries over documents and hard negatives, by inner products.

    Args:
        batch: lexical vectors in the place of embeddings; its labels, its own and in-batch
            negatives count as in every contrastive loss.
        temperature: scores are divided by it.

    Returns:
        Nats per pair, the part of the batch's own rows.
    """
    rows = slice(batch.anchors.start, batch.anchors.stop)
    queries = batch.queries[rows].to(batch.compute_dtype)
    own = torch.arange(batch.anchors.start, batch.anchors.stop, device=queries.device)
    texts = (
        batch.documents
        if batch.negatives is None
        else torch.cat([batch.documents, batch.negatives])
    )
    scores = queries @ texts.to(batch.compute_dtype).T / temperature
    scores = scores.masked_fill(~_candidates(batch, own), torch.finfo(scores.dtype).min / 4)
    positives = scores.gather(1, own[:, None]).squeeze(1)
    return (scores.logsumexp(1) - positives).sum() / len(batch)


def _candidates(batch: EmbeddedBatch, own: Tensor) -> Bool[Tensor, "R C"]:
    """Which texts stand in each query's softmax."""
    rows = torch.arange(len(batch), device=own.device)
    is_own = own[:, None] == rows
    allowed = is_own.clone() if not batch.in_batch_negatives else torch.ones_like(is_own)
    for labels in (batch.query_labels, batch.document_labels):
        if labels is not None:
            allowed &= (labels[own][:, None] != labels) | is_own
    if batch.negatives is None or batch.negative_owners is None:
        return allowed
    negatives = own[:, None] == batch.negative_owners
    if batch.in_batch_negatives:
        negatives = torch.ones_like(negatives)
    if batch.negative_labels is not None and batch.document_labels is not None:
        negatives &= batch.document_labels[own][:, None] != batch.negative_labels
    return torch.cat([allowed, negatives], dim=1)


def _behind(batch: EmbeddedBatch, dimensions: int) -> EmbeddedBatch:
    names = ("queries", "documents", "negatives")
    parts = {name: getattr(batch, name) for name in names}
    return replace(batch, **{n: x[:, dimensions:] for n, x in parts.items() if x is not None})
