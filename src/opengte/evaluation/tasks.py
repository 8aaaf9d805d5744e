"""What can be measured: one frozen value a kind of task, texts and truth together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opengte.records import Document, Query


@dataclass(frozen=True, kw_only=True)
class Task:
    """What all tasks have.

    Attributes:
        name: the folder's name, as it stands in result files.
        split: which part was read, e.g. ``test``.
        type: the kind, as the command line names it.
        notes: what the reader left out or changed, by reason.
    """

    name: str
    split: str = "test"
    notes: Mapping[str, int] = field(default_factory=dict)
    type: str = ""


@dataclass(frozen=True, kw_only=True)
class RetrievalTask(Task):
    """Find the relevant documents of each query in a corpus.

    Attributes:
        corpus: what is searched.
        queries: only those with judgements.
        qrels: query id to {document id: grade}.
        ignore_identical_ids: drop a hit that bears its query's id (ArguAna, Quora).
    """

    corpus: Sequence[Document]
    queries: Sequence[Query]
    qrels: Mapping[str, Mapping[str, int]]
    ignore_identical_ids: bool = False
    type: str = "retrieval"


@dataclass(frozen=True, kw_only=True)
class RerankingTask(Task):
    """Order each query's own candidates.

    Attributes:
        queries: Q texts.
        candidates: Q lists of texts.
        labels: Q lists of grades, one a candidate; above 0 is relevant.
    """

    queries: Sequence[str]
    candidates: Sequence[Sequence[str]]
    labels: Sequence[Sequence[int]]
    type: str = "reranking"


@dataclass(frozen=True, kw_only=True)
class StsTask(Task):
    """Order sentence pairs by similarity.

    Attributes:
        sentences1: first sides.
        sentences2: second sides.
        scores: people's judgement of each pair; larger is more alike, any range.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    scores: Sequence[float]
    type: str = "sts"


@dataclass(frozen=True, kw_only=True)
class PairClassificationTask(Task):
    """Tell matching sentence pairs from others.

    Attributes:
        sentences1: first sides.
        sentences2: second sides.
        labels: 1 where the pair matches, else 0.
    """

    sentences1: Sequence[str]
    sentences2: Sequence[str]
    labels: Sequence[int]
    type: str = "pair_classification"


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """Predict labels from embeddings with a linear model trained on few examples.

    Attributes:
        train_texts: texts to draw the examples from.
        train_labels: their labels.
        texts: what is predicted.
        labels: its truth.
    """

    train_texts: Sequence[str]
    train_labels: Sequence[str]
    texts: Sequence[str]
    labels: Sequence[str]
    type: str = "classification"


@dataclass(frozen=True, kw_only=True)
class ClusteringTask(Task):
    """Find the groups of texts without seeing labels.

    Attributes:
        texts: what is clustered.
        labels: the true groups.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    type: str = "clustering"


@dataclass(frozen=True, kw_only=True)
class BitextTask(Task):
    """Find the translation of each sentence among all of them.

    Attributes:
        subsets: for each language pair, e.g. ``deu-eng``, the source sentences and, in the same
            order, their translations.
    """

    subsets: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    type: str = "bitext"
