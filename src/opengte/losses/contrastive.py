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

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from opengte.losses.form import (
    ContrastiveForm,
    Direction,
    HardNegatives,
    Side,
    improved_form,
    info_nce_form,
)
from opengte.losses.inputs import EmbeddedBatch
from opengte.losses.own_negatives import own_negative_term
from opengte.losses.positives import positive_means
from opengte.losses.relations import Relations
from opengte.losses.scaling import (
    checked_temperature,
    false_negative_limits,
    pair_logits,
    scaled_vectors,
)
from opengte.losses.terms import all_terms, loss_from_terms


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
    checked_temperature(temperature)
    # Autocast would round the logits to 8 bits: at temperature 0.01 they would be off by 0.25.
    with torch.autocast(batch.queries.device.type, enabled=False):
        matrices = _Matrices(batch, form, temperature)
        terms = {name: matrices.term(name) for name in all_terms(batch, form)}
        means = positive_means(batch, form, temperature)
        return loss_from_terms(batch, form, matrices.positive, terms, means)


class _Matrices:
    """The whole similarity matrices between anchors and all texts, each made at most once."""

    def __init__(
        self, batch: EmbeddedBatch, form: ContrastiveForm, temperature: float | Tensor
    ) -> None:
        self.batch, self.form, self.temperature = batch, form, temperature
        self.relations = Relations.of(batch)
        self.rows = slice(batch.anchors.start, batch.anchors.stop)
        negatives = batch.queries[:0] if batch.negatives is None else batch.negatives
        sides = {"query": batch.queries, "document": batch.documents, "negative": negatives}
        self.texts = {k: scaled_vectors(x, form, temperature) for k, x in sides.items()}
        self.all_rows = slice(0, len(batch))
        self.all_negatives = slice(0, len(negatives))
        self.positive = pair_logits(
            self.texts["query"][self.rows], self.texts["document"][self.rows], form
        )
        self.limits = false_negative_limits(form, self.positive, temperature)
        self._made: dict[tuple[Side, Side], Tensor] = {}

    def term(self, name: str) -> Float[Tensor, " A"]:
        """Log of the sum of e^logit over everything that ``name`` stands for."""
        if name == "own_negative":
            return own_negative_term(
                self.batch, self.form, self.relations, self.temperature, self.limits
            )
        left, right = _sides(name)
        logits = self._logits(left, right)
        if self.limits is not None or self.form.positives == "known":
            logits = logits.masked_fill(self._excluded(name), _nothing(logits))
        return torch.logsumexp(logits, dim=1)

    def _excluded(self, name: str) -> Bool[Tensor, "A J"]:
        """What a term must not count where that depends on the term."""
        left, right = _sides(name)
        seen = self._seen_by_rule(left, right)
        excluded = self.relations.excluded(
            left,
            right,
            self.rows,
            self.all_negatives if right == "negative" else self.all_rows,
            keep_answers=self.form.keeps_answers(name),
            seen=seen,
            limits=self.limits,
        )
        if excluded is not None:
            return excluded
        return torch.zeros_like(self._logits(left, right), dtype=torch.bool)

    def _seen_by_rule(self, left: Side, right: Side) -> Float[Tensor, "A J"] | None:
        """The logits that the false-negative rule looks at: the query's, where there is one."""
        if self.limits is None:
            return None
        if "query" in (left, right):
            return self._logits(left, right).detach()
        return self._logits("query", right).detach() if self.form.margin_on_documents else None

    def _logits(self, left: Side, right: Side) -> Float[Tensor, "A J"]:
        """All logits; where one rule holds for every term, what it excludes is gone already."""
        if (left, right) in self._made:
            return self._made[left, right]
        if (right, left) in self._made and self.rows == self.all_rows:
            return self._made[right, left].T
        rows, columns = self.texts[left][self.rows], self.texts[right]
        logits = rows @ columns.T
        if self.form.similarity == "squared_distance":
            logits = logits - rows.square().sum(1, keepdim=True) / 2
            logits = logits - columns.square().sum(1) / 2
        if self.limits is None and self.form.positives == "own":
            everything = self.all_negatives if right == "negative" else self.all_rows
            excluded = self.relations.excluded(left, right, self.rows, everything)
            if excluded is not None:
                logits.masked_fill_(excluded, _nothing(logits))
        self._made[left, right] = logits
        return logits


def _sides(term: str) -> tuple[Side, Side]:
    left, right = term.split("_")
    return left, right  # type: ignore[return-value]


def _nothing(logits: Tensor) -> float:
    """A logit that adds 0 to every sum; finite, so that a row of none has gradient 0, not NaN."""
    return torch.finfo(logits.dtype).min / 4
