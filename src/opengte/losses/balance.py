"""Conan's cross-task balance: retrieval and graded pairs in one step, one loss.

Axes: B rows, N hard negatives. Symbols follow Li et al. 2024 (Conan-embedding,
arXiv:2408.15710, cross-GPU batch balance).

    L = -(1/n) sum_i log( e^{s(x_i, y_i) / tau}
                          / (e^{s(x_i, y_i) / tau} + sum_k sum_j e^{s(x_i, y_j^-) / tau}) )
        + beta L_cos

k runs over the devices that hold the same queries with other negatives; here they are one list.
n counts the retrieval rows; L_cos is CoSENT over the graded ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.errors import ConfigError
from opengte.losses.contrastive import contrastive_loss
from opengte.losses.cosent import cosent_loss
from opengte.losses.form import ContrastiveForm, HardNegatives, Partition
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.scaling import checked_temperature


@dataclass(frozen=True, kw_only=True)
class ConanBalanceConfig:
    """Conan-embedding's loss over batches that mix retrieval rows and graded rows.

    Attributes:
        kind: names this loss in a recipe.
        temperature: tau of the retrieval part; not published, our choice.
        cosent_temperature: tau of CoSENT; not published; piccolo2, its parent: 0.05.
        beta: weight of CoSENT; paper: 0.8.
        hard_negatives: whether a query sees the negatives of all queries, or its own only.
    """

    kind: Literal["conan_balance"] = "conan_balance"
    temperature: float = 0.01
    cosent_temperature: float = 0.05
    beta: float = 0.8
    hard_negatives: HardNegatives = "all"

    def __post_init__(self) -> None:
        """Check the temperatures and the weight."""
        checked_temperature(self.temperature)
        checked_temperature(self.cosent_temperature)
        if self.beta < 0:
            raise ConfigError(f"beta must be >= 0, got {self.beta}")


def conan_balance_loss(
    batch: EmbeddedBatch,
    *,
    temperature: float,
    cosent_temperature: float = 0.05,
    beta: float = 0.8,
    hard_negatives: HardNegatives = "all",
) -> Float[Tensor, ""]:
    """InfoNCE against hard negatives over rows without a score, CoSENT over rows with one.

    Args:
        batch: rows whose score is NaN, or all rows of a batch without scores, are retrieval.
        temperature: tau of the retrieval part.
        cosent_temperature: tau of CoSENT.
        beta: weight of CoSENT.
        hard_negatives: whether a query sees the negatives of all queries, or its own only.
    """
    total = batch.nothing()
    graded = torch.zeros(len(batch), dtype=torch.bool, device=batch.queries.device)
    if batch.scores is not None:
        graded = ~torch.isnan(batch.scores)
        total = total + beta * cosent_loss(batch, temperature=cosent_temperature)
    form = ContrastiveForm(partitions=(Partition(hard_negatives=hard_negatives),))
    num_retrieval = int((~graded).sum())
    if num_retrieval:
        part = _retrieval_rows(batch, graded)
        total = total + contrastive_loss(part, form, temperature=temperature)
    return total


def _retrieval_rows(batch: EmbeddedBatch, graded: Tensor) -> EmbeddedBatch:
    """The batch without its graded rows; anchors and owners renumbered."""
    if not graded.any():
        return batch
    kept = ~graded
    before = torch.cumsum(kept, 0) - kept.long()
    start, stop = batch.anchors.start, batch.anchors.stop
    rows = range(int(kept[:start].sum()), int(kept[:stop].sum()))

    def of_rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[kept]

    smaller = replace(
        batch,
        queries=batch.queries[kept],
        documents=batch.documents[kept],
        query_labels=of_rows(batch.query_labels),
        document_labels=of_rows(batch.document_labels),
        scores=None,
        teacher_scores=of_rows(batch.teacher_scores),
        teacher_queries=of_rows(batch.teacher_queries),
        teacher_documents=of_rows(batch.teacher_documents),
        negatives=None,
        negative_owners=None,
        negative_labels=None,
        negative_teacher_scores=None,
        rows=rows,
    )
    if batch.negatives is None or batch.negative_owners is None:
        return smaller
    of_kept = kept[batch.negative_owners]
    labels = batch.negative_labels
    return replace(
        smaller,
        negatives=batch.negatives[of_kept],
        negative_owners=before[batch.negative_owners[of_kept]],
        negative_labels=None if labels is None else labels[of_kept],
    )
