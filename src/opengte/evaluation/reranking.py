"""Queries with their candidates -> how well the cosine orders them (MTEB's protocol)."""

from __future__ import annotations

import numpy as np

from opengte.evaluation.measurement import KEPT_ITEMS, Embedder, Measurement, beginning
from opengte.evaluation.results import Item
from opengte.evaluation.tasks import RerankingTask
from opengte.metrics.bootstrap import clustered_interval
from opengte.metrics.ranking import evaluate_run, mean_of

METRICS = ("map", "mrr@10", "ndcg@10", "hit@1")


def measure_reranking(task: RerankingTask, embedder: Embedder, *, seed: int = 0) -> Measurement:
    """Mean average precision (the main one) and its companions.

    Candidates get ids as in MTEB, where irrelevant ones come first in descending order: a tie
    between a relevant and an irrelevant candidate goes against the model.
    """
    queries = embedder.embed_unit(task.queries, "query")
    flat = [text for texts in task.candidates for text in texts]
    documents = embedder.embed_unit(flat, "document")
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    start = 0
    for number, labels in enumerate(task.labels):
        part = documents[start : start + len(labels)]
        start += len(labels)
        scores = np.einsum("nd,d->n", part.astype(np.float64), queries[number].astype(np.float64))
        names = [_candidate_id(number, row, label) for row, label in enumerate(labels)]
        qrels[str(number)] = dict(zip(names, labels, strict=True))
        run[str(number)] = dict(zip(names, scores.tolist(), strict=True))
    per_query = evaluate_run(qrels, run, METRICS)
    return Measurement(
        main_metric="map",
        metrics={name: mean_of(values) for name, values in per_query.items()},
        interval=clustered_interval(list(per_query["map"].values()), seed=seed),
        num_items=len(task.queries),
        per_query=per_query,
        items={
            str(row): Item(beginning(query)) for row, query in enumerate(task.queries[:KEPT_ITEMS])
        },
    )


def _candidate_id(query: int, row: int, label: int) -> str:
    return f"{'apositive' if label > 0 else 'negative'}_{query}_{row:05d}"
