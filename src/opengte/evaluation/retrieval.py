"""Queries and a corpus -> nDCG@10 and its companions, for one retriever after another.

``dense`` is exact search by cosine, ``bm25`` the words, ``hybrid`` both by reciprocal rank
fusion: the same code that users search with. The corpus is embedded once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from opengte.errors import ConfigError
from opengte.evaluation.long_documents import best_chunk_search, chunk_documents, tokenizer_of
from opengte.evaluation.measurement import KEPT_ITEMS, Embedder, Measurement, beginning
from opengte.evaluation.results import FoundText, Item
from opengte.evaluation.tasks import RetrievalTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.ranking import evaluate_run, mean_of
from opengte.records import Hit
from opengte.search.bm25 import BM25Index
from opengte.search.fastest import StoredVectors, exact_index
from opengte.search.fusion import reciprocal_rank_fusion

Made = TypeVar("Made")

_SHOWN = 3  # hits of each query that result files keep

RETRIEVERS = ("dense", "bm25", "hybrid")
METRICS = (
    "ndcg@10",
    "ndcg@1",
    "ndcg@5",
    "ndcg@100",
    "mrr@10",
    "mrr",
    "map",
    "recall@1",
    "recall@10",
    "recall@100",
    "precision@10",
    "hit@1",
    "hit@10",
)


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Settings of the retrievers.

    Attributes:
        main_metric: one of ``METRICS``; MTEB and BEIR take ``ndcg@10``.
        depth: documents taken from each retriever; 1,000 as in MTEB.
        fusion_depth: documents that each side brings to ``hybrid``; 100.
        tokenizer: of BM25: ``words``, ``words:LANGUAGE``, ``code`` or ``chinese``.
        chunk_tokens: cut longer documents into pieces of so many tokens; a document then scores
            as its best piece does. None reads the front and cuts the rest, as MTEB does.
        chunk_overlap: tokens that neighbouring pieces share.
    """

    main_metric: str = "ndcg@10"
    depth: int = 1000
    fusion_depth: int = 100
    tokenizer: str = "words"
    chunk_tokens: int | None = None
    chunk_overlap: int = 0

    def __post_init__(self) -> None:
        if self.main_metric not in METRICS:
            raise ConfigError(
                f"main_metric {self.main_metric!r} is not one of {', '.join(METRICS)}"
            )


Rankings = dict[str, list[Hit]]
Ranked = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and corpus rows of one query's hits, best first."""


def measure_retrieval(
    task: RetrievalTask,
    embedder: Embedder | None,
    retrievers: Sequence[str] = ("dense",),
    config: RetrievalConfig = RetrievalConfig(),
    *,
    seed: int = 0,
) -> dict[str, Measurement]:
    """One measurement a retriever; intervals draw query groups where queries have them.

    Raises:
        ConfigError: an unknown retriever, or one that needs an encoder and has none.
    """
    search = CorpusSearch(task, embedder, config)
    search.check(retrievers)
    return {name: score_rankings(task, search.rank(name), config, seed=seed) for name in retrievers}


def score_rankings(
    task: RetrievalTask, rankings: Rankings, config: RetrievalConfig, *, seed: int = 0
) -> Measurement:
    """Metrics of one retriever's rankings.

    Scores decide, and equal ones the document id, by trec_eval's rules; fused scores too.
    """
    run = {query: {hit.id: hit.score for hit in hits} for query, hits in rankings.items()}
    per_query = evaluate_run(task.qrels, run, METRICS)
    main = per_query[config.main_metric]
    groups = {query.id: query.group for query in task.queries}
    clusters = [groups[query] or f"query {query}" for query in main]
    return Measurement(
        main_metric=config.main_metric,
        metrics={name: mean_of(values) for name, values in per_query.items()},
        interval=clustered_interval(list(main.values()), clusters, seed=seed),
        num_items=len(main),
        per_query=per_query,
        items=_items(task, rankings),
    )


def _items(task: RetrievalTask, rankings: Rankings) -> dict[str, Item]:
    """Queries with their first hits and what they missed."""
    texts = {document.id: document.full_text for document in task.corpus}
    items = {}
    for query in task.queries[:KEPT_ITEMS]:
        grades = task.qrels[query.id]
        hits = rankings[query.id][:_SHOWN]
        shown = {hit.id for hit in hits}
        missed = [n for n, grade in grades.items() if grade > 0 and n not in shown][:_SHOWN]
        found = tuple(
            FoundText(hit.id, hit.score, grades.get(hit.id), beginning(texts[hit.id]))
            for hit in hits
        )
        rest = tuple(FoundText(n, 0.0, grades[n], beginning(texts[n])) for n in missed)
        items[query.id] = Item(beginning(query.text), query.group, found, rest)
    return items


