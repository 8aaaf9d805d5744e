"""The values that travel between the rooms: plain, frozen, free of torch.

Axes: N texts, D embedding size, B rows of a batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["query", "document"]
Truncate = Literal["none", "start", "end"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a text that answers it, perhaps with texts that do not.

    Attributes:
        query: the short or asking side.
        positive: a text that answers it.
        negatives: texts that look alike and do not answer it (hard negatives).
        score: similarity in [0, 1] where it is known; 0 marks a pair that does NOT match.
        negative_scores: a teacher's scores, one for each of ``negatives``, or empty.
        group: what is held out as a whole and what intervals cluster by (a package, a folder).
        kind: the family of the pair, e.g. ``docstring-code``; a source of the mixture.
        origin: where it was read, e.g. ``json/decoder.py:12``; for messages and reports.
    """

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    score: float | None = None
    negative_scores: tuple[float, ...] = ()
    group: str = ""
    kind: str = ""
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A question put to a corpus."""

    id: str
    text: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that can be found. ``group`` and ``origin`` mean what they mean in ``Pair``."""

    id: str
    text: str
    title: str = ""
    group: str = ""
    kind: str = ""
    origin: str = ""

    @property
    def full_text(self) -> str:
        """Title and text as BEIR joins them: what an encoder reads."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document. A larger score is a better match; ``rank`` counts from 1."""

    id: str
    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What an encoder gives for N texts.

    Attributes:
        vectors: float32, (N, D), in the order of the texts.
        num_tokens: int, (N,): the tokens that were read, special tokens included.
        truncated: bool, (N,): whether tokens of the text were left out.
    """

    vectors: NDArray[np.float32]
    num_tokens: NDArray[np.int64]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """Names the space that vectors live in: only vectors of equal spaces may be compared.

    Attributes:
        model: name of the model, for people.
        revision: SHA-256 over the weights and the tokenizer: what the model really is.
        pooling: ``mean``, ``cls``, ``last_token``, ...
        dimensions: D.
        normalised: whether the vectors have length 1.
        max_tokens: longest input, special tokens included.
        query_prompt, document_prompt: text put before each side.
        matryoshka_dimensions: sizes to which a vector may be cut (and renormalised).
    """

    model: str
    revision: str
    pooling: str
    dimensions: int
    normalised: bool
    max_tokens: int
    query_prompt: str = ""
    document_prompt: str = ""
    matryoshka_dimensions: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits; differs as soon as anything that moves a vector differs.

        The model's name is left out: a copy of a folder is the same space.
        """
        facts = {k: v for k, v in asdict(self).items() if k != "model"}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one training step, equal on every rank until ``slice`` is taken.

    Texts are complete: prompts stand in front of them already, and ``*_prompt_characters``
    says how many characters of each text are prompt, so that pooling can leave them out.

    Attributes:
        step: the step this batch belongs to; it is a pure function of (seed, step, manifest).
        source: the one source it was drawn from, or ``""`` when sources are mixed.
        queries, positives: B texts each; row i of one answers row i of the other.
        negatives: B tuples of hard negatives, of any lengths, empty where there are none.
        row_ids: int64, (B,): numbers of the rows in their source; with ``row_sources`` they
            name a row in an error message.
        row_sources: B names; equal to ``source`` throughout when there is one.
        scores: float32, (B,), for losses on graded pairs; None where rows carry no score.
        query_labels, positive_labels: int64, (B,): rows with equal labels mean the same text
            or class and are never each other's negatives; None = every text is its own.
        in_batch_negatives: whether other rows may serve as negatives.
        num_skipped: rows left out because a text of theirs stood in the batch already.
    """

    step: int
    source: str
    queries: Sequence[str]
    positives: Sequence[str]
    negatives: Sequence[tuple[str, ...]]
    row_ids: NDArray[np.int64]
    row_sources: Sequence[str]
    scores: NDArray[np.float32] | None = None
    query_labels: NDArray[np.int64] | None = None
    positive_labels: NDArray[np.int64] | None = None
    query_prompt_characters: int | Sequence[int] = 0
    document_prompt_characters: int | Sequence[int] = 0
    in_batch_negatives: bool = True
    num_skipped: int = 0
    epoch: float = field(default=0.0)

    def __len__(self) -> int:
        return len(self.queries)

    def slice(self, rank: int, world_size: int) -> Batch:
        """The rows of one rank: contiguous blocks that partition the batch in order.

        The first ``B % world_size`` ranks hold one row more.
        """
        size, extra = divmod(len(self), world_size)
        start = rank * size + min(rank, extra)
        part = slice(start, start + size + (rank < extra))

        def cut(values: Any) -> Any:
            return values if values is None or isinstance(values, int) else values[part]

        return replace(
            self,
            queries=cut(self.queries),
            positives=cut(self.positives),
            negatives=cut(self.negatives),
            row_ids=cut(self.row_ids),
            row_sources=cut(self.row_sources),
            scores=cut(self.scores),
            query_labels=cut(self.query_labels),
            positive_labels=cut(self.positive_labels),
            query_prompt_characters=cut(self.query_prompt_characters),
            document_prompt_characters=cut(self.document_prompt_characters),
        )
