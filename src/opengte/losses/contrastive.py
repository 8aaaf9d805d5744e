"""Contrastive losses: the embeddings of one batch in, one scalar out.

Axes: B pairs in the batch, N hard negatives, I anchors computed here, D embedding size.
Symbols follow Li et al. 2023 (GTE, arXiv:2308.03281): q query, d document, s cosine
similarity, tau temperature, Z partition function.

Hard negatives are not in GTE's printed formula. Like sentence-transformers we let them extend
the query-document and the document-document block; they are never anchors, and a document and
the negatives of its own query are no negatives of each other.

Here the similarity matrices are made whole: 4 B^2 numbers and more. ``tiled`` has the same
values and gradients in a few megabytes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from opengte.errors import ConfigError
from opengte.losses.form import (
    ContrastiveForm,
    Direction,
    HardNegatives,
    Partition,
    improved_form,
    info_nce_form,
)
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.relations import Relations


def improved_contrastive_loss(
    queries: Float[Tensor, "B D"],
    documents: Float[Tensor, "B D"],
    *,
    temperature: float | Tensor,
    count_positive_twice: bool = True,
    query_document: bool = True,
    query_query: bool = True,
    document_query: bool = True,
    document_document: bool = True,
    negatives: Float[Tensor, "N D"] | None = None,
    negative_owners: Int64[Tensor, " N"] | None = None,
    hard_negatives: HardNegatives = "all",
    query_labels: Int64[Tensor, " B"] | None = None,
    document_labels: Int64[Tensor, " B"] | None = None,
    negative_labels: Int64[Tensor, " N"] | None = None,
    in_batch_negatives: bool = True,
    rows: range | None = None,
) -> Float[Tensor, ""]:
    """Contrast each pair with every other text of the batch, in both directions.

    InfoNCE sees B - 1 negatives per query. GTE also counts the other queries as negatives
    of a query, the other documents as negatives of a document, and scores each document
    against all queries (GTE, eq. 5-6). The positive stands twice in Z, as printed there.

    Args:
        queries: one embedding per query, of any length: they are normalised here.
        documents: row i answers row i of ``queries``.
        temperature: tau; GTE trains with 0.01.
        count_positive_twice: as printed; otherwise e^{s(q_i, d_i) / tau} stands once in Z.
        query_document: whether Z holds the other documents' s(q_i, d_j).
        query_query: whether Z holds the other queries' s(q_i, q_j).
        document_query: whether Z holds s(d_i, q_j) for all queries.
        document_document: whether Z holds the other documents' s(d_i, d_j).
        negatives: hard negatives of all rows, in any order.
        negative_owners: the row whose hard negative each of ``negatives`` is.
        hard_negatives: whether a query sees its own hard negatives only, or all of the batch.
        query_labels: rows with equal labels are never each other's negatives.
        document_labels: likewise, for the text of the document.
        negative_labels: in the numbering of ``document_labels``; a hard negative that is known
            to answer a query is no negative of it.
        in_batch_negatives: whether texts of other rows stand in Z at all.
        rows: the anchors whose terms are computed; the result is still divided by B.

    Returns:
        Mean negative log-likelihood, in nats per pair.

    Raises:
        ConfigError: the temperature is not above 0.
        DataError: the shapes do not belong to one batch.
    """
    batch = EmbeddedBatch(
        queries,
        documents,
        negatives,
        negative_owners,
        query_labels,
        document_labels,
        negative_labels,
        in_batch_negatives=in_batch_negatives,
        rows=rows,
    )
    form = improved_form(
        query_document=query_document,
        query_query=query_query,
        document_query=document_query,
        document_document=document_document,
        count_positive_twice=count_positive_twice,
        hard_negatives=hard_negatives,
    )
    return contrastive_loss(batch, form, temperature=temperature)


def info_nce_loss(
    queries: Float[Tensor, "B D"],
    documents: Float[Tensor, "B D"],
    *,
    temperature: float | Tensor,
    direction: Direction = "query_to_document",
    negatives: Float[Tensor, "N D"] | None = None,
    negative_owners: Int64[Tensor, " N"] | None = None,
    hard_negatives: HardNegatives = "all",
    query_labels: Int64[Tensor, " B"] | None = None,
    document_labels: Int64[Tensor, " B"] | None = None,
    negative_labels: Int64[Tensor, " N"] | None = None,
    in_batch_negatives: bool = True,
    rows: range | None = None,
) -> Float[Tensor, ""]:
    """Tell each query's document from the documents of all other queries.

    InfoNCE (van den Oord et al. 2018, arXiv:1807.03748, eq. 4), as E5 and BGE train with it;
    ``symmetric_mean`` is CLIP's and cpt-text's, ``symmetric_sum`` the sum of both directions.
    Hard negatives stand in the direction from query to document alone.

    Args:
        queries: one embedding per query, of any length: they are normalised here.
        documents: row i answers row i of ``queries``.
        temperature: tau; E5 and BGE train with 0.01.
        direction: one direction, or the mean or sum of both.
        negatives: hard negatives of all rows, in any order.
        negative_owners: the row whose hard negative each of ``negatives`` is.
        hard_negatives: whether a query sees its own hard negatives only, or all of the batch.
        query_labels: rows with equal labels are never each other's negatives.
        document_labels: likewise, for the text of the document.
        negative_labels: in the numbering of ``document_labels``.
        in_batch_negatives: whether texts of other rows stand in Z at all.
        rows: the anchors whose terms are computed; the result is still divided by B.

    Returns:
        Mean negative log-likelihood, in nats per pair.

    Raises:
        ConfigError: the temperature is not above 0.
        DataError: the shapes do not belong to one batch.
    """
    batch = EmbeddedBatch(
        queries,
        documents,
        negatives,
        negative_owners,
        query_labels,
        document_labels,
        negative_labels,
        in_batch_negatives=in_batch_negatives,
        rows=rows,
    )
    form = info_nce_form(direction=direction, hard_negatives=hard_negatives)
    return contrastive_loss(batch, form, temperature=temperature)


def contrastive_loss(
    batch: EmbeddedBatch, form: ContrastiveForm, *, temperature: float | Tensor
) -> Float[Tensor, ""]:
    """Any member of the contrastive family, with whole similarity matrices.

    Args:
        batch: the embeddings and what is known about them.
        form: which similarities stand in which Z.
        temperature: tau; a tensor where it is learned.

    Returns:
        The loss in nats per pair, float64 for float64 embeddings, else float32.

    Raises:
        ConfigError: the temperature is not above 0.
    """
    texts = ScaledTexts.of(batch, form, temperature=temperature)
    anchors = slice(batch.anchors.start, batch.anchors.stop)
    blocks = _Blocks(texts, Relations.of(batch), anchors, batch.in_batch_negatives)
    total = texts.queries.new_zeros(())
    for partition in form.partitions:
        log_partition = blocks.log_partition(partition)
        total = total + partition.weight * (log_partition - blocks.positive).sum()
    return total / len(batch)


class ScaledTexts:
    """Vectors whose inner products (plus offsets) are the logits s / tau.

    Temperature and normalisation live here, outside of every product, so that autograd sees
    them on B x D numbers only.

    Attributes:
        queries, documents, negatives: vectors; ``negatives`` is (0, D) where there are none.
        offsets: for each of the three, what is added to its logits, or None for cosine.
    """

    def __init__(self, vectors: tuple[Tensor, Tensor, Tensor], offsets: bool) -> None:
        self.queries, self.documents, self.negatives = vectors
        self.offsets = tuple(x.square().sum(-1) / -2 for x in vectors) if offsets else None

    @classmethod
    def of(
        cls, batch: EmbeddedBatch, form: ContrastiveForm, *, temperature: float | Tensor
    ) -> ScaledTexts:
        """Normalise (for cosine) and divide by sqrt(tau)."""
        if float(temperature) <= 0:
            raise ConfigError(f"temperature must be > 0, got {float(temperature)}")
        cosine = form.similarity == "cosine"

        def scaled(x: Tensor | None) -> Tensor:
            x = batch.queries[:0] if x is None else x
            x = x.to(batch.compute_dtype)
            if cosine:
                x = torch.nn.functional.normalize(x, dim=-1)
            return x / temperature**0.5

        vectors = (scaled(batch.queries), scaled(batch.documents), scaled(batch.negatives))
        return cls(vectors, offsets=not cosine)


class _Blocks:
    """The blocks of logits of the anchors, each made at most once."""

    def __init__(
        self, texts: ScaledTexts, relations: Relations, anchors: slice, in_batch: bool
    ) -> None:
        self.texts, self.relations, self.anchors, self.in_batch = (
            texts,
            relations,
            anchors,
            in_batch,
        )
        self.everything = slice(0, len(texts.queries))
        self.every_negative = slice(0, len(texts.negatives))
        self.positive = self._positive()
        self._made: dict[tuple[str, str], Tensor] = {}

    def _positive(self) -> Float[Tensor, " I"]:
        rows, texts = self.anchors, self.texts
        positive = (texts.queries[rows] * texts.documents[rows]).sum(-1)
        if texts.offsets is not None:
            positive = positive + texts.offsets[0][rows] + texts.offsets[1][rows]
        return positive

    def log_partition(self, partition: Partition) -> Float[Tensor, " I"]:
        """Log Z of every anchor."""
        terms = [self.positive + math.log(partition.num_positives)]
        if self.in_batch:
            names = ("query_document", "query_query", "document_query", "document_document")
            for name in names:
                if getattr(partition, name):
                    left, right = name.split("_")
                    terms.append(self._among_rows(left, right))
        if partition.hard_negatives is not None and len(self.texts.negatives):
            own_only = partition.hard_negatives == "own" or not self.in_batch
            terms.append(self._query_negatives(own_only))
            if partition.document_document and not own_only:
                terms.append(self._document_negatives())
        return torch.logsumexp(torch.stack(terms), dim=0)

    def _among_rows(self, left: str, right: str) -> Float[Tensor, " I"]:
        masked = self.relations.not_negatives(self.anchors, self.everything)
        return _masked_logsumexp(self._logits(left, right), masked)

    def _query_negatives(self, own_only: bool) -> Float[Tensor, " I"]:
        masked = self.relations.related_negatives(self.anchors, self.every_negative)
        if own_only:
            others = ~self.relations.owned(self.anchors, self.every_negative)
            masked = others if masked is None else masked | others
        return _masked_logsumexp(self._logits("query", "negative"), masked)

    def _document_negatives(self) -> Float[Tensor, " I"]:
        masked = self.relations.same_query(self.anchors, self.every_negative)
        related = self.relations.related_negatives(self.anchors, self.every_negative)
        masked = masked if related is None else masked | related
        return _masked_logsumexp(self._logits("document", "negative"), masked)

    def _logits(self, left: str, right: str) -> Float[Tensor, "I J"]:
        if (left, right) in self._made:
            return self._made[left, right]
        rows, texts = self.anchors, self.texts
        vectors = {"query": 0, "document": 1, "negative": 2}
        sides = (texts.queries, texts.documents, texts.negatives)
        x, y = sides[vectors[left]], sides[vectors[right]]
        if (right, left) in self._made and rows == self.everything:
            logits = self._made[right, left].T
        else:
            logits = x[rows] @ y.T
            if texts.offsets is not None:
                offsets = texts.offsets
                logits = logits + offsets[vectors[left]][rows, None] + offsets[vectors[right]]
        self._made[left, right] = logits
        return logits


def _masked_logsumexp(logits: Float[Tensor, "I J"], masked: Tensor | None) -> Float[Tensor, " I"]:
    if masked is not None:
        # Finite, so that a row with nothing left has gradient 0 and not NaN; e^ of it adds 0 to Z.
        logits = logits.masked_fill(masked, torch.finfo(logits.dtype).min / 4)
    return torch.logsumexp(logits, dim=1)
