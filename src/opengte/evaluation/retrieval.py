"""Queries and a corpus -> nDCG@10 and its companions, for one retriever after another.

``dense`` is exact search by cosine, ``bm25`` the words, ``hybrid`` both by reciprocal rank
fusion: the same code that users search with. The corpus is embedded once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opengte.errors import ConfigError
from opengte.evaluation.measurement import Embedder, Measurement
from opengte.evaluation.tasks import RetrievalTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.ranking import evaluate_run, mean_of
from opengte.records import Hit
from opengte.search.bm25 import BM25Index
from opengte.search.exact import ExactIndex
from opengte.search.fusion import reciprocal_rank_fusion

RETRIEVERS = ("dense", "bm25", "hybrid")
METRICS = (
    "ndcg@10",
    "ndcg@1",
    "ndcg@5",
    "ndcg@100",
    "mrr@10",
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
    """

    main_metric: str = "ndcg@10"
    depth: int = 1000
    fusion_depth: int = 100
    tokenizer: str = "words"

    def __post_init__(self) -> None:
        if self.main_metric not in METRICS:
            raise ConfigError(
                f"main_metric {self.main_metric!r} is not one of {', '.join(METRICS)}"
            )


Rankings = dict[str, list[Hit]]


def measure_retrieval(
    task: RetrievalTask,
    embedder: Embedder | None,
    retrievers: Sequence[str] = ("dense",),
    config: RetrievalConfig = RetrievalConfig(),
    *,
    seed: int = 0,
) -> dict[str, Measurement]:
    """One measurement a retriever; intervals draw query groups where queries have them."""
    rankings = rank_corpus(task, embedder, retrievers, config)
    return {name: score_rankings(task, rankings[name], config, seed=seed) for name in retrievers}


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
    )


def rank_corpus(
    task: RetrievalTask,
    embedder: Embedder | None,
    retrievers: Sequence[str],
    config: RetrievalConfig = RetrievalConfig(),
) -> dict[str, Rankings]:
    """For each retriever the hits of each query, best first.

    Raises:
        ConfigError: an unknown retriever, or one that needs an encoder and has none.
    """
    _check(retrievers, embedder)
    found: dict[str, Rankings] = {}
    if embedder is not None and {"dense", "hybrid"} & set(retrievers):
        found["dense"] = _dense(task, embedder, config.depth)
    if {"bm25", "hybrid"} & set(retrievers):
        found["bm25"] = _bm25(task, config)
    if "hybrid" in retrievers:
        depth = config.fusion_depth
        found["hybrid"] = {
            query: reciprocal_rank_fusion(
                [found[side][query][:depth] for side in ("dense", "bm25")], limit=config.depth
            )
            for query in found["dense"]
        }
    return {name: found[name] for name in retrievers}


def _dense(task: RetrievalTask, embedder: Embedder, depth: int) -> Rankings:
    corpus = embedder.embed_unit([document.full_text for document in task.corpus], "document")
    queries = embedder.embed_unit([query.text for query in task.queries], "query")
    scores, rows = ExactIndex(corpus).search(queries, depth + task.ignore_identical_ids)
    hits = (
        [
            Hit(task.corpus[row].id, score, rank)
            for rank, (score, row) in enumerate(zip(*line, strict=True), start=1)
        ]
        for line in zip(scores.tolist(), rows.tolist(), strict=True)
    )
    return _by_query(task, hits, depth)


def _bm25(task: RetrievalTask, config: RetrievalConfig) -> Rankings:
    index = BM25Index.build(
        (document.full_text for document in task.corpus),
        ids=[document.id for document in task.corpus],
        tokenizer=config.tokenizer,
    )
    texts = [query.text for query in task.queries]
    hits = index.search(texts, config.depth + task.ignore_identical_ids)
    return _by_query(task, hits, config.depth)


def _by_query(task: RetrievalTask, lists: Iterable[list[Hit]], depth: int) -> Rankings:
    rankings = {}
    for query, hits in zip(task.queries, lists, strict=True):
        kept = [hit for hit in hits if not (task.ignore_identical_ids and hit.id == query.id)]
        rankings[query.id] = kept[:depth]
    return rankings


def _check(retrievers: Sequence[str], embedder: Embedder | None) -> None:
    for name in retrievers:
        if name not in RETRIEVERS:
            raise ConfigError(f"unknown retriever {name!r}; give one of {', '.join(RETRIEVERS)}")
        if name != "bm25" and embedder is None:
            raise ConfigError(f"retriever {name!r} needs an encoder; only bm25 does without")
