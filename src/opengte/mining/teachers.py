"""A corpus -> rankings of it: BM25, any encoder, a reranker over either, weighted combinations.

A ``Teacher`` is a description; ``open`` makes it ready for one corpus and gives a ``Ranker``.
Axes: Q queries, M rows of the corpus, K ranked rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, Reranker, TextEncoder
from opengte.errors import ConfigError, DataError
from opengte.mining.shards import DEFAULT_SHARD_TEXTS, EmbeddedTexts, IndexFactory
from opengte.search.embedding_shards import check_vectors
from opengte.search.fastest import exact_index

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows of the corpus, best first, with scores that never rise; ties by lower row."""

    rows: Rows
    scores: Scores


class Ranker(Protocol):
    """Ranks one corpus."""

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """The best k rows of each query; fewer where fewer match at all (BM25)."""
        ...

    def score(self, queries: Sequence[str], rows: Sequence[Rows]) -> list[Scores]:
        """The scores of given rows, on the scale of ``rank``."""
        ...


class Teacher(Protocol):
    """Something that can rank a corpus, once it has seen it."""

    @property
    def fingerprint(self) -> str:
        """Differs as soon as some ranking may differ."""
        ...

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> Ranker:
        """Prepare for ``texts``; what costs much is kept below ``folder`` and reused.

        ``rank`` gives rows below ``num_ranked`` (None = all); ``score`` knows every row.
        """
        ...


@dataclass(frozen=True)
class EncoderTeacher:
    """Ranks by the inner product of embeddings, exactly.

    Args:
        encoder: torch, ONNX, an endpoint: any. Vectors that are not normalised give inner
            products, not cosines; score rules then mean those.
        shard_texts: documents held in memory at once.
        index_factory: how the shards are searched.
    """

    encoder: TextEncoder
    shard_texts: int = DEFAULT_SHARD_TEXTS
    index_factory: IndexFactory = exact_index

    @property
    def fingerprint(self) -> str:
        """Names the embedding space."""
        return f"encoder:{self.encoder.space.fingerprint}"

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> Ranker:
        """Embed ``texts``, or find them embedded."""
        embedded = EmbeddedTexts(
            folder,
            self.encoder,
            texts,
            shard_texts=self.shard_texts,
            index_factory=self.index_factory,
        )
        embedded.build(progress=progress)
        return EncoderRanker(self.encoder, embedded, num_ranked=num_ranked)


class EncoderRanker:
    """The ranker of ``EncoderTeacher``."""

    def __init__(
        self, encoder: TextEncoder, embedded: EmbeddedTexts, *, num_ranked: int | None = None
    ) -> None:
        self._encoder = encoder
        self._embedded = embedded
        self._num_ranked = num_ranked
        self._last: tuple[tuple[str, ...], Scores] | None = None

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """See ``Ranker``."""
        scores, rows = self._embedded.search(self._embed(queries), k, num_rows=self._num_ranked)
        return [Ranking(rows=r, scores=s) for r, s in zip(rows, scores, strict=True)]

    def score(self, queries: Sequence[str], rows: Sequence[Rows]) -> list[Scores]:
        """See ``Ranker``."""
        return self._embedded.score(self._embed(queries), rows)

    def _embed(self, queries: Sequence[str]) -> Scores:
        # `score` follows `rank` with the same queries: embed them once.
        if self._last is None or self._last[0] != tuple(queries):
            vectors = self._encoder.encode(queries, kind="query")
            check_vectors(vectors, len(queries), self._embedded.dimensions, what="the queries")
            self._last = (tuple(queries), vectors)
        return self._last[1]


@dataclass(frozen=True)
class RerankingTeacher:
    """Reorders the best of another teacher by a cross-encoder.

    Args:
        first: who ranks the whole corpus; None for a judge that only scores given rows.
        reranker: who reads query and document together.
        name: tells one reranker from another in fingerprints; change it with the weights.
        depth: candidates that are read for each query.
    """

    first: Teacher | None
    reranker: Reranker
    name: str
    depth: int = 100

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ConfigError(f"depth must be >= 1, got {self.depth}")

    @property
    def fingerprint(self) -> str:
        """Names the first teacher, the reranker and how deep it reads."""
        first = "" if self.first is None else self.first.fingerprint
        return f"rerank:{self.name}:{self.depth}({first})"

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> Ranker:
        """Prepare the first teacher, where there is one."""
        ranker = None
        if self.first is not None:
            ranker = self.first.open(texts, folder=folder, num_ranked=num_ranked, progress=progress)
        return RerankingRanker(self, ranker, texts)


