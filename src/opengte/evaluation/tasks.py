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
        candidates: query id to the document ids that may be ranked for it (``top_ranked`` in
            MTEB); None ranks the whole corpus.
    """

    corpus: Sequence[Document]
    queries: Sequence[Query]
    qrels: Mapping[str, Mapping[str, int]]
    ignore_identical_ids: bool = False
    candidates: Mapping[str, Sequence[str]] | None = None
    type: str = "retrieval"


@dataclass(frozen=True, kw_only=True)
class CodeSearchTask(RetrievalTask):
    """Find the code that a description means: in the full pool, and among few candidates.

    Attributes:
        num_candidates: size of the small pool: the code itself and random others; CodeSearchNet
            has 1,000.
        seed: of the others.
    """

    num_candidates: int = 1000
    seed: int = 0
    type: str = "code_search"


@dataclass(frozen=True, kw_only=True)
class InstructionTask(RetrievalTask):
    """Find what query and instruction ask for together, and follow when the instruction changes.

    Query texts hold their instruction already (query, space, instruction: MTEB's form).

    Attributes:
        changed: base query id to the documents that the changed instruction makes irrelevant; the
            queries are then ``ID-og`` and ``ID-changed``. Empty where instructions only vary.
    """

    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    type: str = "instruction_following"


@dataclass(frozen=True, kw_only=True)
class SummarisationTask(Task):
    """Judge machine summaries by their likeness to people's.

    Attributes:
        human: for each text, the summaries that people wrote.
        machine: for each text, the summaries to be judged.
        scores: for each text, people's judgement of each machine summary.
    """

    human: Sequence[Sequence[str]]
    machine: Sequence[Sequence[str]]
    scores: Sequence[Sequence[float]]
    type: str = "summarisation"


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
