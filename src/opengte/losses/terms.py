"""The terms that Z is made of, and how they make a loss: shared by the dense and the tiled form.

A *term* is the log of a sum of e^logit for each anchor, e.g. over all other documents. One
block of similarities can serve two terms: the columns of query-document are document-query.

Axes: B pairs, N hard negatives, A anchors computed here, D embedding size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from opengte.losses.form import ContrastiveForm, Partition, Side
from opengte.losses.inputs import EmbeddedBatch


class Block(NamedTuple):
    """All similarities of two sides, and the terms that its rows and its columns add to."""

    left: Side
    right: Side
    row_term: str | None
    column_term: str | None

    @property
    def symmetric(self) -> bool:
        """Whether one half of the block holds all there is to know."""
        return self.left == self.right


def terms_of(batch: EmbeddedBatch, partition: Partition) -> tuple[str, ...]:
    """Names of the terms that stand in Z beside the positive."""
    names = []
    if batch.in_batch_negatives:
        blocks = ("query_document", "query_query", "document_query", "document_document")
        names += [name for name in blocks if getattr(partition, name)]
    if batch.negatives is None or not len(batch.negatives):
        return tuple(names)
    if partition.hard_negatives is not None:
        own_only = partition.hard_negatives == "own" or not batch.in_batch_negatives
        names.append("own_negative" if own_only else "query_negative")
    if partition.document_negatives and batch.in_batch_negatives:
        names.append("document_negative")
    return tuple(names)


def all_terms(batch: EmbeddedBatch, form: ContrastiveForm) -> tuple[str, ...]:
    """Names of the terms of all partitions, each once."""
    names = (name for partition in form.partitions for name in terms_of(batch, partition))
    return tuple(dict.fromkeys(names))


def blocks_of(terms: tuple[str, ...]) -> tuple[Block, ...]:
    """The blocks of similarities that hold ``terms``, each product once."""

    def wanted(name: str) -> str | None:
        return name if name in terms else None

    candidates = (
        Block("query", "document", wanted("query_document"), wanted("document_query")),
        Block("query", "query", wanted("query_query"), wanted("query_query")),
        Block("document", "document", wanted("document_document"), wanted("document_document")),
        Block("query", "negative", wanted("query_negative"), None),
        Block("document", "negative", wanted("document_negative"), None),
    )
    return tuple(block for block in candidates if block.row_term or block.column_term)


def loss_from_terms(
    batch: EmbeddedBatch,
    form: ContrastiveForm,
    positive: Float[Tensor, " A"],
    terms: Mapping[str, Float[Tensor, " A"]],
    positive_means: Mapping[Side, Float[Tensor, " A"]],
) -> Float[Tensor, ""]:
    """Add up the negative log-likelihoods of all partitions, and divide by the global B.

    Args:
        batch: tells which terms there can be.
        form: which terms stand in which Z.
        positive: s(q_i, d_i) / tau of each anchor.
        terms: log of the sum of e^logit, by name; -inf where nothing is summed.
        positive_means: the mean logit of each anchor's known positives, seen from its query and
            from its document; empty where every pair is its own only positive.
    """
    total = positive.new_zeros(())
    for partition in form.partitions:
        names = terms_of(batch, partition)
        parts = [terms[name] for name in names]
        pulled = positive
        if any(form.keeps_answers(name) for name in names):
            pulled = positive_means["query" if "query_document" in names else "document"]
        else:
            parts.append(positive + math.log(partition.num_positives))
        log_partition = torch.logsumexp(torch.stack(parts), dim=0)
        total = total + partition.weight * (log_partition - pulled).sum()
    return total / len(batch)