class RerankingRanker:
    """The ranker of ``RerankingTeacher``."""

    def __init__(
        self, teacher: RerankingTeacher, first: Ranker | None, texts: Sequence[str]
    ) -> None:
        self._teacher = teacher
        self._first = first
        self._texts = texts

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """The first teacher's best ``depth``, reordered, the best k of them."""
        if self._first is None:
            name = self._teacher.name
            raise ConfigError(f"reranker {name!r} cannot rank a corpus without a first teacher")
        depth = self._teacher.depth
        found = [ranking.rows for ranking in self._first.rank(queries, depth)]
        scores = self.score(queries, found)
        return [best_first(r, s, k) for r, s in zip(found, scores, strict=True)]

    def score(self, queries: Sequence[str], rows: Sequence[Rows]) -> list[Scores]:
        """See ``Ranker``."""
        return [self._score(query, own) for query, own in zip(queries, rows, strict=True)]

    def _score(self, query: str, rows: Rows) -> Scores:
        if len(rows) == 0:
            return np.empty(0, dtype=np.float32)
        scores = self._teacher.reranker.score(query, [self._texts[row] for row in rows.tolist()])
        if scores.shape != rows.shape or not np.isfinite(scores).all():
            raise DataError(
                f"the reranker gave scores of shape {scores.shape} for {len(rows)} documents, "
                "expected one finite score each"
            )
        return np.asarray(scores, dtype=np.float32)


@dataclass(frozen=True)
class WeightedTeacher:
    """Adds up the scores of several teachers.

    Each teacher proposes its best; every proposal is scored by all of them, exactly.

    Args:
        teachers: two or more.
        weights: one for each, > 0.
        scale: ``best`` divides each teacher's scores by its best score for the query, so that
            BM25 and cosine add up on one scale (1 = that teacher's best hit); ``raw`` adds
            them as they are.
    """

    teachers: tuple[Teacher, ...]
    weights: tuple[float, ...]
    scale: Literal["best", "raw"] = "best"

    def __post_init__(self) -> None:
        if len(self.teachers) != len(self.weights) or not self.teachers:
            raise ConfigError(
                f"every teacher needs one weight, got {len(self.teachers)} teachers and "
                f"{len(self.weights)} weights"
            )
        if min(self.weights) <= 0:
            raise ConfigError(f"weights of teachers must be > 0, got {self.weights}")

    @property
    def fingerprint(self) -> str:
        """Names the teachers, their weights and the scale."""
        parts = [
            f"{weight}*{teacher.fingerprint}"
            for teacher, weight in zip(self.teachers, self.weights, strict=True)
        ]
        return f"{self.scale}({'+'.join(parts)})"

    def open(
        self,
        texts: Sequence[str],
        *,
        folder: Path,
        num_ranked: int | None = None,
        progress: Progress | None = None,
    ) -> Ranker:
        """Prepare every teacher."""
        rankers = [
            teacher.open(texts, folder=folder, num_ranked=num_ranked, progress=progress)
            for teacher in self.teachers
        ]
        return WeightedRanker(rankers, self.weights, self.scale)


class WeightedRanker:
    """The ranker of ``WeightedTeacher``."""

    def __init__(self, rankers: Sequence[Ranker], weights: Sequence[float], scale: str) -> None:
        self._rankers = rankers
        self._weights = weights
        self._scale = scale
        self._units: tuple[tuple[str, ...], list[Scores]] | None = None

    def rank(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """The best k among all rows that some teacher ranks in its own best k."""
        proposals = [ranker.rank(queries, k) for ranker in self._rankers]
        self._units = (tuple(queries), [self._unit(of_teacher) for of_teacher in proposals])
        rows = [
            np.unique(np.concatenate([ranking.rows for ranking in of_query]))
            for of_query in zip(*proposals, strict=True)
        ]
        scores = self.score(queries, rows)
        return [best_first(r, s, k) for r, s in zip(rows, scores, strict=True)]

    def score(self, queries: Sequence[str], rows: Sequence[Rows]) -> list[Scores]:
        """See ``Ranker``."""
        if self._units is None or self._units[0] != tuple(queries):
            tops = [self._unit(ranker.rank(queries, 1)) for ranker in self._rankers]
            self._units = (tuple(queries), tops)
        total = [np.zeros(len(own), dtype=np.float32) for own in rows]
        for ranker, weight, units in zip(self._rankers, self._weights, self._units[1], strict=True):
            parts = ranker.score(queries, rows)
            for sum_, part, unit in zip(total, parts, units, strict=True):
                sum_ += np.float32(weight) * part / unit
        return total

    def _unit(self, rankings: Sequence[Ranking]) -> Scores:
        """What one teacher's scores are divided by, for each query."""
        units = np.ones(len(rankings), dtype=np.float32)
        if self._scale == "best":
            for number, ranking in enumerate(rankings):
                # No hit, or a best score that is not positive: nothing to scale by.
                if len(ranking.scores) and ranking.scores[0] > 0:
                    units[number] = ranking.scores[0]
        return units


def best_first(rows: Rows, scores: Scores, k: int) -> Ranking:
    """The best k of unordered rows; ties by lower row."""
    order = np.lexsort((rows, -scores))[:k]
    return Ranking(rows=rows[order], scores=scores[order])
