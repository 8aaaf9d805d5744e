"""An encoder and a held-out set -> rankings, metrics a query, slices with intervals.

Every retriever ranks the same pool; the name-masked slice asks the same queries with the answers'
names masked and all other documents as they are, which only makes it harder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opengte.contracts import Progress, TextEncoder
from opengte.data.readers.beir import read_beir
from opengte.evaluation.embedding_cache import EmbeddingCache
from opengte.evaluation.measurement import Embedder, unit
from opengte.evaluation.retrieval import CorpusSearch, RetrievalConfig
from opengte.evaluation.tasks import RetrievalTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.ranking import evaluate_run
from opengte.records import Document, Hit, Query

METRICS = ("mrr@10", "ndcg@10", "recall@10")
DEPTH = 100
SEARCH = RetrievalConfig(depth=DEPTH, fusion_depth=DEPTH, tokenizer="code")
PerQuery = dict[str, dict[str, float]]


@dataclass(frozen=True)
class HeldOutSet:
    """A BEIR folder with the slices that the corpus stage writes beside it."""

    name: str
    queries: tuple[Query, ...]
    documents: tuple[Document, ...]
    qrels: Mapping[str, Mapping[str, int]]
    groups: Mapping[str, str]
    slices: Mapping[str, Sequence[str]]
    masked: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, split: str) -> HeldOutSet:
        """Read ``folder``; a plain BEIR folder has the one slice ``all``."""
        beir = read_beir(folder, split)
        groups = {query.id: query.group or query.id for query in beir.judged_queries}
        slices: dict[str, Any] = {"all": list(groups)}
        masked: dict[str, str] = {}
        if (folder / "slices.json").exists():
            slices = json.loads((folder / "slices.json").read_text(encoding="utf-8"))["slices"]
            for line in (folder / "masked.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                masked[row["_id"]] = row["text"]
        return cls(
            folder.name,
            tuple(beir.judged_queries),
            tuple(beir.corpus),
            beir.qrels,
            groups,
            slices,
            masked,
        )

    def as_task(self) -> RetrievalTask:
        """The same set as the evaluation room knows it."""
        return RetrievalTask(
            name=self.name, corpus=self.documents, queries=self.queries, qrels=self.qrels
        )


@dataclass(frozen=True)
class Measured:
    """What one model did on one held-out set.

    Attributes:
        rankings: retriever -> query id -> hits, best first.
        per_query: retriever -> metric -> query id -> value; ``name_masked`` is one of them.
        similarities: cosines of queries with their answers, and with documents drawn at random.
        num_tokens, num_truncated, num_texts: read for it.
    """

    rankings: dict[str, dict[str, list[Hit]]]
    per_query: dict[str, PerQuery]
    similarities: dict[str, list[float]]
    num_tokens: int
    num_truncated: int
    num_texts: int


def measure(
    held_out: HeldOutSet,
    encoder: TextEncoder,
    *,
    retrievers: Sequence[str] = ("dense",),
    with_masked: bool = True,
    progress: Progress | None = None,
) -> Measured:
    """Rank the pool for every query with each of ``retrievers``."""
    cache = EmbeddingCache()
    embedder = Embedder(encoder=encoder, cache=cache, progress=progress)
    search = CorpusSearch(held_out.as_task(), embedder, SEARCH)
    rankings = {
        name: search.rank(name)
        for name in ("bm25", "dense", "hybrid")
        if name == "dense" or name in retrievers or (name == "bm25" and "hybrid" in retrievers)
    }
    texts = [document.full_text for document in held_out.documents]
    documents = cache.embed(encoder, texts, kind="document")
    queries = cache.embed(encoder, [query.text for query in held_out.queries], kind="query")
    per_query = {name: score_ranking(held_out.qrels, found) for name, found in rankings.items()}
    if with_masked and held_out.masked:
        masked = _rank_masked(held_out, embedder, unit(queries.vectors), rankings["dense"])
        per_query["name_masked"] = score_ranking(held_out.qrels, masked)
    return Measured(
        rankings=rankings,
        per_query=per_query,
        similarities=_similarities(held_out, unit(queries.vectors), unit(documents.vectors)),
        num_tokens=int(documents.num_tokens.sum() + queries.num_tokens.sum()),
        num_truncated=int(documents.truncated.sum() + queries.truncated.sum()),
        num_texts=len(documents.vectors) + len(queries.vectors),
    )


def score_ranking(
    qrels: Mapping[str, Mapping[str, int]], rankings: Mapping[str, Sequence[Hit]]
) -> PerQuery:
    """Metric -> query id -> value; equal scores count in the order of the ranking."""
    run = {query: {hit.id: float(-hit.rank) for hit in hits} for query, hits in rankings.items()}
    return evaluate_run(qrels, run, METRICS)


def summarise(
    per_query: PerQuery, queries: Sequence[str], groups: Mapping[str, str]
) -> dict[str, Any]:
    """Means over ``queries``, with the 95 % interval of MRR@10 over their groups."""
    if not queries:
        return {**dict.fromkeys(METRICS), "ci95": None, "num_queries": 0}
    values = {metric: [per_query[metric][query] for query in queries] for metric in METRICS}
    interval = clustered_interval(values["mrr@10"], [groups[query] for query in queries])
    return {
        **{metric: round(float(np.mean(values[metric])), 4) for metric in METRICS},
        "ci95": [round(interval.low, 4), round(interval.high, 4)],
        "num_queries": len(queries),
    }


def _rank_masked(
    held_out: HeldOutSet,
    embedder: Embedder,
    queries: NDArray[np.float32],
    dense: Mapping[str, list[Hit]],
) -> dict[str, list[Hit]]:
    """The dense rankings with each query's own answers scored by their masked text."""
    masked_ids = list(held_out.masked)
    vectors = embedder.embed_unit([held_out.masked[i] for i in masked_ids], "document")
    position = {document: n for n, document in enumerate(masked_ids)}
    rankings = {}
    for vector, query in zip(queries, held_out.queries, strict=True):
        answers = [doc for doc in held_out.qrels[query.id] if doc in position]
        scores = {hit.id: hit.score for hit in dense[query.id]}
        scores.update({doc: float(vectors[position[doc]] @ vector) for doc in answers})
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        rankings[query.id] = [Hit(doc, s, r) for r, (doc, s) in enumerate(ranked, start=1)]
    return rankings


def _similarities(
    held_out: HeldOutSet, queries: NDArray[np.float32], documents: NDArray[np.float32]
) -> dict[str, list[float]]:
    row = {document.id: n for n, document in enumerate(held_out.documents)}
    answers = [row[next(iter(held_out.qrels[query.id]))] for query in held_out.queries]
    drawn = np.random.default_rng(0).integers(0, len(documents), size=len(queries))
    return {
        "positive": np.sum(queries * documents[answers], axis=1).tolist(),
        "random": np.sum(queries * documents[drawn], axis=1).tolist(),
    }
