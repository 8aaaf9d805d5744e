"""Labels of a batch -> which texts may be each other's negatives, one tile at a time.

Axes: B pairs, N hard negatives; I rows and J columns of one tile.

The batch knows the answers (a_i, b_i): the label of query i and of its document. Rows i and j
are *related* when, as far as the batch knows, d_j answers q_i or d_i answers q_j: they have the
same query, the same document, or a third row says so (many-to-many positives). Related rows are
never each other's negatives, in any block of similarities. Nothing of size B x B is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from opengte.losses.form import Side
from opengte.losses.inputs import EmbeddedBatch


@dataclass(frozen=True, eq=False)
class Relations:
    """What is known about the texts of a batch, as ids; rules turn them into masks per tile.

    Attributes:
        device: where the embeddings live.
        num_negatives: N.
        owners: the row each negative belongs to.
        queries, documents: labels of the rows, renumbered from 0; None where no two rows share
            any, so that no rule can fire.
        negatives: labels of the negatives that answer some query of the batch, in the numbering
            of ``documents``, -1 for the others; None where none does.
        answers: sorted keys ``a * num_documents + b`` of the known answers.
        num_documents: number of distinct document labels, those of negatives included.
        chained_queries, chained_documents: rows whose query (document) may be related to another
            row through a third one; a search among ``answers`` is made for these alone.
    """

    device: torch.device
    num_negatives: int = 0
    owners: Int64[Tensor, " N"] | None = None
    queries: Int64[Tensor, " B"] | None = None
    documents: Int64[Tensor, " B"] | None = None
    negatives: Int64[Tensor, " N"] | None = None
    answers: Int64[Tensor, " A"] | None = None
    num_documents: int = 0
    chained_queries: Bool[Tensor, " B"] | None = None
    chained_documents: Bool[Tensor, " B"] | None = None

    @classmethod
    def of(cls, batch: EmbeddedBatch) -> Relations:
        """Read the labels of ``batch``."""
        device = batch.queries.device
        num_negatives = 0 if batch.negatives is None else len(batch.negatives)
        plain = cls(device, num_negatives, batch.negative_owners)
        if batch.query_labels is None and batch.document_labels is None:
            return plain
        queries, documents, negatives = _numbered(batch)
        num_documents = 1 + max(int(x.max()) for x in (documents, negatives) if len(x))
        answers = torch.unique(queries * num_documents + documents)
        many_documents = _repeated(answers // num_documents, len(batch))
        many_queries = _repeated(answers % num_documents, num_documents)
        known = torch.isin(negatives, documents)
        negatives_matter = bool(known.any())
        rows_matter = len(torch.unique(queries)) < len(batch) or bool(many_queries.any())
        if not rows_matter and not negatives_matter:
            return plain
        return replace(
            plain,
            queries=queries,
            documents=documents,
            negatives=negatives.masked_fill(~known, -1) if negatives_matter else None,
            answers=answers,
            num_documents=num_documents,
            chained_queries=_unless_none(many_documents[queries]),
            chained_documents=_unless_none(many_queries[documents]),
        )

    def excluded(
        self,
        left: Side,
        right: Side,
        rows: slice,
        columns: slice,
        *,
        keep_answers: bool = False,
        seen: Float[Tensor, "I J"] | None = None,
        limits: Float[Tensor, " I"] | None = None,
    ) -> Bool[Tensor, "I J"] | None:
        """Which texts of ``right`` an anchor's text of ``left`` must not count; None for none.

        Args:
            left: query or document: the text of the anchor.
            right: query, document or negative: what it is compared with.
            rows: the anchors.
            columns: the texts of ``right``.
            keep_answers: count the texts that answer, or are answered by, the text of ``left``.
            seen: logits to which the false-negative rule applies, or None.
            limits: the largest of them that each anchor tolerates.
        """
        if right == "negative":
            excluded = self._excluded_negatives(left, rows, columns)
        else:
            excluded = self.related_rows(rows, columns)
        if seen is not None and limits is not None:
            similar = seen > limits[:, None]
            excluded = similar if excluded is None else excluded | similar
        if not keep_answers or excluded is None:
            return excluded
        kept = self.answers_of(rows, columns) if left == "query" else None
        return excluded & ~(self.answers_of(columns, rows).T if kept is None else kept)

    def _excluded_negatives(
        self, left: Side, rows: slice, columns: slice
    ) -> Bool[Tensor, "I J"] | None:
        known = self.related_negatives(rows, columns)
        if left == "query":
            return known
        same = self.same_query(rows, columns)
        return same if known is None else same | known

    def related_rows(self, rows: slice, columns: slice) -> Bool[Tensor, "I J"] | None:
        """Which rows are related, each with itself among others; None where none are."""
        apart = rows.start >= columns.stop or columns.start >= rows.stop
        if self.queries is None and apart:
            return None
        answers = self.answers_of(rows, columns)
        if self.chained_queries is None or self.chained_documents is None:
            return answers  # equal labels: who answers whom is the same both ways
        return answers | self.answers_of(columns, rows).T

    def answers_of(self, rows: slice, columns: slice) -> Bool[Tensor, "I J"]:
        """Which documents are known to answer which query."""
        if self.queries is None or self.documents is None:
            numbers = torch.arange(rows.start, rows.stop, device=self.device)
            return numbers[:, None] == torch.arange(columns.start, columns.stop, device=self.device)
        known = self.queries[rows, None] == self.queries[None, columns]
        known |= self.documents[rows, None] == self.documents[None, columns]
        if self.chained_documents is None:
            return known
        return self._with_chained(known, rows, self.documents, self.chained_documents, columns)

    def _with_chained(
        self, known: Tensor, rows: slice, texts: Tensor, chained: Tensor, columns: slice
    ) -> Bool[Tensor, "I J"]:
        """Add to ``known``, in place, the answers that only a third row tells of."""
        if self.chained_queries is None:
            return known
        assert self.queries is not None
        assert self.answers is not None
        here = self.chained_queries[rows].nonzero()[:, 0]
        there = chained[columns].nonzero()[:, 0]
        if len(here) and len(there):
            keys = self.queries[rows][here, None] * self.num_documents + texts[columns][there]
            places = torch.searchsorted(self.answers, keys).clamp_(max=len(self.answers) - 1)
            known[here[:, None], there] |= self.answers[places] == keys
        return known

    def related_negatives(self, rows: slice, columns: slice) -> Bool[Tensor, "I J"] | None:
        """Which hard negatives hold a text that is known to answer which query."""
        if self.negatives is None or self.documents is None:
            return None
        known = self.documents[rows, None] == self.negatives[None, columns]
        answering = self.negatives >= 0
        return self._with_chained(known, rows, self.negatives, answering, columns)

    def mean_of_answers(self, values: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """For each query, the mean over the documents known to answer it, of their ``values``.

        Sums go by label, so that a query with many answers costs no more than one with few.
        """
        if self.queries is None or self.documents is None or self.answers is None:
            return values
        return self._mean(
            values,
            self.documents,
            self.queries,
            self.answers // self.num_documents,
            self.answers % self.num_documents,
        )

    def mean_of_answered(self, values: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        """For each document, the mean over the queries it is known to answer."""
        if self.queries is None or self.documents is None or self.answers is None:
            return values
        return self._mean(
            values,
            self.queries,
            self.documents,
            self.answers % self.num_documents,
            self.answers // self.num_documents,
        )

    def _mean(
        self, values: Tensor, labels: Tensor, anchors: Tensor, wanting: Tensor, given: Tensor
    ) -> Float[Tensor, "B K"]:
        ones = values.new_ones(len(values), 1)
        values = torch.cat([values, ones], dim=1)
        size = int(torch.maximum(labels.max(), given.max())) + 1
        by_label = values.new_zeros(size, values.shape[1]).index_add(0, labels, values)
        size = int(torch.maximum(anchors.max(), wanting.max())) + 1
        sums = values.new_zeros(size, values.shape[1]).index_add(0, wanting, by_label[given])
        return (sums[:, :-1] / sums[:, -1:])[anchors]

    def known_answers(self) -> Bool[Tensor, " N"]:
        """Which hard negatives hold a text that is known to answer the query they stand with."""
        assert self.owners is not None
        if self.negatives is None or self.queries is None or self.answers is None:
            return torch.zeros(self.num_negatives, dtype=torch.bool, device=self.device)
        keys = self.queries[self.owners] * self.num_documents + self.negatives
        return torch.isin(keys, self.answers) & (self.negatives >= 0)

    def same_query(self, rows: slice, columns: slice) -> Bool[Tensor, "I J"]:
        """Which hard negatives were mined for the query of which row, under any row number."""
        assert self.owners is not None
        if self.queries is None:
            numbers = torch.arange(rows.start, rows.stop, device=self.device)
            return numbers[:, None] == self.owners[None, columns]
        return self.queries[rows, None] == self.queries[self.owners[columns]][None, :]


def _numbered(batch: EmbeddedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Labels of queries, documents and negatives from 0 on; the last two in one numbering."""
    own = torch.arange(len(batch), device=batch.queries.device)
    queries = own if batch.query_labels is None else batch.query_labels
    documents = own if batch.document_labels is None else batch.document_labels
    negatives = own[:0] if batch.negative_labels is None else batch.negative_labels
    texts = torch.unique(torch.cat([documents, negatives]), return_inverse=True)[1]
    documents, negatives = texts.split([len(documents), len(negatives)])
    return torch.unique(queries, return_inverse=True)[1], documents, negatives


def _repeated(labels: Int64[Tensor, " n"], size: int) -> Bool[Tensor, " size"]:
    return torch.bincount(labels, minlength=size) > 1


def _unless_none(found: Bool[Tensor, " n"]) -> Bool[Tensor, " n"] | None:
    return found if bool(found.any()) else None