class CorpusSearch:
    """Ranks the corpus of a task for its queries, embedding and indexing it once.

    Args:
        task: what to search, and for what.
        embedder: needed by all retrievers but ``bm25``.
        config: depths, tokenizer, pieces.
    """

    def __init__(
        self, task: RetrievalTask, embedder: Embedder | None, config: RetrievalConfig
    ) -> None:
        self._task = task
        self._embedder = embedder
        self._config = config
        self._names = [document.id for document in task.corpus]
        self._held: dict[str, Rankings] = {}
        self._made: dict[str, Any] = {}

    def check(self, retrievers: Sequence[str]) -> None:
        """Refuse retrievers that cannot run here.

        Raises:
            ConfigError: an unknown one, or one that needs an encoder and has none.
        """
        for name in retrievers:
            if name not in RETRIEVERS:
                known = ", ".join(RETRIEVERS)
                raise ConfigError(f"unknown retriever {name!r}; give one of {known}")
            if name != "bm25" and self._embedder is None:
                raise ConfigError(f"retriever {name!r} needs an encoder; only bm25 does without")

    def rank(
        self, retriever: str, candidates: Mapping[str, Collection[str]] | None = None
    ) -> Rankings:
        """The hits of each query, best first.

        Args:
            retriever: ``dense``, ``bm25`` or ``hybrid``.
            candidates: query id to the documents that may be ranked; None takes the task's own.
        """
        if candidates is not None:
            return self._rank(retriever, candidates)
        if retriever not in self._held:
            self._held[retriever] = self._rank(retriever, self._task.candidates)
        return self._held[retriever]

    def _rank(self, retriever: str, candidates: Mapping[str, Collection[str]] | None) -> Rankings:
        if retriever != "hybrid":
            lists = self._dense(candidates) if retriever == "dense" else self._bm25(candidates)
            return self._by_query(lists, candidates)
        own = None if candidates is self._task.candidates else candidates
        sides = [self.rank(side, own) for side in ("dense", "bm25")]
        depth = self._config.fusion_depth
        return {
            query: reciprocal_rank_fusion(
                [side[query][:depth] for side in sides], limit=self._config.depth
            )
            for query in sides[0]
        }

    def _dense(self, candidates: Mapping[str, Collection[str]] | None) -> Iterable[Ranked]:
        queries = self._query_vectors
        if self._config.chunk_tokens is not None:
            chunks, starts = self._chunks
            return best_chunk_search(queries, chunks, starts, self._depth(candidates))
        if candidates is not None:
            return self._dense_candidates(candidates)
        scores, rows = self._index.search(queries, self._depth(None))
        return zip(scores, rows, strict=True)

    def _dense_candidates(self, candidates: Mapping[str, Collection[str]]) -> Iterator[Ranked]:
        positions = {name: row for row, name in enumerate(self._names)}
        for query, vector in zip(self._task.queries, self._query_vectors, strict=True):
            names = candidates.get(query.id, ())
            rows = np.sort(np.array([positions[name] for name in names], dtype=np.int64))
            products = self._index.take(rows).astype(np.float64) @ vector.astype(np.float64)
            scores = products.astype(np.float32)
            order = np.argsort(-scores, kind="stable")
            yield scores[order], rows[order]

    def _bm25(self, candidates: Mapping[str, Collection[str]] | None) -> Iterable[Ranked]:
        texts = [query.text for query in self._task.queries]
        return self._words.search_rows(texts, self._depth(candidates))

    def _depth(self, candidates: Mapping[str, Collection[str]] | None) -> int:
        """Rows to ask for, so that enough are left after those that may not be ranked."""
        if candidates is not None:
            return len(self._names)
        return self._config.depth + self._task.ignore_identical_ids

    def _by_query(
        self, lists: Iterable[Ranked], candidates: Mapping[str, Collection[str]] | None
    ) -> Rankings:
        rankings = {}
        for query, (scores, rows) in zip(self._task.queries, lists, strict=True):
            allowed = None if candidates is None else set(candidates.get(query.id, ()))
            hits: list[Hit] = []
            for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
                name = self._names[row]
                itself = self._task.ignore_identical_ids and name == query.id
                if itself or (allowed is not None and name not in allowed):
                    continue
                hits.append(Hit(name, score, len(hits) + 1))
                if len(hits) == self._config.depth:
                    break
            rankings[query.id] = hits
        return rankings

    @property
    def _model(self) -> Embedder:
        self.check(("dense",))
        assert self._embedder is not None
        return self._embedder

    @property
    def _query_vectors(self) -> NDArray[np.float32]:
        texts = [query.text for query in self._task.queries]
        return self._once("queries", lambda: self._model.embed_unit(texts, "query"))

    @property
    def _index(self) -> StoredVectors:
        texts = [document.full_text for document in self._task.corpus]
        return self._once("index", lambda: exact_index(self._model.embed_unit(texts, "document")))

    @property
    def _chunks(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        return self._once("chunks", self._embed_chunks)

    def _embed_chunks(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert self._config.chunk_tokens is not None
        chunks, starts = chunk_documents(
            [document.full_text for document in self._task.corpus],
            tokenizer_of(self._model.encoder),
            max_tokens=self._config.chunk_tokens,
            overlap_tokens=self._config.chunk_overlap,
        )
        return self._model.embed_unit(chunks, "document"), starts

    @property
    def _words(self) -> BM25Index:
        texts = (document.full_text for document in self._task.corpus)
        return self._once("words", lambda: BM25Index.build(texts, tokenizer=self._config.tokenizer))

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        """Make it on first use.

        ``functools.cached_property`` of Python 3.11 holds one lock for all instances meanwhile: two
        ranks in one process would wait for each other for ever.
        """
        if name not in self._made:
            self._made[name] = make()
        made: Made = self._made[name]
        return made
