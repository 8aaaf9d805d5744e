"""The contrastive family as one description: which similarities stand in which Z.

Axes: B pairs, N hard negatives. Symbols follow Li et al. 2023 (GTE, arXiv:2308.03281): q query,
d document, s similarity, tau temperature, Z partition function. Every loss of the family is

    L = sum_p w_p / B * sum_i ( log Z_i^p - s(q_i, d_i) / tau ),
    Z_i^p = c_p e^{s(q_i, d_i) / tau} + sum over the blocks that p names,

and differs from its sisters by which blocks each partition p names, and by what is masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HardNegatives = Literal["own", "all"]
Similarity = Literal["cosine", "squared_distance"]
InstructorVariant = Literal["paper", "code"]
Side = Literal["query", "document", "negative"]
ProductType = Literal["exact", "bfloat16"]
Kernel = Literal["torch", "triton"]
Positives = Literal["own", "known"]
Direction = Literal["query_to_document", "symmetric_mean", "symmetric_sum"]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What stands in one Z_i beside the positive.

    Attributes:
        query_document: s(q_i, d_j) for the documents of other rows.
        query_query: s(q_i, q_j) for the queries of other rows.
        document_query: s(d_i, q_j) for the queries of other rows.
        document_document: s(d_i, d_j) for the documents of other rows.
        hard_negatives: s(q_i, n_k) for the negatives of row i alone or for all; None for none.
        document_negatives: s(d_i, n_k) for the hard negatives of other queries.
        num_positives: how often e^{s(q_i, d_i) / tau} stands in Z_i.
        weight: w_p.
    """

    query_document: bool = False
    query_query: bool = False
    document_query: bool = False
    document_document: bool = False
    hard_negatives: HardNegatives | None = None
    document_negatives: bool = False
    num_positives: int = 1
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ContrastiveForm:
    """One member of the family.

    Attributes:
        partitions: the softmaxes whose negative log-likelihoods are added up.
        similarity: cosine, or -|x - y|^2 / 2 of the embeddings as they are: for unit vectors the
            two differ by a constant, and so give one loss.
        false_negative_margin: a text more similar to q_i than its document is, by more than
            this, is taken for a false negative and left out of Z_i; None keeps every text.
        margin_on_documents: whether such a text is left out of the document-document block too.
        positives: which documents are pulled towards a query: its own; or, on average, all that
            the labels of the batch know to answer it, which then stand in Z together (SupCon,
            arXiv:2004.11362, eq. 2). Other known answers count neither way with ``own``.
    """

    partitions: tuple[Partition, ...]
    similarity: Similarity = "cosine"
    false_negative_margin: float | None = None
    margin_on_documents: bool = True
    positives: Positives = "own"

    def keeps_answers(self, term: str) -> bool:
        """Whether the sum called ``term`` holds the known positives themselves."""
        if self.positives == "own":
            return False
        if term == "query_document":
            return True
        return term == "document_query" and any(
            partition.document_query
            and (partition.num_positives > 1 or not partition.query_document)
            for partition in self.partitions
        )


def improved_form(
    *,
    query_document: bool = True,
    query_query: bool = True,
    document_query: bool = True,
    document_document: bool = True,
    count_positive_twice: bool = True,
    hard_negatives: HardNegatives = "all",
) -> ContrastiveForm:
    """GTE's joint partition function (eq. 6), its four blocks as switches.

    The printed sums over j of s(q_i, d_j) and of s(q_j, d_i) both include j = i, so the positive
    stands twice in Z; it does so here while ``document_query`` is on.
    """
    twice = count_positive_twice and document_query and query_document
    return ContrastiveForm(
        partitions=(
            Partition(
                query_document=query_document,
                query_query=query_query,
                document_query=document_query,
                document_document=document_document,
                hard_negatives=hard_negatives,
                document_negatives=document_document and hard_negatives == "all",
                num_positives=2 if twice else 1,
            ),
        )
    )


def info_nce_form(
    *,
    direction: Direction = "query_to_document",
    hard_negatives: HardNegatives = "all",
    similarity: Similarity = "cosine",
    positives: Positives = "own",
) -> ContrastiveForm:
    """InfoNCE from queries to documents, or the mean or sum of both directions."""
    weight = 0.5 if direction == "symmetric_mean" else 1.0
    forward = Partition(query_document=True, hard_negatives=hard_negatives, weight=weight)
    partitions: tuple[Partition, ...] = (forward,)
    if direction != "query_to_document":
        partitions += (Partition(document_query=True, weight=weight),)
    return ContrastiveForm(partitions=partitions, similarity=similarity, positives=positives)


def qwen3_form(
    *,
    query_document: bool = True,
    margin: float | None = 0.1,
    margin_on_documents: bool = True,
    hard_negatives: HardNegatives = "all",
) -> ContrastiveForm:
    """Qwen3-Embedding's masked partition function (arXiv:2506.05176, eq. 1).

        Z_i = e^{s(q_i, d_i) / tau} + sum_k m_ik e^{s(q_i, n_ik) / tau}
              + sum_{j != i} m_ij e^{s(q_i, q_j) / tau} + sum_{j != i} m_ij e^{s(d_i, d_j) / tau}
              [+ sum_{j != i} m_ij e^{s(q_i, d_j) / tau}],

    m_ij = 0 where s_ij > s(q_i, d_i) + margin or d_j is d_i (equal labels), s_ij being the score
    of (q_i, d_j) or (q_i, q_j). The bracket is missing in print; a maintainer confirmed it.
    d_j ranges over the other rows' documents and, with ``all``, their hard negatives.
    """
    partition = Partition(
        query_document=query_document,
        query_query=True,
        document_document=True,
        hard_negatives=hard_negatives if query_document else "own",
        document_negatives=hard_negatives == "all",
    )
    return ContrastiveForm(
        partitions=(partition,),
        false_negative_margin=margin,
        margin_on_documents=margin_on_documents,
    )


def instructor_form(*, variant: InstructorVariant = "paper") -> ContrastiveForm:
    """INSTRUCTOR's two softmaxes, added up (arXiv:2212.09741, training objective).

    In both, each document must also be told from the other queries. In the paper a query sees
    the documents of other rows and its own hard negatives; in the released code it sees all hard
    negatives of the batch, and no other row's document.
    """
    if variant == "paper":
        forward = Partition(query_document=True, hard_negatives="own")
    else:
        forward = Partition(hard_negatives="all")
    return ContrastiveForm(partitions=(forward, Partition(document_query=True)))
